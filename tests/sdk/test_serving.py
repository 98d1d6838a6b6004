"""Deploying in a few lines: what rows may look like, and what is asked of the platform."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from modelops.contracts.errors import DeploymentError, InvalidInput, NotFound
from modelops.domains.serving.schemas import DeploymentState
from modelops.sdk.serving import ModelDeployment, deploy_model, instances_of, rollback_deployment

FRAME = pd.DataFrame({"a": [1, 2], "b": [0.5, math.nan], "c": ["x", None]})


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (FRAME[["a", "b"]], [{"a": 1, "b": 0.5}, {"a": 2, "b": None}]),
        (FRAME[["c"]], [{"c": "x"}, {"c": None}]),
        (FRAME.convert_dtypes(), [{"a": 1, "b": 0.5, "c": "x"}, {"a": 2, "b": None, "c": None}]),
        (pa.table({"a": [1, None]}), [{"a": 1}, {"a": None}]),
        (np.array([[1.0, np.nan], [3.0, 4.0]]), [[1.0, None], [3.0, 4.0]]),
        (np.array([1.0, 2.0]), [[1.0, 2.0]]),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        ([1, "x", None], [[1, "x", None]]),
        ((1, 2), [[1, 2]]),
        ([(1, 2)], [[1, 2]]),
        ([np.array([1, 2])], [[1, 2]]),
        ([[np.int64(1), np.float32(0.5), np.bool_(True)]], [[1, 0.5, True]]),
        ({"a": 1}, [{"a": 1}]),
        ([{"a": np.int64(1)}], [{"a": 1}]),
        ((row for row in [[1], [2]]), [[1], [2]]),
        ([], []),
    ],
)
def test_rows(rows, expected):
    found = instances_of(rows)
    assert found == expected
    plain = [value for row in found for value in (row.values() if isinstance(row, dict) else row)]
    assert {type(value) for value in plain} <= {int, float, str, bool, type(None)}


@pytest.mark.parametrize("rows", ["text", b"bytes", 1.5, None])
def test_what_is_no_table(rows):
    with pytest.raises(InvalidInput, match="no table"):
        instances_of(rows)


def test_infinity_is_no_json():
    with pytest.raises(InvalidInput, match="infinite"):
        instances_of([[math.inf]])


class Recorder:
    """Takes the place of a client's `serving`, and notes what it was asked."""

    def __init__(self, *, exists, settles=DeploymentState.READY, model=True):
        self.exists, self.settles, self.model, self.asked = exists, settles, model, []

    def __getattr__(self, name):
        def ask(*arguments, **options):
            given = {key: value for key, value in options.items() if value is not None}
            self.asked.append((name, arguments, given))
            missing = not self.exists and name in ("update_deployment", "get_deployment")
            if missing or (not self.model and "deployment" in name and name != "get_deployment"):
                raise NotFound("There is none.")
            return SimpleNamespace(name=arguments[0], state=self.settles, reason="So it is.")

        return ask


def client(**options):
    return SimpleNamespace(serving=Recorder(**options))


def test_a_new_deployment():
    connection = client(exists=False)
    deploy_model("m@champion", "d", client=connection)
    assert [name for name, _, _ in connection.serving.asked] == [
        "update_deployment",
        "get_deployment",
        "create_deployment",
        "wait_until_settled",
    ]
    assert connection.serving.asked[2] == ("create_deployment", ("d", "m@champion"), {"replicas": 1})


def test_an_existing_one_is_changed():
    connection = client(exists=True)
    deploy_model("m:2", "d", replicas=3, wait=False, client=connection)
    assert connection.serving.asked == [("update_deployment", ("d",), {"model": "m:2", "replicas": 3})]


def test_a_model_that_is_not_there():
    with pytest.raises(NotFound):
        deploy_model("m:2", "d", client=client(exists=True, model=False))


@pytest.mark.parametrize("state", [DeploymentState.FAILED, DeploymentState.ROLLED_BACK])
def test_what_does_not_become_ready_is_an_error(state):
    connection = client(exists=True, settles=state)
    with pytest.raises(DeploymentError, match=rf"'d' is {state}. So it is."):
        deploy_model("m:2", "d", client=connection)
    with pytest.raises(DeploymentError):
        rollback_deployment("d", client=connection)
    assert connection.serving.asked[-2][0] == "rollback_deployment"


def test_the_rest_is_passed_on():
    connection = client(exists=True)
    with ModelDeployment("d", connection) as deployment:
        deployment.predict(FRAME[["a"]])
        deployment.explain([1])
        deployment.scale(2)
        deployment.delete()
    assert connection.serving.asked == [
        ("predict", ("d", [{"a": 1}, {"a": 2}]), {}),
        ("explain", ("d", [[1]]), {}),
        ("update_deployment", ("d",), {"replicas": 2}),
        ("wait_until_settled", ("d", 300.0), {}),
        ("delete_deployment", ("d",), {}),
        ("wait_until_gone", ("d", 120.0), {}),
    ]

"""A long explanation on a real replica: predictions come in between, and nobody waits for it longer than they want."""

import threading

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.neighbors import KNeighborsClassifier

from modelops.domains.models.flavours.sklearn import flavour
from modelops.domains.models.signatures import infer_signature
from modelops.domains.serving.schemas import Explanations

X, y = load_breast_cancer(return_X_y=True)
ROW = {"instances": X[:1].tolist()}


@pytest.fixture(scope="module")
def replica(module_bench):
    model = KNeighborsClassifier().fit(X, y)
    columns = [f"x{index}" for index in range(X.shape[1])]
    files = module_bench.package(flavour, model, sample={"columns": columns, "rows": X[::8].tolist()})
    return module_bench.serve(module_bench.document(files, infer_signature(X)))


def explained(replica, **members):
    answer = replica.client.post("/explain", json={**ROW, **members})
    assert answer.status_code == 200, answer.text
    return Explanations.model_validate_json(answer.content)


def test_predictions_are_answered_while_an_explanation_runs(replica):
    found = []
    thread = threading.Thread(target=lambda: found.append(explained(replica, max_evaluations=2**18)))
    thread.start()
    answered = 0
    while thread.is_alive():
        assert replica.client.post("/predict", json=ROW).status_code == 200
        answered += 1
    thread.join()

    assert answered > 20
    (answer,) = found
    assert answer.method == "permutation"
    assert np.sum(answer.attributions[0][1]) + answer.base_values[1] == pytest.approx(
        replica.client.post("/predict", json=ROW).json()["probabilities"][0][1]
    )
    rough = explained(replica, max_evaluations=2_000)
    assert np.mean(rough.standard_errors) > np.mean(answer.standard_errors) > 0


def test_an_explanation_ends_with_its_caller_s_time(replica):
    answer = replica.client.post(
        "/explain", json={**ROW, "max_evaluations": 2**20}, headers={"x-request-timeout-ms": "50"}
    )

    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    assert "explanation" in answer.json()["detail"]


@pytest.mark.parametrize("members", [{"method": "tree"}, {"method": "gradient"}, {"max_evaluations": 3}, {"depth": 1}])
def test_what_does_not_fit_is_refused(replica, members):
    answer = replica.client.post("/explain", json={**ROW, **members})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert answer.json()["hint"]


def test_an_explanation_does_not_keep_a_replica_from_ending(module_bench, replica):
    """Last: it ends the replica."""
    thread = threading.Thread(target=lambda: replica.client.post("/explain", json={**ROW, "max_evaluations": 2**20}))
    thread.start()
    assert replica.client.post("/predict", json=ROW).status_code == 200

    assert replica.terminate() == 0
    thread.join()

"""The toolkit as one thing: started, healthy, stopped; debug mode; lazy names."""

import io
import subprocess
import sys

import pytest

import modelops
from modelops import MLOpsConfig, MLOpsError, create_mlops_stack, disable_debug_mode, enable_debug_mode
from modelops.contracts.errors import Unauthenticated, Unavailable


def test_a_stack_lives_from_start_to_stop(tmp_path):
    stack = create_mlops_stack(MLOpsConfig(home=tmp_path / "home", experiment="trials"))
    assert stack.health_check().healthy is False
    with pytest.raises(Unavailable, match="not started"):
        _ = stack.client
    stack.stop()
    with stack:
        stack.start()
        assert stack.client.identity.get_me().name == "admin"
        with stack.tracker.start_experiment() as run:
            run.log_metric("loss", 0.5)
        assert stack.client.experiments.get_run(run.id).metrics == {"loss": 0.5}
        assert stack.registry.client is stack.client
    with pytest.raises(Unavailable):
        _ = stack.client


def test_a_stack_that_cannot_sign_in_says_so_and_holds_nothing(sqlite_platform, tmp_path):
    config = MLOpsConfig(home=tmp_path / "home", token="mops_wrong")
    stack = create_mlops_stack(config)
    with pytest.raises(Unauthenticated, match="unknown"):
        stack.start()
    assert stack.health_check().healthy is False


def test_debug_mode_shows_each_request_once(sqlite_platform):
    out = io.StringIO()
    enable_debug_mode(stream=out)
    enable_debug_mode(stream=out)
    try:
        sqlite_platform.client().identity.get_me()
    finally:
        disable_debug_mode()
    lines = [line for line in out.getvalue().splitlines() if "GET /v1/me: 200" in line]
    assert len(lines) == 1
    sqlite_platform.client().identity.get_me()
    assert len([line for line in out.getvalue().splitlines() if "GET /v1/me" in line]) == 1


@pytest.mark.parametrize("name", modelops.__all__)
def test_every_public_name_loads_and_is_documented(name):
    assert getattr(modelops, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        _ = modelops.Nope
    assert set(modelops.__all__) <= set(dir(modelops))


def test_importing_the_package_loads_none_of_it():
    script = "import sys, modelops; print(sorted(m for m in sys.modules if m.startswith(('modelops.', 'pydantic', 'httpx'))))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_keep_their_class_over_the_wire(sqlite_platform):
    with pytest.raises(MLOpsError) as raised:
        sqlite_platform.client().models.get_model("nope")
    assert type(raised.value).__name__ == "NotFound"
    assert raised.value.request_id
    assert raised.value.hint

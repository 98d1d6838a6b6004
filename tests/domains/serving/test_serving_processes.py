"""Deployments on real processes: real models, the real runtime, the local deployer, HTTP all the way."""

import os
import signal
import threading
import time
from contextlib import ExitStack, contextmanager

import numpy as np
import psutil
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from modelops.adapters.local.deployer import LocalDeployer
from modelops.contracts.clock import SystemClock
from modelops.contracts.errors import InvalidInput, NotFound
from modelops.contracts.ports import Deployer
from modelops.domains.serving.schemas import DeploymentState
from modelops.sdk.serving import ModelDeployment, deploy_model
from modelops.server.listener import Listener
from modelops.testing.platform import running_platform
from modelops.testing.waiting import wait_for

pytestmark = pytest.mark.slow

FRAME, SPECIES = load_iris(return_X_y=True, as_frame=True)
ROWS = FRAME.iloc[::30]


class Bad(LogisticRegression):
    """A model that no runtime can load."""

    def __reduce__(self):
        return (_raise, ())


def _raise():
    raise RuntimeError("this model is broken")


@contextmanager
def listening(home, **settings):
    """A platform with its controller, which runtimes can call."""
    with ExitStack() as stack:
        platform = stack.enter_context(running_platform(home, **settings))
        listener = Listener(platform.platform, remembered=home / "port")
        platform.platform.url.listen = listener.start
        stack.callback(listener.stop)
        platform.platform.start_controller()
        yield platform


@contextmanager
def swept(home):
    """End what a failed test left running."""
    try:
        yield
    finally:
        with LocalDeployer(home / "deployments", SystemClock()) as deployer:
            for name in deployer.names():
                wait_for(lambda name=name: deployer.remove(name, grace_s=0.0))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving") / "home"
    with swept(folder):
        yield folder


@pytest.fixture(scope="module")
def platform(home):
    with listening(home) as found:
        yield found


@pytest.fixture(scope="module")
def models(platform, publish):
    """Two versions of a model, fitted on the iris data."""
    fitted = [
        LogisticRegression(max_iter=1000).fit(FRAME, SPECIES),
        RandomForestClassifier(20, random_state=0).fit(FRAME, SPECIES),
    ]
    for model in fitted:
        publish(platform.client(), "iris", model, FRAME)
    return fitted


@pytest.fixture(scope="module")
def iris(platform, models):
    """A deployment of the first version."""
    return deploy_model("iris:1", "iris", client=platform.client())


def runtime_pids(deployment):
    return {replica.pid for replica in deployment.replica_status}


def test_predictions_are_the_models_own(iris, models):
    found = iris.predict(ROWS)
    assert found.predictions == models[0].predict(ROWS).tolist()
    np.testing.assert_allclose(found.probabilities, models[0].predict_proba(ROWS), rtol=1e-12)
    assert (found.classes, found.model, found.version, found.revision) == ([0, 1, 2], "iris", 1, 1)
    assert iris.predict(ROWS.to_numpy()).predictions == found.predictions
    assert iris.predict(ROWS.iloc[0].to_dict()).predictions == found.predictions[:1]


def test_what_does_not_fit_is_refused_by_the_runtime(iris, platform):
    with pytest.raises(InvalidInput):
        iris.predict([[1.0, 2.0]])
    http = platform.http(authorization=f"Bearer {platform.admin_key}")
    for body in (b'{"instances": [], "x": 1}', b'{"instances": [[1,2,3,4]], "unknown": 1}', b"{", b"[1]", b""):
        answer = http.post("/v1/deployments/iris/predict", content=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input"), body
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_the_log_of_a_replica(iris):
    log = iris.client.serving.get_replica_log("iris", 0)
    assert "listening on" in log.text
    rest = iris.client.serving.get_replica_log("iris", 0, offset=log.next_offset)
    assert (rest.text, rest.complete) == ("", False)


def test_a_runtime_that_was_killed_comes_back(iris):
    before = iris.status
    assert before.state is DeploymentState.READY
    (pid,) = runtime_pids(before)
    os.kill(pid, signal.SIGKILL)
    after = wait_for(
        lambda: (now := iris.status).state is DeploymentState.READY and pid not in runtime_pids(now) and now
    )
    assert after.replica_status[0].restarts == 1
    assert len(iris.predict(ROWS).predictions) == len(ROWS)


def test_a_bad_version_is_rolled_back(platform, iris, models, publish):
    publish(platform.client(), "bad", Bad(max_iter=1000).fit(FRAME, SPECIES), FRAME)
    serving = iris.client.serving
    serving.update_deployment("iris", model="bad:1")
    settled = serving.wait_until_settled("iris")
    assert (settled.state, settled.model) == (DeploymentState.ROLLED_BACK, "iris")
    assert "this model is broken" in settled.reason
    assert iris.predict(ROWS).version == 1
    failed = serving.list_revisions("iris", limit=1).items[0]
    assert (failed.state, failed.model) == ("failed", "bad")
    assert "RuntimeError" in serving.get_replica_log("iris", 0, revision=failed.number).text


def test_updates_lose_no_request(platform, iris, models):
    """Steady requests over a new version, more replicas, fewer replicas, and the way back."""
    stop, answers = threading.Event(), []
    body = {"instances": ROWS.to_numpy().tolist()}

    def ask():
        with platform.http(authorization=f"Bearer {platform.admin_key}") as http:
            while not stop.is_set():
                answer = http.post("/v1/deployments/iris/predict", json=body)
                answers.append((answer.status_code, answer.json().get("version"), answer.text))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        iris.deploy("iris:2", replicas=2)
        iris.scale(1)
        iris.rollback()
        wait_for(lambda: {replica.serving for replica in iris.status.replica_status} == {iris.status.active_revision})
        time.sleep(0.5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {answer for answer in answers if answer[0] != 200} == set()
    assert len(answers) > 50
    assert {version for _, version, _ in answers} == {1, 2}
    assert iris.status.model_version == 1


def test_a_model_is_explained(iris, models):
    iris.deploy("iris:2")
    found = iris.explain(ROWS)
    totals = np.asarray(found.base_values) + np.asarray(found.attributions).sum(axis=2)
    np.testing.assert_allclose(totals, models[1].predict_proba(ROWS), atol=1e-6)
    assert found.feature_names == list(FRAME.columns)


def test_deleting_ends_the_processes(platform, models):
    with deploy_model("iris:1", "short-lived", replicas=2, client=platform.client()) as deployment:
        processes = [psutil.Process(pid) for pid in runtime_pids(deployment.status)]
        deployment.delete()
        assert len(processes) == 2
        assert not any(process.is_running() for process in processes)
        with pytest.raises(NotFound):
            deployment.predict(ROWS)


def test_runtimes_serve_on_while_the_platform_is_away_and_are_adopted(tmp_path, publish):
    home = tmp_path / "home"
    model = LogisticRegression(max_iter=1000).fit(FRAME, SPECIES)
    with swept(home):
        with listening(home) as first:
            key = first.admin_key
            publish(first.client(), "iris", model, FRAME)
            before = deploy_model("iris", "d", client=first.client()).status
        assert psutil.Process(*runtime_pids(before)).is_running()
        with listening(home) as second:
            again = ModelDeployment("d", second.client(key))
            wait_for(lambda: again.status.state is DeploymentState.READY)
            assert again.predict(ROWS).predictions == model.predict(ROWS).tolist()
            time.sleep(1.0)
            after = again.status
            assert runtime_pids(after) == runtime_pids(before)
            assert second.place.ports[Deployer].names() == [f"{after.id}-r1"]
            again.delete()

"""Rollouts on real processes: real models under steady requests, the real runtime, telemetry all the way."""

import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager

import pytest
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from modelops.adapters.local.deployer import LocalDeployer
from modelops.contracts.clock import SystemClock
from modelops.domains.serving.courses.courses import Outcome, RolloutState
from modelops.domains.serving.errors import IncompatibleVariant
from modelops.domains.serving.schemas import DeploymentState
from modelops.sdk.registry import ModelRegistry
from modelops.sdk.serving import (
    AllAtOnce,
    Analysis,
    BlueGreen,
    Canary,
    CanaryStep,
    ErrorRate,
    Latency,
    ModelServing,
    PredictionShift,
    Rolling,
    deploy_model,
    traffic_of,
)
from modelops.server.listener import Listener
from modelops.testing.platform import running_platform
from modelops.testing.waiting import wait_for

pytestmark = pytest.mark.slow

FRAME, SPECIES = load_iris(return_X_y=True, as_frame=True)
ROWS = FRAME.sample(frac=1.0, random_state=0).to_numpy().tolist()  # both variants see a like mix at any time
QUICK = {"interval_s": 1.0, "max_extensions": 30}


class Flaky(LogisticRegression):
    """A model that raises for a fifth of the rows."""

    def predict_proba(self, rows):
        return _refusing(rows, super().predict_proba)

    def predict(self, rows):
        return _refusing(rows, super().predict)


def _refusing(rows, answer):
    if (rows.to_numpy() if hasattr(rows, "to_numpy") else rows)[:, 0].max() > 6.5:
        raise RuntimeError("this flower is too large")
    return answer(rows)


@contextmanager
def listening(home, **settings):
    """A platform with its controller, which runtimes can call; what a failed test left running is ended after it."""
    try:
        with ExitStack() as stack:
            platform = stack.enter_context(running_platform(home, **settings))
            listener = Listener(platform.platform, remembered=home / "port")
            platform.platform.url.listen = listener.start
            stack.callback(listener.stop)
            platform.platform.start_controller()
            yield platform
    finally:
        with LocalDeployer(home / "deployments", SystemClock()) as deployer:
            for name in deployer.names():
                wait_for(lambda name=name: deployer.remove(name, grace_s=0.0))


@pytest.fixture(scope="module")
def platform(tmp_path_factory, publish):
    """A platform with `iris` (1 and 2 alike, 3 that says the same of every flower) and `flaky`."""
    with listening(tmp_path_factory.mktemp("rollouts") / "home", controller_interval_s=0.3) as found:
        client = found.client()
        registry = ModelRegistry(client)
        good = LogisticRegression(max_iter=1000).fit(FRAME, SPECIES)
        for model in (good, LogisticRegression(max_iter=1000, C=0.9).fit(FRAME, SPECIES)):
            registry.register_model("iris", model, sample=FRAME)
        registry.register_model("iris", DummyClassifier().fit(FRAME, SPECIES), sample=FRAME)
        publish(client, "flaky", Flaky(max_iter=1000).fit(FRAME, SPECIES), FRAME)
        yield found


class Callers:
    """Steady callers, each with one row a request; what they were answered is counted."""

    def __init__(self, platform, name, count=3, rows=ROWS):
        self.platform, self.name, self.rows = platform, name, rows
        self.answers, self.times = [], []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(count)]

    def _ask(self, caller):
        with self.platform.http(authorization=f"Bearer {self.platform.admin_key}") as http:
            turn = caller
            while not self._stop.is_set():
                row = self.rows[turn % len(self.rows)]
                answer = http.post(f"/v1/deployments/{self.name}/predict", json={"instances": [row]})
                said = answer.json()
                self.answers.append((time.monotonic(), answer.status_code, said.get("variant"), said.get("version")))
                turn += 1

    def statuses(self, since=0.0):
        return Counter(status for at, status, _, _ in self.answers if at >= since)

    def variants(self, since=0.0):
        return Counter((variant, version) for at, _, variant, version in self.answers if at >= since)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def pids(deployment):
    return {replica.pid for replica in deployment.status.replica_status}


def test_a_good_candidate_is_promoted(platform):
    steps = [CanaryStep(share=30, pause_s=4), CanaryStep(share=60, pause_s=4)]
    metrics = [ErrorRate(min_requests=20), Latency(min_requests=20, max_ratio=50), PredictionShift(min_rows=20)]
    canary = Canary(steps=steps, analysis=Analysis(metrics=metrics, **QUICK))
    deployment = deploy_model("iris:1", "good", client=platform.client(), strategy=canary)
    before = pids(deployment)
    with Callers(platform, "good") as callers:
        deployment.deploy("iris:2", timeout_s=120)
        promoted = time.monotonic()
        time.sleep(0.5)
    rollout = deployment.rollout
    assert set(callers.statuses()) == {200}
    assert {version for _, version in callers.variants()} == {1, 2}
    assert set(callers.variants(promoted)) == {("champion", 2)}
    assert (rollout.state, rollout.analysis.outcome) == (RolloutState.SUCCEEDED, Outcome.PASSED)
    assert [one.metric for one in rollout.analysis.metrics] == ["error_rate", "latency_p95", "prediction_shift"]
    assert pids(deployment) == before
    deployment.rollback()
    assert (deployment.status.model_version, pids(deployment)) == (1, before)


def test_a_candidate_that_fails_is_taken_back_by_itself(platform):
    plan = Analysis(metrics=[ErrorRate(min_requests=30)], **QUICK)
    canary = Canary(steps=[CanaryStep(share=20, pause_s=60)], analysis=plan)
    deployment = deploy_model("iris:1", "flaky", client=platform.client())
    with Callers(platform, "flaky") as callers:
        platform.client().serving.update_deployment("flaky", model="flaky:1", strategy=canary)
        settled = platform.client().serving.wait_until_settled("flaky", 60)
        after = time.monotonic()
        time.sleep(1.0)
    assert (settled.state, settled.model) == (DeploymentState.ROLLED_BACK, "iris")
    assert "of the candidate's" in settled.reason
    assert deployment.rollout.state is RolloutState.ABORTED
    assert set(callers.variants(after)) == {("champion", 1)}
    assert set(callers.statuses(after)) == {200}
    # Who was not answered by the candidate was answered.
    failed = [answer for answer in callers.answers if answer[1] != 200]
    assert failed
    assert {variant for _, _, variant, _ in failed} == {None}
    assert {status for _, status, _, _ in failed} == {500}
    assert callers.variants()[("candidate", 1)] > 0


def test_a_candidate_that_answers_otherwise_is_taken_back(platform):
    plan = Analysis(metrics=[PredictionShift(min_rows=30)], **QUICK)
    canary = Canary(steps=[CanaryStep(share=50, pause_s=60)], analysis=plan)
    deployment = deploy_model("iris:1", "shift", client=platform.client())
    with Callers(platform, "shift"):
        platform.client().serving.update_deployment("shift", model="iris:3", strategy=canary)
        settled = platform.client().serving.wait_until_settled("shift", 60)
    assert settled.state is DeploymentState.ROLLED_BACK
    assert "apart" in deployment.rollout.reason


def test_three_replicas_go_over_one_by_one(platform):
    deployment = deploy_model("iris:1", "rolling", replicas=3, client=platform.client(), strategy=Rolling())
    before = pids(deployment)
    with Callers(platform, "rolling", count=6) as callers:
        deployment.deploy("iris:2")
        deployment.deploy("iris:1", strategy=AllAtOnce())
        deployment.rollback()
        time.sleep(0.5)
    assert set(callers.statuses()) == {200}
    assert {version for _, version in callers.variants()} == {1, 2}
    assert (deployment.status.model_version, pids(deployment)) == (2, before)


def test_blue_and_green_and_the_instant_return(platform):
    green = BlueGreen(auto_promote=False, keep_s=300)
    deployment = deploy_model("iris:1", "colours", client=platform.client())
    before = pids(deployment)
    with Callers(platform, "colours") as callers:
        deployment.deploy("iris:2", strategy=green, wait=False)
        held = platform.client().serving.wait_until_held("colours", 60)
        assert (held.state, held.share) == (RolloutState.PAUSED, 0)
        assert set(callers.variants()) == {("champion", 1)}
        deployment.promote()
        deployment.rollback()
    assert set(callers.statuses()) == {200}
    assert {version for _, version in callers.variants()} == {1, 2}
    assert deployment.status.model_version == 1
    wait_for(lambda: pids(deployment) == before)


def test_challengers_share_the_traffic_and_keep_their_callers(platform):
    client = platform.client()
    deployment = deploy_model(
        "iris:1",
        "ab",
        client=client,
        challengers={"b": ("iris:2", 30)},
        shadows={"quiet": "flaky:1"},
        sticky_header="x-user",
    )
    http = platform.http(authorization=f"Bearer {platform.admin_key}")

    def asked(**headers):
        answer = http.post("/v1/deployments/ab/predict", json={"instances": ROWS[:1]}, headers=headers)
        return answer.json().get("variant", answer.text)

    first = {user: asked(**{"x-user": str(user)}) for user in range(200)}
    assert {user: asked(**{"x-user": str(user)}) for user in range(200)} == first
    assert 30 <= sum(one == "b" for one in first.values()) <= 90
    assert asked(**{"x-modelops-variant": "b"}) == "b"
    deployment.set_traffic(traffic_of({"b": ("iris:2", 60)}, sticky_header="x-user"))
    then = {user: asked(**{"x-user": str(user)}) for user in range(200)}
    assert all(then[user] == "b" for user, one in first.items() if one == "b")
    assert sum(one == "b" for one in then.values()) > 90
    with ModelServing(client) as serving:
        assert serving.health()["ab"] is DeploymentState.READY
        assert serving.rollouts("ab")[0].state is RolloutState.SUCCEEDED
        assert serving.predict("ab", ROWS[:2]).model == "iris"


def test_a_challenger_that_takes_other_rows_is_refused(platform):
    narrow = FRAME.iloc[:, :3]
    ModelRegistry(platform.client()).register_model(
        "narrow", LogisticRegression(max_iter=1000).fit(narrow, SPECIES), sample=narrow
    )
    with pytest.raises(IncompatibleVariant, match="petal width"):
        deploy_model("iris:1", "refused", client=platform.client(), challengers={"b": ("narrow:1", 10)})

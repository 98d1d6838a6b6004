"""Deployments that scale themselves on real processes: from zero, to zero, up and down under load."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from tests.domains.serving.test_serving_processes import listening, swept

from modelops.contracts.errors import Unavailable
from modelops.domains.serving.errors import NoReplicaReady
from modelops.domains.serving.policies.autoscaling import Autoscaling
from modelops.domains.serving.schemas import DeploymentState
from modelops.sdk.registry import ModelRegistry
from modelops.sdk.serving import ModelDeployment, deploy_model
from modelops.testing.process import platform_process
from modelops.testing.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FRAME, SPECIES = load_iris(return_X_y=True, as_frame=True)
ROWS = FRAME.iloc[::30]
BODY = {"instances": ROWS.to_numpy().tolist()}
TO_ZERO = Autoscaling(min_replicas=0, max_replicas=2, idle_s=1.0, hold_timeout_s=60)
CYCLES = 5


class Slow(LogisticRegression):
    """A model that takes its time over each batch."""

    def predict_proba(self, rows):
        time.sleep(0.05)
        return super().predict_proba(rows)


class SlowToLoad(LogisticRegression):
    """A model that takes its time to load."""

    def __setstate__(self, state):
        time.sleep(3)
        super().__setstate__(state)


class Fickle(LogisticRegression):
    """A model that loads for as long as a file is there."""

    def __setstate__(self, state):
        super().__setstate__(state)
        open(self.needs).close()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scaling") / "home"
    with swept(folder):
        yield folder


@pytest.fixture(scope="module")
def platform(home):
    with listening(home) as found:
        yield found


def idles(deployment):
    wait_for(lambda: deployment.status.state is DeploymentState.IDLE)
    assert deployment.status.replica_status == []


def asker(platform, name="d"):
    def ask(_=None):
        with platform.http(authorization=f"Bearer {platform.admin_key}") as http:
            return http.post(f"/v1/deployments/{name}/predict", json=BODY)

    return ask


def test_to_zero_and_back(platform, publish):
    model = LogisticRegression(max_iter=1000).fit(FRAME, SPECIES)
    publish(platform.client(), "iris", model, FRAME)
    with deploy_model("iris", "zero", autoscaling=TO_ZERO, client=platform.client()) as zero:
        idles(zero)
        assert zero.predict(ROWS).predictions == model.predict(ROWS).tolist()
        assert zero.client.serving.read_live_stats("zero").replica_stats[0].inflight == 0
        idles(zero)
        with ThreadPoolExecutor(200) as pool:
            answers = list(pool.map(asker(platform, "zero"), range(200)))
        assert [answer.status_code for answer in answers] == [200] * 200
        wait_for(lambda: zero.client.serving.read_live_stats("zero").p50_ms is not None)
        idles(zero)
        zero.delete()


def test_everybody_learns_that_it_cannot_come_up(platform, publish, tmp_path):
    model = Fickle(max_iter=1000).fit(FRAME, SPECIES)
    model.needs = str(tmp_path / "needed")
    open(model.needs, "w").close()
    publish(platform.client(), "fickle", model, FRAME)
    with deploy_model("fickle", "fickle", autoscaling=TO_ZERO, client=platform.client()) as fickle:
        idles(fickle)
        os.unlink(model.needs)
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(asker(platform, "fickle"), range(20)))
        assert {answer.status_code for answer in answers} == {503}
        assert all("FileNotFoundError" in answer.json()["detail"] for answer in answers)
        with pytest.raises(NoReplicaReady, match="FileNotFoundError"):
            fickle.predict(ROWS)
        fickle.delete()


class Load:
    """Callers that ask without a pause, through the platform and at the replicas themselves. Nothing may fail."""

    def __init__(self, platform, name):
        self.platform, self.name, self.client = platform, name, platform.client()
        self.token = self.client.identity.issue_token(permissions=["deployments.predict"]).access_token
        self.asked, self.failed, self.replicas = 0, [], set()
        self.endpoints = []
        self.busy, self.stop = threading.Event(), threading.Event()
        targets = [self.through, self.direct, *[self.burst] * 6]
        self.threads = [threading.Thread(target=target) for target in (self.learn, *targets)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.busy.set()
        for thread in self.threads:
            thread.join()

    def learn(self):
        """Learn where the replicas are, as a balancer does."""
        while not self.stop.is_set():
            found = self.client.serving.get_deployment(self.name)
            self.endpoints = [one.endpoint for one in found.replica_status if one.ready and one.index < found.replicas]
            time.sleep(0.1)

    def through(self):
        ask = asker(self.platform, self.name)
        while not self.stop.is_set():
            self.count(ask)

    def burst(self):
        ask = asker(self.platform, self.name)
        while not self.stop.is_set():
            self.busy.wait()
            self.count(ask)

    def direct(self):
        headers, turn = {"authorization": f"Bearer {self.token}"}, 0
        with httpx.Client(headers=headers, timeout=30) as http:
            while not self.stop.is_set():
                endpoints, turn = self.endpoints, turn + 1
                if endpoints:
                    self.count(partial(http.post, f"{endpoints[turn % len(endpoints)]}/predict", json=BODY))
                else:
                    time.sleep(0.05)

    def count(self, ask):
        try:
            answer = ask()
        except httpx.ConnectError:  # nothing was sent: as every balancer does, the next one is asked
            return
        except httpx.TransportError as wrong:
            self.failed.append(repr(wrong))
            return
        self.asked += 1
        if answer.status_code == 200:
            self.replicas.add(answer.json()["replica"])
        else:
            self.failed.append(answer.text)


def test_up_and_down_under_load_loses_no_request(platform, publish):
    publish(platform.client(), "slow", Slow(max_iter=1000).fit(FRAME, SPECIES), FRAME)
    policy = Autoscaling(
        max_replicas=3,
        target_inflight=3,
        target_queue_wait_ms=None,
        scale_up_window_s=1.0,
        scale_down_window_s=2.0,
    )
    with (
        deploy_model("slow", "slow", autoscaling=policy, client=platform.client()) as slow,
        Load(platform, "slow") as load,
    ):
        for _ in range(CYCLES):
            load.busy.set()
            wait_for(lambda: slow.status.ready_replicas >= 2)
            load.busy.clear()
            wait_for(lambda: (now := slow.status).replicas == 1 and len(now.replica_status) == 1)
    assert load.failed == []
    assert load.asked > 100
    assert len(load.replicas) >= 2
    with deploy_model("slow", "slow", client=platform.client()) as slow:
        events = list(slow.client.platform.stream_events(follow=False))
        changes = [event.data for event in events if event.type == "modelops.serving.deployment_scaled"]
        assert sum(change["replicas"] > change["before"] for change in changes if change["name"] == "slow") >= CYCLES
        slow.delete()


def test_a_platform_that_is_killed_while_it_holds_requests(tmp_path):
    """The callers' connections are gone; the deployment comes up all the same, and they are answered when they ask again."""
    with platform_process(tmp_path / "home") as platform:
        with platform.client() as client:
            model = SlowToLoad(max_iter=1000).fit(FRAME.to_numpy(), SPECIES)
            ModelRegistry(client).register_model("m", model, sample=FRAME.to_numpy())
            deployment = deploy_model("m", "d", autoscaling=TO_ZERO, client=client)
            idles(deployment)
        platform.kill()
        platform.start()
        with platform.client() as client, ThreadPoolExecutor(1) as pool:
            assert client.serving.get_deployment("d").state is DeploymentState.IDLE
            held = pool.submit(ModelDeployment("d", client).predict, ROWS.to_numpy())
            wait_for(lambda: client.serving.read_live_stats("d").held == 1)
            platform.kill()
            platform.start()
            with platform.client() as again:
                assert ModelDeployment("d", again).predict(ROWS.to_numpy()).version == 1
                assert held.exception() is None or isinstance(held.exception(), Unavailable)
                again.serving.delete_deployment("d")
                again.serving.wait_until_gone("d")

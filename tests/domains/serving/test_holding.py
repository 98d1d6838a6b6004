"""Requests that come while a deployment is scaled to zero: controllers are real, the world does what the test says."""

import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.domains.serving.metering import ANSWER, Replicas

from modelops.contracts.errors import NotFound
from modelops.domains.serving.errors import NoReplicaReady, ReplicaBroke
from modelops.domains.serving.holding import Holding
from modelops.domains.serving.policies.autoscaling import Autoscaling
from modelops.domains.serving.schemas import DeploymentState, ServingLimits
from modelops.server.listener import Listener
from modelops.testing.platform import running_platform
from modelops.testing.waiting import wait_for

POLICY = Autoscaling(min_replicas=0, max_replicas=2, idle_s=0.5, hold_timeout_s=30)


@pytest.fixture
def replicas():
    found = Replicas()
    yield found
    found.close()


class Story:
    """A deployment that was scaled to zero."""

    def __init__(self, platform, world, register, replicas, policy=POLICY, **options):
        self.platform, self.world, self.replicas = platform, world(platform), replicas
        self.world.endpoint = replicas.endpoint
        self.client = platform.client()
        self.serving = self.client.serving
        register(self.client)
        platform.platform.start_controller()
        self.id = self.serving.create_deployment("d", "m:1", autoscaling=policy, **options).id
        self.workload = f"{self.id}-r1"
        self.idles()

    def idles(self):
        wait_for(lambda: self.serving.get_deployment("d").state is DeploymentState.IDLE)

    def held(self):
        return self.platform.place.ports[Holding].held(self.id)

    def ask(self, path="predict"):
        with self.platform.http(authorization=f"Bearer {self.platform.admin_key}") as http:
            return http.post(f"/v1/deployments/d/{path}", json={"instances": [[1]]})

    def many(self, count):
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(lambda _: self.ask(), range(count)))


@pytest.fixture
def story(sqlite_platform, world, register, replicas):
    return Story(sqlite_platform, world, register, replicas)


def test_a_request_waits_until_a_replica_is_ready(platform, world, register, replicas):
    story = Story(platform, world, register, replicas)
    story.world.obedient = False
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(story.ask, path) for path in ("predict", "explain")]
        wait_for(lambda: story.world.observe(story.workload))
        assert story.serving.read_live_stats("d").held == 2
        assert not any(one.done() for one in asked)
        story.world.obedient = True
        assert [one.result().status_code for one in asked] == [200, 200]
    assert story.held() == 0
    assert Counter(path.rsplit("/", 1)[1] for path in replicas.asked) == {"predict": 1, "explain": 1}


def test_many_at_once_are_all_answered(story):
    assert Counter(answer.status_code for answer in story.many(200)) == {200: 200}
    assert story.held() == 0
    assert len(story.world.observe(story.workload)) == 1


def test_others_are_served_while_many_are_held(story):
    """Waiting takes no thread: there are fewer of these than requests held."""
    story.world.obedient = False
    with ThreadPoolExecutor(100) as pool:
        asked = [pool.submit(story.ask) for _ in range(100)]
        wait_for(lambda: story.held() == 100)
        began = time.monotonic()
        for _ in range(20):
            story.serving.get_deployment("d")
        assert time.monotonic() - began < 20
        story.world.obedient = True
        assert {one.result().status_code for one in asked} == {200}


def test_it_goes_to_sleep_and_wakes_again_and_again(story):
    for _ in range(3):
        assert {answer.status_code for answer in story.many(10)} == {200}
        story.idles()


def test_requests_race_with_falling_asleep(story):
    """They come as often as it falls asleep: some find a replica, some its end, some none."""
    stop, answers = threading.Event(), []

    def ask(pause_s):
        while not stop.wait(pause_s):
            answers.append(story.ask())

    threads = [threading.Thread(target=ask, args=(pause_s,)) for pause_s in (0.93, 1.01, 1.17)]
    for thread in threads:
        thread.start()
    wait_for(lambda: sum(kind == "end" for kind, *_ in story.world.history) > 4 or len(answers) > 40)
    stop.set()
    for thread in threads:
        thread.join()
    assert {(answer.status_code, answer.text) for answer in answers if answer.status_code != 200} == set()


def test_everybody_learns_why_it_does_not_come_up(story):
    story.world.obedient = False

    def crash():
        if story.world.observe(story.workload):
            story.world.workloads[story.workload].log = b"RuntimeError: this model is broken"
            story.world.crash(story.workload)
        return len(done) == 20

    done = []
    with ThreadPoolExecutor(20) as pool:
        for _ in range(20):
            pool.submit(lambda: done.append(story.ask()))
        wait_for(crash, every_s=0.1)
    assert {answer.status_code for answer in done} == {503}
    assert all("this model is broken" in answer.json()["detail"] for answer in done)
    assert all(answer.headers["retry-after"] for answer in done)
    assert story.held() == 0


def test_nobody_waits_for_ever(sqlite_platform, world, register, replicas):
    story = Story(sqlite_platform, world, register, replicas, POLICY.model_copy(update={"hold_timeout_s": 0.4}))
    story.world.obedient = False
    answer = story.ask()
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "no_replica_ready", "1")
    assert "Within 0.4 s no replica of 'd' became ready. 0 of 1 replicas are ready." in answer.json()["detail"]
    story.world.obedient = True
    assert story.ask().status_code == 200


@pytest.mark.parametrize(("settings", "size"), [({"max_held_requests": 2}, 1), ({"max_held_bytes": 3_000}, 1_400)])
def test_no_more_are_held_than_may_be(tmp_path, world, register, replicas, settings, size):
    with running_platform(tmp_path / "home", **settings) as platform:
        story = Story(platform, world, register, replicas)
        story.world.obedient = False
        body = b'{"instances": [[1]]}' + b" " * size

        def ask():
            with platform.http(authorization=f"Bearer {platform.admin_key}") as http:
                return http.post("/v1/deployments/d/predict", content=body)

        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(ask) for _ in range(3)]
            refused = wait_for(lambda: next((one.result() for one in asked if one.done()), None))
            assert refused.status_code == 503
            assert "no more are held" in refused.json()["detail"]
            assert refused.headers["retry-after"] == "1"
            assert story.held() == 2
            story.world.obedient = True
            assert sorted(one.result().status_code for one in asked) == [200, 200, 503]


def test_one_too_large_wakes_nobody(sqlite_platform, world, register, replicas):
    story = Story(sqlite_platform, world, register, replicas, limits=ServingLimits(max_body_bytes=1_024))
    with sqlite_platform.http(authorization=f"Bearer {sqlite_platform.admin_key}") as http:
        assert http.post("/v1/deployments/d/predict", content=b" " * 2_000).status_code == 413
    assert story.serving.get_deployment("d").replicas == 0


def test_a_caller_who_goes_away_is_not_waited_for(story):
    listener = Listener(story.platform.platform, remembered=story.platform.platform.settings.home / "port")
    host, port = listener.start().removeprefix("http://").split(":")
    try:
        story.world.obedient = False
        body = b'{"instances": [[1]]}'
        head = f"POST /v1/deployments/d/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        key = f"Authorization: Bearer {story.platform.admin_key}\r\n\r\n"
        with socket.create_connection((host, int(port))) as caller:
            caller.sendall((head + key).encode() + body)
            wait_for(lambda: story.held() == 1)
        wait_for(lambda: story.held() == 0)
        story.world.obedient = True
        wait_for(lambda: story.serving.get_deployment("d").state is DeploymentState.READY)
        assert story.replicas.asked == []
    finally:
        listener.stop()


def test_a_deployment_that_is_deleted_meanwhile(story):
    story.world.obedient = False
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(story.ask)
        wait_for(lambda: story.held() == 1)
        story.serving.delete_deployment("d")
        answer = asked.result()
    assert answer.status_code in (404, 409)
    assert answer.json()["code"] in (NotFound.code, "deployment_error")


def test_a_request_that_breaks_replicas_is_sent_twice_at_most(story):
    story.replicas.answer = lambda path: None
    answer = story.ask()
    assert (answer.status_code, answer.json()["code"]) == (503, ReplicaBroke.code)
    assert len(story.replicas.asked) == 2
    assert issubclass(ReplicaBroke, NoReplicaReady)


def test_a_replica_that_is_gone_before_anybody_noticed(story):
    """What was last seen of the world is older than the replica's end: the request waits for the next."""
    assert story.ask().status_code == 200
    good = story.world.endpoint
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        story.world.endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}/{{name}}/{{index}}"
        wait_for(lambda: "/".join(good.split("/")[:3]) not in str(story.serving.get_deployment("d").replica_status))
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(story.ask)
            wait_for(lambda: story.held() == 1)
            story.world.endpoint = good
            assert asked.result().json() == ANSWER

"""Variants in one process: what one does, or fails to do, is its own callers' matter; and the figures of each."""

import threading
from pathlib import Path

import httpx
import psutil
import pytest
from tests.runtime.loads import Load

from modelops.domains.models.flavours import callable as functions
from modelops.domains.models.schemas import Feature, ModelSignature
from modelops.domains.serving.schemas import ReplicaStats, ServingLimits

ONE_NUMBER = ModelSignature(inputs=[Feature(name="x")])
BODY = {"instances": [[1.0]]}


def _good(rows):
    return rows[:, 0]


def _raising(rows):
    raise ValueError("not mine")


def _short(rows):
    return rows[:-1, 0]


def _ending(rows):
    import os

    os._exit(3)


class Held:
    """Answers once it is let go."""

    def __init__(self, folder):
        self.asked, self.let_go = str(folder / "asked"), str(folder / "let-go")

    def __call__(self, rows):
        import time
        from pathlib import Path

        Path(self.asked).touch()
        while not Path(self.let_go).exists():
            time.sleep(0.005)
        return rows[:, 0]


def serve(bench, other, role="challenger", share=50.0, **limits):
    champion = bench.package(functions.flavour, _good)
    files = bench.package(functions.flavour, other)
    variants = [
        bench.variant(champion, ONE_NUMBER, "callable", share=100 - share if role == "challenger" else 100.0),
        bench.variant(
            files,
            ONE_NUMBER,
            "callable",
            name="other",
            role=role,
            share=share,
            version=4,
            model_version_id="mver_2",
        ),
    ]
    return bench.serve(bench.of_variants(variants, limits=ServingLimits(**limits)))


def ask(replica, variant):
    with httpx.Client(base_url=replica.url, headers=replica.client.headers, timeout=60) as client:
        return client.post("/predict", json=BODY, headers={"x-modelops-variant": variant})


def stats(replica):
    return ReplicaStats.model_validate(replica.client.get("/stats").json())


@pytest.mark.parametrize(("other", "words"), [(_raising, "not mine"), (_short, "0 predictions for 1 rows")])
def test_a_variant_that_fails_fails_its_own_callers(bench, other, words):
    replica = serve(bench, other)
    for _ in range(5):
        assert ask(replica, "champion").json()["predictions"] == [1.0]
        answer = ask(replica, "other")
        assert (answer.status_code, answer.json()["code"]) == (500, "model_failed")
        assert words in answer.json()["detail"]
    found = stats(replica).variants
    assert [(found[name].requests, found[name].errors) for name in ("champion", "other")] == [(5, 0), (5, 5)]
    assert sum(found["champion"].latencies) == sum(found["champion"].waits) == 5
    assert found["champion"].latency_sum_s >= found["champion"].wait_sum_s > 0

    text = replica.client.get("/metrics").text
    labels = 'deployment="tumours-live",path="/predict",project="prj_1",revision="7"'
    assert f'serving_http_requests_total{{{labels},status="500",tenant="ten_1",variant="other"}} 5.0' in text
    assert f'serving_http_requests_total{{{labels},status="200",tenant="ten_1",variant="champion"}} 5.0' in text
    assert replica.terminate() == 0
    told = {(batch["variant"], batch["model_version_id"]) for batch in bench.platform.batches.values()}
    assert told == {("champion", "mver_1"), ("other", "mver_2")}
    errors = {batch["variant"]: batch["errors"] for batch in bench.platform.batches.values() if batch["errors"]}
    assert errors.keys() == {"other"}


def test_a_variant_that_hangs_and_is_full_holds_nobody_else_up(bench, wait_until):
    held = Held(bench.folder)
    replica = serve(bench, held, max_concurrency=1)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(ask(replica, "other")))
    asking.start()
    wait_until(Path(held.asked).exists)
    assert ask(replica, "other").status_code == 503
    with Load(
        replica.url, bench.tokens.token(), BODY, headers={"x-modelops-variant": "champion"}, connections=1
    ) as load:
        wait_until(lambda: load.count > 200)
    assert load.failures == []
    found = stats(replica)
    assert (found.variants["other"].rejected, found.variants["champion"].rejected) == (1, 0)
    assert [(process.inflight, process.queue_depth) for process in found.processes] == [(1, 0)]
    Path(held.let_go).touch()
    asking.join()
    assert answers[0].json()["variant"] == "other"


def test_a_shadow_that_fails_or_hangs_touches_nobody(bench, wait_until):
    held = Held(bench.folder)
    replica = serve(bench, held, role="shadow", share=100.0)
    with Load(replica.url, bench.tokens.token(), BODY, of=("variant",)) as load:
        wait_until(lambda: load.count > 600)
    assert load.failures == []
    assert set(load.answers) == {("[1.0]", "champion")}
    found = stats(replica).variants
    assert found["champion"].requests == load.count
    assert found["other"].requests == 0
    assert found["other"].shadow_dropped == load.count - 256, "what waits for it is bounded"
    Path(held.let_go).touch()
    wait_until(lambda: stats(replica).variants["other"].requests == 256)
    assert replica.predict([[1.0], [2.0]]).status_code == 200
    large = {"instances": [[1.0]] * 9_000}
    assert replica.client.post("/predict", json=large).status_code == 200
    wait_until(lambda: stats(replica).variants["other"].requests == 258)
    assert stats(replica).variants["other"].errors == 0
    assert replica.terminate() == 0
    rows = {"champion": 0, "other": 0}
    for batch in bench.platform.batches.values():
        rows[batch["variant"]] += batch["rows"]
    assert rows == {"champion": load.count + 9_002, "other": 256 + 9_002}


def test_a_shadow_is_asked_its_share_and_its_errors_are_its_own(bench, wait_until):
    replica = serve(bench, _raising, role="shadow", share=25.0)
    with Load(replica.url, bench.tokens.token(), BODY, of=("variant",), connections=2) as load:
        wait_until(lambda: load.count > 800)
    assert load.failures == []
    found = {}

    def settled():
        before, found["now"] = found.get("now"), stats(replica).variants["other"]
        return before == found["now"]

    wait_until(settled)
    asked = found["now"].requests + found["now"].shadow_dropped
    assert 0.15 < asked / load.count < 0.35
    assert found["now"].errors == found["now"].requests
    assert stats(replica).variants["champion"].errors == 0
    assert ask(replica, "other").status_code == 422, "nobody gets a shadow's answers"


def test_a_variant_that_ends_the_process_ends_one_of_two(bench, wait_until):
    replica = serve(bench, _ending, cpus=2)
    parent = psutil.Process(replica.process.pid)
    before = {child.pid for child in parent.children()}
    with Load(replica.url, bench.tokens.token(), BODY, headers={"x-modelops-variant": "champion"}) as load:
        wait_until(lambda: load.count > 100)
        with pytest.raises(httpx.HTTPError):
            ask(replica, "other")
        assert ask(replica, "champion").status_code == 200
        wait_until(lambda: len({child.pid for child in parent.children()} - before) == 1)
        count = load.count
        wait_until(lambda: load.count > count + 100)
    assert len(load.failures) <= 8, "no more than the connections of the process that ended"
    wait_until(lambda: len(parent.children()) == 2)
    wait_until(lambda: len(stats(replica).processes) == 2)

"""Runs from their beginning to their end, their workers played by the test."""

import pytest
from tests.domains.pipelines.theatre import function, output

CHAIN = {
    "parameters": {"n": {"type": "integer", "default": 3}},
    "steps": {
        "one": function("double", inputs={"x": {"parameter": "n"}}),
        "two": function("double", inputs={"x": output("one")}),
    },
}


def double(x):
    return 2 * x


def test_a_chain_passes_values_by_reference(theatre):
    theatre.register(**CHAIN)
    run = theatre.play(theatre.start(parameters={"n": 5}), {"double": double})
    assert run.state == "succeeded", run
    assert run.steps == {"succeeded": 2}
    assert theatre.pipelines.read_output(run.id, "two") == 20
    one = theatre.pipelines.get_step(run.id, "one")
    assert one.outputs["result"].digest.startswith("sha256:")
    assert one.attempt == 1
    assert one.started_at <= one.ended_at


def test_a_fan_out_runs_for_each_item_and_is_gathered_in_order(theatre):
    steps = {
        "items": function("items"),
        "each": function("double", inputs={"x": {"item": True}}, foreach=output("items")),
        "sum": function("total", inputs={"xs": output("each")}),
    }
    theatre.register(steps=steps)
    run = theatre.play(
        theatre.start(), {"items": lambda: [1, 2, 3, 4], "double": double, "total": lambda xs: [sum(xs), xs]}
    )
    assert run.state == "succeeded", run
    assert run.steps == {"succeeded": 6}
    assert theatre.pipelines.read_output(run.id, "sum") == [20, [2, 4, 6, 8]]
    assert theatre.states(run)["each[3]"] == "succeeded"
    assert theatre.states(run)["each"] == "succeeded"


@pytest.mark.parametrize(("score", "ran"), [(0.95, "succeeded"), (0.5, "skipped")])
def test_a_condition_decides(theatre, score, ran):
    when = {"left": output("fit"), "operator": ">", "right": {"value": 0.9}}
    theatre.register(steps={"fit": function("fit"), "ship": function("ship", when=when)})
    run = theatre.play(theatre.start(), {"fit": lambda: score})
    assert run.state == "succeeded"
    assert theatre.states(run) == {"fit": "succeeded", "ship": ran}


def test_a_failure_is_told_and_what_needs_it_is_skipped(theatre):
    theatre.register(steps={"a": function("a"), "b": function("b", after=["a"]), "c": function("c")})

    def broken():
        raise ValueError("no data")

    run = theatre.play(theatre.start(), {"a": broken})
    assert run.state == "failed"
    assert "'a' failed: ValueError: no data" in run.reason
    assert theatre.states(run) == {"a": "failed", "b": "skipped", "c": "succeeded"}


def test_a_failed_attempt_is_made_again_with_the_same_idempotency_key(theatre):
    theatre.register(steps={"a": function("a", retries={"attempts": 2, "wait_s": 0.05})})
    run = theatre.start()
    theatre.until_step(run, "a", "ready")
    worker = theatre.worker(run)
    keys = set()
    for _ in range(2):
        task = worker.take()
        keys.add(task.idempotency_key)
        worker.fail(task)
        assert theatre.states(run)["a"] == "retrying"
    task = worker.take()
    worker.succeed(task, result=1)
    assert theatre.until(run, "succeeded")
    assert theatre.pipelines.get_step(run.id, "a").attempt == 3
    assert keys == {task.idempotency_key}


def test_a_hopeless_failure_is_not_tried_again(theatre):
    theatre.register(steps={"a": function("a", retries={"attempts": 5})})
    run = theatre.start()
    theatre.until_step(run, "a", "ready")
    worker = theatre.worker(run)
    worker.fail(worker.take(), hopeless=True)
    assert theatre.until(run, "failed").steps == {"failed": 1}

"""What people tell runs: cancel, pause, resume, run again, approve."""

import pytest
from tests.domains.pipelines.theatre import function, output

from modelops.contracts.errors import InvalidInput, PermissionDenied
from modelops.domains.pipelines.rules import NothingAwaited, OwnApproval, RunEnded, RunOpen

TWO = {"a": function("a"), "b": function("b", inputs={"x": output("a")})}


def test_a_cancelled_run_has_its_attempts_stopped_and_begins_nothing(theatre):
    theatre.register(steps=TWO)
    run = theatre.start()
    theatre.until_step(run, "a", "ready")
    worker = theatre.worker(run)
    task = worker.take()
    assert worker.beat(task).stop == []
    assert theatre.pipelines.cancel_run(run.id, reason="wrong data").state == "canceling"
    assert theatre.pipelines.cancel_run(run.id).reason == "wrong data"
    assert worker.beat(task).stop == [task.id]
    assert worker.claim(wait_s=0).over
    worker.fail(task, "stopped")
    found = theatre.until(run, "canceled")
    assert found.reason == "wrong data"
    assert theatre.states(run) == {"a": "canceled", "b": "canceled"}
    with pytest.raises(RunEnded):
        theatre.pipelines.pause_run(run.id)


def test_a_run_is_cancelled_before_anything_began(sqlite_theatre):
    sqlite_theatre.register(steps=TWO)
    run = sqlite_theatre.pipelines.start_run("p")
    sqlite_theatre.pipelines.cancel_run(run.id)
    assert sqlite_theatre.until(run, "canceled").steps == {"canceled": 2}


def test_a_paused_run_begins_nothing_until_it_is_resumed(theatre):
    theatre.register(steps=TWO)
    run = theatre.start()
    theatre.until_step(run, "a", "ready")
    worker = theatre.worker(run)
    task = worker.take()
    assert theatre.pipelines.pause_run(run.id).state == "paused"
    worker.succeed(task, result=1)
    for _ in range(5):
        theatre.turn()
    assert worker.claim(wait_s=0.3).tasks == []
    assert theatre.states(run) == {"a": "succeeded", "b": "waiting"}
    theatre.pipelines.resume_run(run.id)
    theatre.until_step(run, "b", "ready")
    worker.succeed(worker.take(), result=2)
    assert theatre.until(run, "succeeded")


def test_a_ready_step_is_not_given_out_while_the_run_is_paused(sqlite_theatre):
    sqlite_theatre.register(steps=TWO)
    run = sqlite_theatre.start()
    sqlite_theatre.until_step(run, "a", "ready")
    worker = sqlite_theatre.worker(run)
    sqlite_theatre.pipelines.pause_run(run.id)
    assert worker.claim(wait_s=0).tasks == []
    sqlite_theatre.pipelines.resume_run(run.id)
    assert worker.take().key == "a"


APPROVAL = {
    "train": function("train"),
    "agree": {"approval": {"message": "Ship it?"}, "after": ["train"]},
    "ship": function("ship", after=["agree"]),
}


def waiting_for_approval(theatre, **approval):
    steps = {**APPROVAL, "agree": {**APPROVAL["agree"], "approval": {"message": "Ship it?", **approval}}}
    theatre.register(steps=steps)
    run = theatre.start()
    theatre.until_step(run, "train", "ready")
    worker = theatre.worker(run)
    worker.succeed(worker.take(), result=1)
    theatre.until_step(run, "agree", "awaiting")
    return run, worker


def test_another_member_approves(theatre):
    run, worker = waiting_for_approval(theatre)
    other = theatre.platform.member("ml_engineer").pipelines
    with pytest.raises(PermissionDenied):
        theatre.platform.member("data_scientist").pipelines.decide_step(run.id, "agree", approved=True)
    with pytest.raises(OwnApproval):
        theatre.pipelines.decide_step(run.id, "agree", approved=True)
    decided = other.decide_step(run.id, "agree", approved=True, comment="looks good")
    assert decided.state == "succeeded"
    assert theatre.pipelines.read_output(run.id, "agree", "comment") == "looks good"
    with pytest.raises(NothingAwaited):
        other.decide_step(run.id, "agree", approved=True)
    theatre.until_step(run, "ship", "ready")
    worker.succeed(worker.take(), result=1)
    assert theatre.until(run, "succeeded")


def test_a_rejection_fails_the_step_and_the_run(theatre):
    run, _ = waiting_for_approval(theatre)
    theatre.pipelines.decide_step(run.id, "agree", approved=False, comment="too slow")
    found = theatre.until(run, "failed")
    assert "too slow" in found.reason
    assert theatre.states(run)["ship"] == "skipped"


def test_an_approval_that_nobody_gives_fails_in_time(sqlite_theatre):
    run, _ = waiting_for_approval(sqlite_theatre, timeout_s=0.2)
    assert "Nobody answered" in sqlite_theatre.until(run, "failed").reason


def test_a_rerun_from_a_step_keeps_what_lies_before(theatre):
    theatre.register(steps={**TWO, "c": function("c", inputs={"x": output("b")})})
    calls = []

    def spy(name, result):
        return lambda **_: calls.append(name) or result

    functions = {"a": spy("a", 1), "b": spy("b", 2), "c": spy("c", 3)}
    first = theatre.play(theatre.start(), functions)
    calls.clear()
    again = theatre.pipelines.rerun_run(first.id, from_step="b")
    done = theatre.play(again, functions)
    assert done.state == "succeeded"
    assert done.cause == f"rerun:{first.id}"
    assert calls == ["b", "c"]
    kept = theatre.pipelines.get_step(done.id, "a")
    assert (kept.state, kept.cached_from) == ("cached", first.id)
    with pytest.raises(InvalidInput):
        theatre.pipelines.rerun_run(first.id, from_step="nonsense")


def test_only_what_failed_runs_again(theatre):
    steps = {
        "each": function("each", inputs={"x": {"item": True}}, foreach={"value": [1, 2, 3]}),
        "sum": function("total", inputs={"xs": output("each")}),
    }
    theatre.register(steps=steps)
    ran, broken = [], {2}

    def each(x):
        ran.append(x)
        if x in broken:
            raise ValueError("not yet")
        return x

    functions = {"each": each, "total": lambda xs: sum(xs)}
    first = theatre.play(theatre.start(), functions)
    assert first.state == "failed"
    with pytest.raises(InvalidInput):
        theatre.pipelines.rerun_run(first.id, only_failed=True, parameters={"n": 1})
    broken.clear()
    ran.clear()
    done = theatre.play(theatre.pipelines.rerun_run(first.id, only_failed=True), functions)
    assert done.state == "succeeded", theatre.states(done)
    assert ran == [2]
    assert theatre.pipelines.read_output(done.id, "sum") == 6


def test_a_run_under_way_is_neither_run_again_nor_deleted(sqlite_theatre):
    sqlite_theatre.register(steps=TWO)
    run = sqlite_theatre.start()
    with pytest.raises(RunOpen):
        sqlite_theatre.pipelines.rerun_run(run.id)
    with pytest.raises(RunOpen):
        sqlite_theatre.pipelines.delete_run(run.id)


def test_a_template_that_changes_changes_nothing_for_runs_under_way(theatre):
    theatre.register(steps=TWO)
    run = theatre.start()
    theatre.register(steps={"a": function("a"), "other": function("other", after=["a"])})
    done = theatre.play(run, {})
    assert done.version == 1
    assert theatre.states(run) == {"a": "succeeded", "b": "succeeded"}
    assert theatre.play(theatre.start(), {}).version == 2

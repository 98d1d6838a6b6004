"""Workers that fall silent, come late, say things twice, say wrong things, or are none at all."""

import threading

import pytest
from tests.domains.pipelines.theatre import Theatre, function, output

from modelops.contracts.errors import InvalidInput, MLOpsError, NotFound, PermissionDenied, Unauthenticated
from modelops.contracts.ports import JobBackend, Observation, Phase
from modelops.domains.pipelines.schemas import StepOutput, StepReport, ValueRef
from modelops.domains.pipelines.tables import PipelineWorkerRow
from modelops.testing.platform import running_platform
from modelops.testing.waiting import wait_for


def begun(theatre, **steps):
    theatre.register(steps=steps or {"a": function("a")})
    run = theatre.start()
    theatre.until_step(run, next(iter(steps or {"a": 0})), "ready", "running")
    return run


def test_steps_of_a_silent_worker_are_given_to_another_and_its_late_report_is_passed_over(hasty):
    run = begun(hasty)
    worker = hasty.worker(run)
    late = worker.take()
    again = None
    while again is None:
        hasty.turn()
        again = next(iter(worker.claim(wait_s=0.2).tasks), None)
    assert (again.id, again.attempt) == (late.id, 2)
    assert worker.succeed(late, result="late").stop == [late.id]
    assert worker.beat(late).stop == [late.id]
    worker.succeed(again, result="right")
    assert hasty.until(run, "succeeded")
    assert hasty.pipelines.read_output(run.id, "a") == "right"


def test_a_beat_keeps_an_attempt(hasty):
    run = begun(hasty)
    worker = hasty.worker(run)
    task = worker.take()
    for _ in range(6):
        assert worker.beat(task).stop == []
        hasty.turn()
        threading.Event().wait(0.3)
    assert hasty.pipelines.get_step(run.id, "a").attempt == 1


def test_what_a_worker_returns_is_another_s_at_once_and_no_loss(theatre):
    run = begun(theatre)
    worker = theatre.worker(run)
    for attempt in range(1, 15):
        task = worker.take()
        assert task.attempt == attempt
        assert worker.beat(returned=[task]).stop == []
    worker.succeed(worker.take(), result=1)
    assert theatre.until(run, "succeeded")


def test_steps_of_a_worker_that_ended_are_given_to_the_next(theatre):
    run = begun(theatre)
    first = theatre.worker(run)
    first.take()
    theatre.backend.seen[first.name] = Observation(Phase.EXITED, reason="killed by signal 9")
    step = theatre.until_step(run, "a", "ready")
    assert "killed by signal 9" in step.reason
    with pytest.raises(NotFound):
        first.claim(wait_s=0)
    for _ in range(3):
        theatre.turn()
    second = theatre.worker(run, 1)
    task = second.take()
    assert task.attempt == 2
    second.succeed(task, result=1)
    assert theatre.until(run, "succeeded")


def test_a_step_under_which_workers_vanish_again_and_again_fails(sqlite_theatre):
    run = begun(sqlite_theatre)
    for number in range(10):
        worker = sqlite_theatre.worker(run, number)
        worker.take()
        sqlite_theatre.backend.seen[worker.name] = Observation(Phase.LOST, reason="it is gone")
        for _ in range(3):
            sqlite_theatre.turn()
    assert "10 workers" in sqlite_theatre.until(run, "failed").reason


def test_a_report_that_is_told_twice_changes_nothing(theatre):
    run = begun(theatre)
    worker = theatre.worker(run)
    task = worker.take()
    assert worker.succeed(task, result=1).stop == []
    assert worker.succeed(task, result=2).stop == []
    assert worker.fail(task).stop == []
    assert theatre.until(run, "succeeded")
    assert theatre.pipelines.read_output(run.id, "a") == 1


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({}, "no output 'result'"),
        ({"result": {"type": "arrow", "digest": "sha256:" + "0" * 64}}, "is arrow"),
        ({"result": {"type": "json", "digest": "sha256:" + "0" * 64}}, "holds no artifact"),
        ({"result": {"type": "json"}}, "does not say where it lies"),
    ],
)
def test_wrong_outputs_fail_the_step(theatre, outputs, said):
    run = begun(theatre)
    worker = theatre.worker(run)
    task = worker.take()
    refs = {name: ValueRef.model_validate(ref) for name, ref in outputs.items()}
    worker.report(StepReport(step=task.id, attempt=task.attempt, outputs=refs))
    assert said in theatre.until(run, "failed").reason


def test_a_model_that_is_not_there_is_no_output(sqlite_theatre):
    run = begun(sqlite_theatre, a=function("a", outputs={"model": "model"}))
    worker = sqlite_theatre.worker(run)
    task = worker.take()
    ref = ValueRef(type="model", model_version_id="mver_" + "0" * 32)
    worker.report(StepReport(step=task.id, attempt=task.attempt, outputs={"model": ref}))
    assert "not there" in sqlite_theatre.until(run, "failed").reason


def test_only_the_workers_of_a_run_take_its_steps(theatre):
    run = begun(theatre)
    theatre.register("q", steps={"a": function("a")})
    other = theatre.start("q")
    theatre.until_step(other, "a", "ready")
    worker, stranger = theatre.worker(run), theatre.worker(other)
    stranger.run = run
    with pytest.raises(PermissionDenied):
        stranger.claim(wait_s=0)
    stranger.client = theatre.platform.member("project_admin")
    with pytest.raises(PermissionDenied):
        stranger.claim(wait_s=0)
    stranger.client = theatre.platform.stranger()
    with pytest.raises(NotFound):
        stranger.claim(wait_s=0)
    worker.name = "wrk_unknown"
    with pytest.raises(NotFound):
        worker.claim(wait_s=0)


def test_a_workers_token_ends_with_its_run(sqlite_theatre):
    run = begun(sqlite_theatre)
    worker = sqlite_theatre.worker(run)
    worker.succeed(worker.take(), result=1)
    sqlite_theatre.until(run, "succeeded")
    assert worker.claim(wait_s=0).over
    sqlite_theatre.backend.seen[worker.name] = Observation(Phase.EXITED, exit_code=0)
    for _ in range(3):
        sqlite_theatre.turn()
    with pytest.raises(Unauthenticated):
        worker.claim(wait_s=0)


def test_many_claims_at_once_give_each_step_once(theatre):
    steps = {"each": function("each", inputs={"x": {"item": True}}, foreach={"value": list(range(40))})}
    theatre.register(steps=steps, workers=4)
    run = theatre.start()
    theatre.until_step(run, "each[39]", "ready")
    for _ in range(6):
        theatre.turn()
    workers = [theatre.worker(run, number) for number in range(4)]
    taken, failures = [], []

    def take(worker):
        try:
            while tasks := worker.claim(most=3, wait_s=0).tasks:
                taken.extend((task.key, task.inputs["x"]) for task in tasks)
        except MLOpsError as wrong:
            failures.append(wrong)

    threads = [threading.Thread(target=take, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(taken) == sorted((f"each[{n}]", n) for n in range(40))


def test_a_waiting_claim_is_answered_when_something_becomes_ready(sqlite_theatre):
    run = begun(sqlite_theatre, a=function("a"), b=function("b", inputs={"x": output("a")}))
    worker = sqlite_theatre.worker(run)
    first = worker.take()
    found = []
    waiting = threading.Thread(target=lambda: found.append(worker.claim(wait_s=20)))
    waiting.start()
    worker.succeed(first, result=1)
    waiting.join(timeout=10)
    assert found[0].tasks[0].key == "b"


def test_a_step_with_resources_of_its_own_gets_a_worker_of_its_own(theatre):
    steps = {"a": function("a"), "big": function("big", resources={"memory_mb": 4096, "cpus": 4})}
    theatre.register(steps=steps)
    run = theatre.start()
    theatre.until_step(run, "big", "ready")
    for _ in range(4):
        theatre.turn()
    plain, large = theatre.worker(run, 0), theatre.worker(run, 1)
    assert theatre.backend.specs[large.name].limits.cpus == 4
    assert [task.key for task in plain.claim(most=5, wait_s=0).tasks] == ["a"]
    task = large.take()
    assert task.key == "big"
    large.succeed(task, result=1)
    assert large.claim(wait_s=0).over


def test_a_worker_that_cannot_start_is_told_and_fails_the_run_in_the_end(sqlite_theatre):
    sqlite_theatre.backend.refusal = InvalidInput("no such interpreter")
    sqlite_theatre.register(steps={"a": function("a")})
    run = sqlite_theatre.start()
    sqlite_theatre.until_step(run, "a", "ready")
    with sqlite_theatre.platform.place.work() as ctx:
        ctx.session.query(PipelineWorkerRow).update({"created_at": ctx.clock.now()})
    assert "no such interpreter" in sqlite_theatre.until(run, "failed", within_s=40).reason


def test_processes_that_work_for_no_run_are_ended(sqlite_theatre):
    backend = sqlite_theatre.platform.place.ports[JobBackend]
    backend.seen["wrk_left"] = Observation(Phase.RUNNING)
    backend.seen["wrk_ended"] = Observation(Phase.EXITED)
    sqlite_theatre.turn()
    assert ("wrk_left", "it works for no run") in backend.stops
    assert backend.removed == ["wrk_ended"]


def test_what_steps_write_is_read_while_they_run(theatre):
    run = begun(theatre)
    worker = theatre.worker(run)
    task = worker.take()
    first = StepOutput(step=task.id, attempt=1, offset=0, text="héllo ")
    worker.beat(task, wrote=[first])
    worker.beat(task, wrote=[first, StepOutput(step=task.id, attempt=1, offset=6, text="world\x00")])
    piece = theatre.pipelines.get_step_log(run.id, "a")
    assert (piece.text, piece.next_offset, piece.complete) == ("héllo world\ufffd", 12, False)
    assert theatre.pipelines.get_step_log(run.id, "a", offset=4, limit=4).text == "o wo"
    worker.succeed(task, result=1)
    theatre.until(run, "succeeded")
    assert theatre.pipelines.get_step_log(run.id, "a", offset=12).complete
    assert "".join(theatre.pipelines.follow_log(run.id, "a")) == "héllo world\ufffd"


def test_a_step_whose_process_is_killed_is_tried_again_for_nothing_but_not_for_ever(theatre):
    run = begun(theatre)
    worker = theatre.worker(run)
    for attempt in (1, 2, 3):
        task = worker.take()
        assert task.attempt == attempt
        worker.report(StepReport(step=task.id, attempt=attempt, failure="It was killed.", lost=True))
    assert "It was killed." in theatre.until(run, "failed").reason
    assert theatre.pipelines.get_step(run.id, "a").attempt == 3


def test_no_more_runs_than_may_have_workers_at_once(tmp_path):
    with running_platform(tmp_path / "home", max_staffed_runs=1) as platform:
        theatre = Theatre(platform)
        first = begun(theatre)
        second = theatre.start()
        theatre.until_step(second, "a", "ready")
        for _ in range(3):
            theatre.turn()
        assert "1 runs have some" in theatre.pipelines.get_run(second.id).reason
        player = theatre.worker(first)
        player.succeed(player.take(), result=1)
        assert theatre.until(first, "succeeded")
        theatre.backend.seen[player.name] = Observation(Phase.EXITED, reason="it is done")
        wait_for(lambda: theatre.turn() or worker_of(theatre, second))
        player = theatre.worker(second)
        player.succeed(player.take(), result=1)
        assert theatre.until(second, "succeeded").reason is None


def test_a_run_whose_worker_left_for_lack_of_work_gets_another_when_there_is_some(sqlite_theatre):
    theatre = sqlite_theatre
    run = begun(
        theatre, a=function("a"), b=function("b", after=["ok"]), ok={"approval": {"message": "?"}, "after": ["a"]}
    )
    player = theatre.worker(run)
    player.succeed(player.take(), result=1)
    theatre.until_step(run, "ok", "awaiting")
    theatre.backend.seen[player.name] = Observation(Phase.EXITED, exit_code=0)
    for _ in range(3):
        theatre.turn()
    assert worker_of(theatre, run) is None
    theatre.platform.member("ml_engineer").pipelines.decide_step(run.id, "ok", approved=True)
    wait_for(lambda: theatre.turn() or worker_of(theatre, run))
    player = theatre.worker(run, 1)
    player.succeed(player.take(), result=1)
    assert theatre.until(run, "succeeded")


def worker_of(theatre, run):
    """Return the worker of a run that is not given up and was started, or None."""
    with theatre.platform.place.work(write=False) as ctx:
        row = ctx.session.query(PipelineWorkerRow).filter_by(run_id=run.id, ended_at=None).first()
        return row.id if row is not None and row.id in theatre.backend.specs else None

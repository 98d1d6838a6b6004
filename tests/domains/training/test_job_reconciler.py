"""The reconciler on a backend that does what the test says: true states, one start, and nothing left running."""

import random

import pytest
from sqlalchemy import select, text

from modelops.contracts.errors import Conflict, InvalidInput, NotFound, StorageFull, Unauthenticated, Unavailable
from modelops.contracts.ports import EndedBy, JobBackend, Phase
from modelops.domains.training import lifecycle
from modelops.domains.training.reconcilers import Jobs
from modelops.domains.training.rules import NEXT, JobEnded
from modelops.domains.training.schemas import EndCause, JobReport, JobResult, JobState, Retry, RetryCause
from modelops.kernel.reconciler import Controller
from modelops.kernel.secrets import SecretBox
from modelops.kernel.tables import EventRow


def test_jobs_start_oldest_first_as_there_is_room(stage):
    jobs = [stage.submit() for _ in range(4)]
    stage.turn(3)
    assert stage.backend.starts == [f"{job.id}-1" for job in jobs[:2]]
    stage.backend.end(f"{jobs[1].id}-1")
    stage.turn(3)
    assert stage.backend.starts == [f"{job.id}-1" for job in jobs[:3]]
    stage.training.cancel_job(jobs[3].id)
    stage.backend.end(f"{jobs[0].id}-1")
    stage.turn(3)
    assert len(stage.backend.starts) == 3


def test_what_a_job_is_started_with(stage):
    job, attempt = stage.started()
    spec = stage.backend.specs[attempt]
    assert spec.argv[-3:] == ("-m", "modelops.runtime", "train")
    assert dict(spec.env) == {"MODELOPS_URL": "http://test", "MODELOPS_RUN_HEARTBEAT_TIMEOUT_S": "60.0"}
    assert set(spec.files) == {"job.json", "token"}
    assert (spec.limits.cpus, spec.limits.memory_bytes, spec.limits.timeout_s) == (1, None, 3600.0)
    with stage.platform.place.database.work(write=False) as session:
        (sealed,) = session.execute(text("SELECT sealed_token FROM jobs")).one()
    assert spec.files["token"] not in sealed
    stage.backend.end(attempt)
    stage.turn()
    with stage.platform.place.database.work(write=False) as session:
        assert session.execute(text("SELECT sealed_token FROM jobs")).one() == (None,)
    assert stage.training.get_job(job.id).ended_at == stage.clock.now()


ENDS = {
    "reported": ({"code": 0}, True, None, "succeeded", None),
    "without a word": ({"code": 0}, False, None, "failed", "The trainer ended without reporting a result."),
    "with a reason": ({"code": 1}, False, "ValueError: no", "failed", "ValueError: no"),
    "with a code": ({"code": 3}, False, None, "failed", "ended with exit code 3"),
    "by a signal": (
        {"code": None, "ended_by": EndedBy.SIGNAL, "reason": "killed by SIGKILL"},
        False,
        None,
        "failed",
        "Killed by SIGKILL.",
    ),
    "by a limit": ({"code": None, "reason": "exceeded it"}, False, "told to end", "failed", "Exceeded it."),
}


@pytest.mark.parametrize(("end", "reported", "failure", "state", "reason"), ENDS.values(), ids=ENDS.keys())
def test_how_a_process_ends_is_how_its_job_ends(sqlite_stage, end, reported, failure, state, reason):
    stage = sqlite_stage
    job, attempt = stage.started()
    trainer = stage.trainer(attempt)
    trainer.experiments.create_experiment("e")
    runs = [trainer.experiments.create_run("e").id for _ in range(2)]
    trainer.experiments.update_run(runs[1], status="finished")
    if reported or failure:
        result = JobResult(run_id=runs[0]) if reported else None
        trainer.training.finish_job(job.id, JobReport(result=result, failure=failure))
    assert stage.state(job) == ("running", None)  # nothing is reported before it was seen
    stage.backend.end(attempt, **end)
    stage.turn()
    assert stage.state(job) == (state, reason)
    left = stage.client.experiments.get_run(runs[0])
    assert (left.status, left.reason) == ("finished" if reported else "failed", reason)
    assert stage.client.experiments.get_run(runs[1]).status == "finished"


def lose(stage, attempt):
    stage.backend.put(attempt, Phase.LOST, reason="was lost: its supervisor was killed")
    stage.turn()


def test_a_lost_process_is_tried_again_and_given_up_at_the_limit(stage):
    job, attempt = stage.started(retry=Retry(max_attempts=2, delay_s=10))
    trainer = stage.trainer(attempt)
    lose(stage, attempt)
    state, reason = stage.state(job)
    assert state == "queued"
    assert reason.startswith("Attempt 1 ended: Was lost: its supervisor was killed. It is tried again (2 of 2).")
    with pytest.raises(Unauthenticated):  # whatever is left of it has no say in what comes next
        trainer.training.finish_job(job.id, JobReport(result=JobResult()))
    stage.clock.advance(9)
    stage.turn()
    assert stage.backend.starts == [attempt]
    stage.clock.advance(2)
    stage.turn()
    assert stage.backend.starts == [attempt, f"{job.id}-2"]
    assert stage.state(job) == ("running", None)
    lose(stage, f"{job.id}-2")
    assert stage.state(job) == ("failed", "Was lost: its supervisor was killed.")
    assert [one.cause for one in stage.training.list_job_attempts(job.id).items] == ["lost", "lost"]
    gone, attempt = stage.started(retry=Retry(max_attempts=1))
    del stage.backend.seen[attempt]
    stage.turn()
    assert stage.state(gone) == ("failed", "Its process is gone, and nothing is left of it.")


def test_what_took_too_much_memory_is_not_tried_again_and_told_apart(sqlite_stage):
    stage = sqlite_stage
    job, attempt = stage.started(retry=Retry(causes=list(RetryCause)))
    stage.backend.end(attempt, None, reason="exceeded its memory limit", ended_by=EndedBy.MEMORY)
    stage.turn()
    found = stage.training.get_job(job.id)
    assert (found.state, found.cause, found.attempt) == (JobState.FAILED, EndCause.OUT_OF_MEMORY, 1)
    job, attempt = stage.started()
    stage.trainer(attempt).training.finish_job(job.id, JobReport(failure="MemoryError", out_of_memory=True))
    stage.backend.end(attempt, 1)
    stage.turn()
    found = stage.training.get_job(job.id)
    assert (found.cause, found.reason) == (EndCause.OUT_OF_MEMORY, "MemoryError")


def test_a_job_is_tried_again_by_hand_and_each_attempt_is_kept(stage):
    job, first = stage.started()
    with pytest.raises(Conflict, match="has not ended"):
        stage.training.retry_job(job.id)
    stage.trainer(first).training.finish_job(job.id, JobReport(failure="no luck"))
    stage.backend.end(first, 1)
    stage.turn()
    assert stage.state(job) == ("failed", "no luck")
    again = stage.training.retry_job(job.id)
    assert (again.state, again.ended_at, again.attempt) == (JobState.QUEUED, None, 1)
    stage.turn()
    second = f"{job.id}-2"
    assert stage.training.get_job(job.id).cause is None
    stage.trainer(second).training.finish_job(job.id, JobReport(result=JobResult(metrics={"loss": 1.0})))
    stage.backend.end(second)
    stage.turn()
    found = stage.training.get_job(job.id)
    assert (found.state, found.reason, found.cause, found.attempt) == (JobState.SUCCEEDED, None, EndCause.SUCCEEDED, 2)
    attempts = stage.training.list_job_attempts(job.id).items
    facts = [(one.number, one.cause, one.reason, one.exit_code, one.cpu_seconds) for one in attempts]
    assert facts == [(1, "failed", "no luck", 1, 1.5), (2, "succeeded", None, 0, 1.5)]
    with pytest.raises(JobEnded):
        stage.training.retry_job(job.id)


def test_a_job_tried_again_by_hand_has_all_its_attempts_before_it(sqlite_stage):
    stage = sqlite_stage
    job, attempt = stage.started(retry=Retry(max_attempts=2, delay_s=0))
    lose(stage, attempt)
    stage.turn()
    lose(stage, f"{job.id}-2")
    assert stage.state(job)[0] == "failed"
    stage.training.retry_job(job.id)
    stage.turn()
    lose(stage, f"{job.id}-3")
    assert "It is tried again (2 of 2)" in stage.state(job)[1]
    stage.training.cancel_job(job.id, reason="enough")
    assert stage.state(job) == ("canceled", "enough")


def test_the_output_of_each_attempt_is_kept_and_followed_into_the_next(sqlite_stage):
    stage = sqlite_stage
    job, first = stage.started(retry=Retry(delay_s=0))
    stage.backend.logs[first] = b"first"
    lose(stage, first)
    piece = stage.training.get_job_log(job.id)
    assert (piece.text, piece.complete, piece.attempt) == ("first", False, 1)
    stage.turn()
    stage.backend.logs[f"{job.id}-2"] = b"second"
    stage.backend.end(f"{job.id}-2", 1)
    stage.turn()
    piece = stage.training.get_job_log(job.id, attempt=1)
    assert (piece.text, piece.complete, piece.next_attempt) == ("first", True, 2)
    assert "".join(stage.training.follow_log(job.id, attempt=1)) == "firstsecond"
    assert "".join(stage.training.stream_job_log(job.id)) == "second"
    with pytest.raises(NotFound, match="no attempt 3"):
        stage.training.get_job_log(job.id, attempt=3)
    for _ in range(2):
        stage.clock.advance(31)
        stage.turn()
    assert stage.backend.removed == []


def test_a_job_is_cancelled_when_its_process_was_seen_to_end(stage):
    job, attempt = stage.started()
    stage.backend.stop = lambda name, *, reason: stage.backend.stops.append((name, reason))
    assert stage.training.cancel_job(job.id, reason="wrong data").state is JobState.CANCELING
    stage.turn(2)
    assert stage.state(job) == ("canceling", "wrong data")
    assert set(stage.backend.stops) == {(attempt, "wrong data")}
    stage.backend.end(attempt)  # that it ended by itself in that moment does not help
    stage.turn()
    assert stage.state(job) == ("canceled", "wrong data")


def admit(stage, job):
    """Admit a job and do no more, as a controller does that is killed just then."""
    with stage.platform.place.work() as ctx:
        lifecycle.admit(ctx, job.id)


def test_a_job_cancelled_between_admission_and_start_never_starts(stage):
    job = stage.submit()
    admit(stage, job)
    assert stage.state(job) == ("starting", None)
    stage.training.cancel_job(job.id, reason="no need")
    stage.turn()
    assert stage.state(job) == ("canceled", "no need")
    assert stage.backend.starts == []
    stage.started()  # and it takes nobody's place


def test_a_start_that_does_not_succeed_is_told_tried_again_and_given_up(stage):
    stage.backend.refusal = StorageFull("The disk is full.")
    job = stage.submit()
    stage.turn(2)
    state, reason = stage.state(job)
    assert (state, "The disk is full." in reason) == ("starting", True)
    stage.backend.refusal = None
    stage.turn()
    assert stage.state(job) == ("running", None)
    stage.backend.refusal = Unavailable("No address.")
    other = stage.submit()
    stage.turn(2)
    stage.clock.advance(61)
    stage.turn()
    state, reason = stage.state(other)
    assert state == "failed"
    assert reason.startswith("It did not start within 60 s: No address.")


def test_a_start_that_can_never_succeed_fails_at_once(sqlite_stage):
    sqlite_stage.backend.refusal = InvalidInput("It holds a NUL.")
    job = sqlite_stage.submit()
    sqlite_stage.turn(2)
    assert sqlite_stage.state(job) == ("failed", "It cannot be started: It holds a NUL.")


def test_a_defect_of_the_backend_does_not_hold_a_job_for_ever(sqlite_stage):
    sqlite_stage.backend.refusal = RuntimeError("a defect")
    job = sqlite_stage.submit()
    sqlite_stage.turn(2)
    assert sqlite_stage.state(job) == ("starting", "a defect")
    sqlite_stage.clock.advance(61)
    sqlite_stage.turn()
    assert sqlite_stage.state(job) == ("failed", "It did not start within 60 s: a defect")


def test_another_secret_key_fails_a_job_that_was_to_start(sqlite_stage):
    job = sqlite_stage.submit()
    admit(sqlite_stage, job)
    sqlite_stage.platform.place.ports[SecretBox] = SecretBox(b"another")
    sqlite_stage.turn()
    state, reason = sqlite_stage.state(job)
    assert (state, "secret key" in reason) == ("failed", True)


def test_a_process_that_never_comes_up_fails_its_job_and_is_ended(sqlite_stage):
    stage = sqlite_stage
    stage.backend.starts_as = Phase.STARTING
    job = stage.submit()
    stage.turn(2)
    attempt = f"{job.id}-1"
    stage.clock.advance(59)
    stage.turn()
    assert stage.state(job) == ("starting", None)
    stage.clock.advance(2)
    stage.turn()
    assert stage.state(job) == ("failed", "It did not start within 60 s.")
    stage.backend.put(attempt, Phase.RUNNING)  # now it comes up after all
    for _ in range(2):
        stage.clock.advance(31)
        stage.turn()
    assert stage.backend.stops == [(attempt, "it belongs to no job that runs")]


def test_the_next_controller_goes_on_where_the_last_one_was(stage):
    jobs = [stage.submit() for _ in range(2)]
    for job in jobs:
        admit(stage, job)  # admitted, not started: the worst moment
    place = stage.platform.place
    stage.clock.advance(place.settings.lease_ttl_s + 1)
    successor = Controller(place, [Jobs()], {}, "another holder")
    successor.turn()
    assert stage.backend.starts == [f"{job.id}-1" for job in jobs]
    stage.clock.advance(place.settings.lease_ttl_s + 1)
    third = Controller(place, [Jobs()], {}, "a third holder")
    stage.backend.end(f"{jobs[0].id}-1", 1)
    third.turn()
    assert stage.backend.starts == [f"{job.id}-1" for job in jobs]
    assert [stage.state(job)[0] for job in jobs] == ["failed", "running"]
    assert stage.training.get_job(jobs[1].id).attempt == 1


def test_what_belongs_to_no_job_is_ended_and_forgotten(sqlite_stage):
    stage = sqlite_stage
    _, mine = stage.started()
    stage.backend.put("job_nobodys-1", Phase.RUNNING)
    for _ in range(2):
        stage.clock.advance(31)
        stage.turn()
    assert [name for name, _ in stage.backend.stops] == ["job_nobodys-1"]
    for _ in range(2):
        stage.clock.advance(31)
        stage.turn()
    assert stage.backend.removed == ["job_nobodys-1"]
    assert not stage.backend.observe(mine).ended


def test_the_output_of_the_last_jobs_is_kept(sqlite_stage, monkeypatch):
    stage = sqlite_stage
    monkeypatch.setattr(lifecycle, "KEPT_ATTEMPTS", 2)
    attempts = []
    for _ in range(4):
        attempts.append(stage.started()[1])
        stage.clock.advance(1)
        stage.backend.end(attempts[-1])
        stage.turn()
    for _ in range(2):
        stage.clock.advance(31)
        stage.turn()
    assert sorted(stage.backend.removed) == sorted(attempts[:2])


def test_the_controllers_of_two_platforms_sweep_each_their_own(sqlite_stage):
    reconciler, clock = Jobs(), sqlite_stage.clock
    first, second = ({JobBackend: type(sqlite_stage.backend)(clock)} for _ in range(2))
    assert reconciler._sweep_of(first) is reconciler._sweep_of(first)
    assert reconciler._sweep_of(first) is not reconciler._sweep_of(second)


def test_what_happens_is_told(stage):
    job, attempt = stage.started(name="n")
    stage.backend.end(attempt)
    stage.turn()
    other = stage.submit()
    stage.training.cancel_job(other.id)
    with stage.platform.place.work(write=False) as ctx:
        rows = list(ctx.session.scalars(select(EventRow).order_by(EventRow.number)))
    told = [row for row in rows if row.type.startswith("modelops.training.")]
    assert [(row.subject, row.type.rpartition(".")[2]) for row in told] == [
        (job.id, "job_submitted"),
        (job.id, "job_admitted"),
        (job.id, "job_started"),
        (job.id, "job_ended"),
        (other.id, "job_submitted"),
        (other.id, "job_ended"),
    ]
    assert {row.project_id for row in told} == {job.project_id}
    assert None not in {row.tenant_id for row in told}


def test_a_job_that_ends_between_two_looks_has_started_too(sqlite_stage):
    stage = sqlite_stage
    job = stage.submit()
    stage.backend.starts_as = Phase.EXITED
    stage.turn()
    found = stage.training.get_job(job.id)
    assert (found.state, found.started_at) == (JobState.FAILED, stage.clock.now())


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_states_are_true_and_nothing_is_doubled(sqlite_stage, seed):
    stage, luck = sqlite_stage, random.Random(seed)
    jobs, states = [], {}
    for _ in range(120):
        live = [name for name, seen in stage.backend.seen.items() if not seen.ended]
        match luck.choice(["submit", "cancel", "turn", "turn", "end", "end", "lose", "report", "refuse", "wait"]):
            case "submit":
                jobs.append(stage.submit().id)
            case "cancel" if jobs:
                if not JobState(states.get(luck.choice(jobs), "queued")).final:
                    cancel_one(stage, luck.choice(jobs))
            case "turn":
                stage.turn()
            case "end" if live:
                stage.backend.end(luck.choice(live), luck.choice([0, 0, 1]))
            case "lose" if live:
                stage.backend.put(luck.choice(live), Phase.LOST, reason="was lost")
            case "report" if live:
                name = luck.choice(live)
                stage.trainer(name).training.finish_job(name.rpartition("-")[0], JobReport(result=JobResult()))
            case "refuse":
                stage.backend.refusal = luck.choice([None, Unavailable("Not now.")])
            case "wait":
                stage.clock.advance(luck.choice([1, 20, 70]))
        states = check(stage, states)
    stage.backend.refusal = None
    for _ in range(3 * len(jobs) + 3):
        for name in [name for name, seen in stage.backend.seen.items() if not seen.ended]:
            stage.backend.end(name)
        stage.turn(2)
    assert {JobState(state).final for state in check(stage, states).values()} == {True}


def cancel_one(stage, job):
    if not stage.training.get_job(job).state.final:
        stage.training.cancel_job(job)


def check(stage, before):
    """Compare every job with how it was before the last step, and the backend with every job."""
    jobs = stage.training.list_jobs(limit=1000).items
    for job in jobs:
        known = JobState(before.get(job.id, "queued"))
        assert job.state in reachable(known), (known, job.state)
        assert job.attempt <= 3
        assert not job.state.final or job.state is JobState.SUCCEEDED or job.reason
        assert job.state is not JobState.SUCCEEDED or job.result is not None
        assert job.state.final == (job.ended_at is not None)
    assert len(stage.backend.starts) == len(set(stage.backend.starts))
    assert len([job for job in jobs if job.state in lifecycle.LIVE]) <= 2
    return {job.id: job.state for job in jobs}


def reachable(state):
    """Return what a state may become in one round: a job is admitted, started and seen to end in at most two steps, and may
    be queued again by them; one that has ended stays, as nobody has it tried again here."""
    if state.final:
        return {state}
    one = {state} | NEXT[state]
    return one | {after for between in one if not between.final for after in NEXT[between]}

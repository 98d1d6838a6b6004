"""Blocks: trials that one worker takes at once and tells together; nothing of them is lost, doubled or left over."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.domains.experiments.analysis_schemas import Direction
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.tuning.rules import ParameterOutside, Progress, TrialLost, block_size, why_stopped
from modelops.domains.tuning.schemas import StudyState, TrialAsk, TrialReport, TrialState, TrialTell
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform

SPACE = {"x": {"type": "float", "low": -1, "high": 1}}


@pytest.fixture(params=["sqlite", "postgres"])
def timed(request, tmp_path):
    """A platform on each database, and the clock it lives by."""
    clock, settings = VirtualClock(), {}
    if request.param == "postgres":
        settings["database"] = request.getfixturevalue("postgres_database")
    with running_platform(tmp_path / "home", clock=clock, **settings) as platform:
        yield platform, clock


@pytest.fixture
def tuning(sqlite_platform):
    return sqlite_platform.client().tuning


NOW = datetime(2026, 1, 1, tzinfo=UTC)
bound = st.none() | st.integers(1, 50)


@settings(deadline=None)
@given(
    wanted=st.integers(0, 100),
    live=st.integers(0, 10),
    counts=st.tuples(*[st.integers(0, 50)] * 4),
    bounds=st.tuples(bound, bound, bound),
    seconds=st.none() | st.floats(0.1, 10),
)
def test_a_block_ends_before_any_bound_could_be_overrun(wanted, live, counts, bounds, seconds):
    completed, failed, since_best, begun_s = counts
    most, patience, failures = bounds
    study = Progress(
        state=StudyState.RUNNING,
        reason=None,
        trials=completed + failed + live,
        completed=completed,
        failed=failed,
        best_value=1.0,
        best_at=max(0, completed - since_best),
        direction=Direction.MIN,
        started_at=NOW - timedelta(seconds=begun_s),
        max_trials=most,
        max_seconds=seconds,
        target=None,
        patience=patience,
        max_failures=failures,
    )
    size = block_size(study, wanted, live, NOW)
    assert 0 <= size <= wanted
    for n in range(size):  # each of them begins, were it alone, whatever the others come to
        later = replace(study, trials=study.trials + n)
        assert why_stopped(replace(later, completed=completed + live + n), NOW) is None
        assert why_stopped(replace(later, failed=failed + live + n), NOW) is None


def ask(tuning, key, *, holder="w", count=5, **fields):
    return tuning.ask_trial("s", TrialAsk(holder=holder, key=key, count=count, **fields))


def end(number, value=1.0, **fields):
    told = {"number": number, "holder": "w", "attempt": 1, "state": TrialState.COMPLETE, "values": [value]}
    return {**told, "parameters": {"x": number / 10}, **fields}


def test_a_block_is_told_with_the_next_question_and_what_was_not_begun_is_gone(timed):
    platform, clock = timed
    client = platform.client()
    tuning, runs = client.tuning, client.experiments
    tuning.create_study("s", objectives=["loss:min"], space=SPACE, pruner={"name": "median"})
    first = ask(tuning, "a")
    assert (first.trial, first.block, first.made) == (None, [0, 1, 2, 3, 4], 5)
    assert ask(tuning, "a").block == first.block
    begun = tuning.get_trial("s", 0)
    assert (begun.state, begun.run_id, begun.parameters) == (TrialState.RUNNING, None, {})
    clock.advance(10)
    ends = [
        end(0, 3.0, began_s=9, ended_s=7.5, intermediate={0: 5.0, 1: float("nan")}, attributes={"note": "good"}),
        end(1, state=TrialState.PRUNED, values=None, intermediate={0: 9.0}),
        end(2, state=TrialState.FAILED, values=None, reason="ValueError: no", began_s=99),
    ]
    second = ask(tuning, "b", count=3, ended=ends, unbegun=[3, 4])
    assert (second.block, second.made) == ([3, 4, 5], 6)
    assert ask(tuning, "b", count=3, ended=ends, unbegun=[3, 4]).block == [3, 4, 5]
    last = ask(tuning, "c", count=0, unbegun=[3, 4, 5])
    assert (last.trial, last.block, last.made, last.stop) == (None, [], 3, None)
    assert ask(tuning, "d", count=0, ended=ends, unbegun=[3, 4]).made == 3
    counts = tuning.get_study("s").trials
    assert (counts.total, counts.complete, counts.pruned, counts.failed) == (3, 1, 1, 1)
    done, pruned, failed = tuning.list_trials("s").items
    assert (done.values, done.attributes, done.intermediate[0]) == ([3.0], {"note": "good"}, 5.0)
    assert done.ended_at - done.started_at == timedelta(seconds=1.5)
    assert failed.started_at == failed.created_at  # not before it was given out, whatever its worker says
    run = runs.get_run(done.run_id)
    assert (run.status, run.parameters, run.name) == (RunStatus.FINISHED, {"x": 0.0}, "s 0")
    assert (run.started_at, run.ended_at) == (done.started_at, done.ended_at)
    assert run.tags == {"study": "s", "trial": "0"}
    assert run.metrics["loss"] == 3.0
    assert [point.step for point in runs.get_metric_history(run.id, "loss").items] == [0, 1, 2]
    assert (runs.get_run(pruned.run_id).status, runs.get_run(pruned.run_id).reason) == (RunStatus.CANCELED, "Pruned.")
    assert (runs.get_run(failed.run_id).status, runs.get_run(failed.run_id).reason) == (RunStatus.FAILED, failed.reason)
    assert runs.list_runs("s").total == 3
    platform.controller.turn()
    told = [(e.type, e.subject) for e in client.platform.stream_events(follow=False) if "experiments.run_" in e.type]
    kinds = ("modelops.experiments.run_started", "modelops.experiments.run_ended")
    assert sorted(told) == sorted((kind, one.run_id) for one in (done, pruned, failed) for kind in kinds)


def test_a_block_is_given_only_while_nobody_else_works(tuning):
    tuning.create_study("s", space=SPACE)
    assert ask(tuning, "a", count=3).block == [0, 1, 2]
    other = ask(tuning, "b", holder="other", count=3)
    assert (other.block, other.trial, other.stop, other.moved) == ([], None, None, False)
    other = ask(tuning, "c", holder="other", count=3, parameters={"x": 0.5}, expected=other.made)
    assert (other.trial.number, other.changes.trials) == (3, [])
    ask(tuning, "d", count=0, ended=[end(0)], unbegun=[1, 2])
    assert [trial.state for trial in tuning.list_trials("s").items] == [
        TrialState.COMPLETE,
        TrialState.WAITING,
        TrialState.WAITING,
        TrialState.RUNNING,
    ]
    taken = ask(tuning, "e", count=3)
    assert (taken.trial.number, taken.trial.attempt, taken.trial.parameters, taken.block) == (1, 2, {}, [])
    assert taken.trial.run_id
    seen = tuning.list_changes("s", holder="third").trials
    assert [trial.number for trial in seen] == [3, 2, 0, 1]


@pytest.mark.parametrize(
    ("bounds", "size"),
    [
        ({"max_trials": 4}, 3),
        ({"patience": 3}, 2),
        ({"max_failures": 2}, 2),
        ({"max_seconds": 100}, 10),
        ({"max_seconds": 1}, 0),
    ],
)
def test_a_block_overruns_no_bound(tuning, bounds, size):
    tuning.create_study("s", space=SPACE, **bounds)
    first = ask(tuning, "a", count=1, parameters={"x": 0.1}).trial
    tuning.tell_trial("s", first.number, TrialTell(holder="w", attempt=1, state="complete", values=[1.0]))
    second = ask(tuning, "b", count=1, parameters={"x": 0.2}) if "patience" in bounds else None
    if second is not None:
        worse = {"holder": "w", "attempt": 1, "state": "complete", "values": [2.0], "number": 1}
        assert len(ask(tuning, "c", count=10, ended=[worse]).block) == size
    else:
        assert len(ask(tuning, "c", count=10).block) == size


def test_what_a_dead_worker_had_not_begun_waits_whatever_the_study_says_of_trying_again(timed):
    platform, clock = timed
    tuning = platform.client().tuning
    tuning.create_study("s", space=SPACE, lease_s=10, retries=0)
    ask(tuning, "a", count=3)
    told = TrialReport(holder="w", attempt=1, parameters={"x": 0.0}, values={0: 1.0}, began_s=0.5)
    heard = tuning.report_trial("s", 0, told)
    assert heard.run_id == tuning.get_trial("s", 0).run_id
    assert tuning.get_trial("s", 0).parameters == {"x": 0.0}
    clock.advance(11)
    platform.controller.turn()
    begun, *rest = tuning.list_trials("s").items
    assert begun.state is TrialState.FAILED
    assert [(trial.state, trial.run_id) for trial in rest] == [(TrialState.WAITING, None)] * 2
    again = ask(tuning, "b", holder="other").trial
    assert (again.number, again.attempt) == (1, 2)
    with pytest.raises(TrialLost):
        ask(tuning, "c", count=0, ended=[end(2), end(1)])
    assert tuning.get_trial("s", 2).state is TrialState.WAITING  # nothing of a refused word is kept
    with pytest.raises(ParameterOutside, match="'x' is missing"):
        ask(tuning, "d", count=0, ended=[end(2, parameters={})])
    ask(tuning, "d", count=0, ended=[end(2, 0.25)], unbegun=[1])
    assert tuning.get_trial("s", 2).values == [0.25]  # late, and nobody else had it
    assert tuning.get_trial("s", 1).holder == "other"


def test_a_block_in_a_deleted_experiment_is_not_given_and_its_end_is_kept_without_a_run(sqlite_platform):
    client = sqlite_platform.client()
    study = client.tuning.create_study("s", space=SPACE)
    ask(client.tuning, "a", count=2)
    client.experiments.delete_experiment(study.experiment_id)
    ask(client.tuning, "b", count=0, ended=[end(0), end(1)])
    assert [trial.run_id for trial in client.tuning.list_trials("s").items] == [None, None]
    from modelops.contracts.errors import Conflict

    with pytest.raises(Conflict, match="is deleted"):
        ask(client.tuning, "c", count=2)

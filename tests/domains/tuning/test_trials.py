"""What workers ask, report and tell: once each, under a lease, with a run a trial."""

import math

import pytest

from modelops.contracts.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.tuning.rules import ParameterOutside, StudyError, TrialEnded, TrialLost
from modelops.domains.tuning.schemas import (
    Beat,
    StudyState,
    TrialAsk,
    TrialReport,
    TrialState,
    TrialTell,
)
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform

SPACE = {
    "x": {"type": "float", "low": -1, "high": 1},
    "kind": {"type": "categorical", "choices": ["a", "b"]},
    "depth": {"type": "int", "low": 1, "high": 9, "step": 2, "when": {"kind": ["b"]}},
}
POINT = {"x": 0.5, "kind": "a"}


@pytest.fixture
def tuning(platform):
    return platform.client().tuning


@pytest.fixture(params=["sqlite", "postgres"])
def timed(request, tmp_path):
    """A platform on each database, and the clock it lives by."""
    clock, settings = VirtualClock(), {}
    if request.param == "postgres":
        settings["database"] = request.getfixturevalue("postgres_database")
    with running_platform(tmp_path / "home", clock=clock, **settings) as platform:
        yield platform, clock


def ask(tuning, study="s", *, key=None, parameters=POINT, holder="w", **fields):
    ask.count = getattr(ask, "count", 0) + 1
    asked = TrialAsk(holder=holder, key=key or f"key {ask.count}", parameters=parameters, **fields)
    return tuning.ask_trial(study, asked)


def tell(tuning, trial, values=None, state=TrialState.COMPLETE, *, study="s", holder="w", **fields):
    told = TrialTell(holder=holder, attempt=trial.attempt, state=state, values=values, **fields)
    return tuning.tell_trial(study, trial.number, told)


def report(tuning, trial, values, *, study="s", holder="w", **fields):
    said = TrialReport(holder=holder, attempt=trial.attempt, values=values, **fields)
    return tuning.report_trial(study, trial.number, said)


def test_a_study_is_made_found_changed_and_forgotten(tuning):
    made = tuning.create_study("s", objectives=["loss:min"], space=SPACE, max_trials=3, tags={"team": "a"})
    assert made.state is StudyState.RUNNING
    assert made.sampler.seed is not None
    assert list(made.space) == ["x", "kind", "depth"]
    assert tuning.get_study("s") == tuning.get_study(made.id) == made
    assert tuning.get_study(made.id[:-1]) == made
    assert [one.id for one in tuning.list_studies(filter='name = "s"').items] == [made.id]
    assert tuning.update_study("s", max_trials=9, description="d").max_trials == 9
    assert tuning.update_study("s", max_trials=None).max_trials is None
    grid = tuning.create_study("grid", sampler={"name": "grid"}, space={"n": {"type": "int", "low": 1, "high": 4}})
    assert (grid.max_trials, tuning.update_study("grid", max_trials=99).max_trials) == (4, 4)
    with pytest.raises(InvalidInput, match="several"):
        tuning.get_study("std_")
    with pytest.raises(AlreadyExists):
        tuning.create_study("s")
    ask(tuning)
    tuning.delete_study("s")
    with pytest.raises(NotFound):
        tuning.get_study("s")
    with pytest.raises(NotFound):
        ask(tuning)


def test_a_trial_is_a_run_from_its_first_request_to_its_last(platform, tuning):
    tuning.create_study("s", objectives=["loss:min"], space=SPACE)
    answer = ask(tuning)
    assert (answer.trial.number, answer.trial.attempt, answer.trial.state) == (0, 1, TrialState.RUNNING)
    runs = platform.client().experiments
    run = runs.get_run(answer.trial.run_id)
    assert (run.status, run.parameters, run.experiment) == (RunStatus.RUNNING, POINT, "s")
    assert run.tags == {"study": "s", "trial": "0"}
    report(tuning, answer.trial, {0: 4.0, 1: math.nan, 2: 2.0})
    tell(tuning, answer.trial, [1.0], attributes={"note": "good"})
    run = runs.get_run(answer.trial.run_id)
    assert (run.status, run.metrics["loss"]) == (RunStatus.FINISHED, 1.0)
    assert [point.step for point in runs.get_metric_history(run.id, "loss").items] == [0, 1, 2, 3]
    kept = tuning.get_trial("s", 0)
    assert (kept.values, kept.attributes, kept.state) == ([1.0], {"note": "good"}, TrialState.COMPLETE)
    assert kept.intermediate[0] == 4.0
    assert math.isnan(kept.intermediate[1])
    study = tuning.get_study("s")
    assert (study.best_value, study.best_number, study.trials.complete) == (1.0, 0, 1)


def test_each_end_is_told_to_the_run(platform, tuning):
    tuning.create_study("s", space=SPACE)
    pruned, failed, back = (ask(tuning).trial for _ in range(3))
    tell(tuning, pruned, state=TrialState.PRUNED)
    tell(tuning, failed, state=TrialState.FAILED, reason="ValueError: no")
    tell(tuning, back, state=TrialState.WAITING)
    runs = platform.client().experiments
    assert runs.get_run(pruned.run_id).status is RunStatus.CANCELED
    assert (runs.get_run(failed.run_id).status, runs.get_run(failed.run_id).reason) == (
        RunStatus.FAILED,
        "ValueError: no",
    )
    assert runs.get_run(back.run_id).status is RunStatus.SCHEDULED
    again = ask(tuning, parameters=None, holder="other").trial
    assert (again.number, again.attempt, again.parameters, again.run_id) == (back.number, 2, POINT, back.run_id)
    assert runs.get_run(back.run_id).status is RunStatus.RUNNING
    counts = tuning.get_study("s").trials
    assert (counts.total, counts.running, counts.pruned, counts.failed) == (3, 1, 1, 1)


def test_asking_and_telling_twice_is_doing_it_once(platform, tuning):
    tuning.create_study("s", space=SPACE)
    first, second = ask(tuning, key="k"), ask(tuning, key="k")
    assert first.trial == second.trial
    assert tuning.get_study("s").trials.total == 1
    assert platform.client().experiments.list_runs("s").total == 1
    for _ in range(2):
        tell(tuning, first.trial, [math.inf])
    assert tuning.get_study("s").trials.complete == 1
    with pytest.raises(TrialEnded):
        tell(tuning, first.trial, [2.0])
    with pytest.raises(TrialEnded):
        report(tuning, first.trial, {0: 1.0})
    assert tuning.get_trial("s", 0).values == [math.inf]


def test_of_two_that_choose_at_once_the_slower_chooses_again(tuning):
    tuning.create_study("s", space=SPACE)
    assert ask(tuning, holder="a", expected=0).trial.number == 0
    late = ask(tuning, holder="b", expected=0)
    assert (late.trial, late.moved) == (None, True)
    assert [trial.parameters for trial in late.changes.trials] == [POINT]
    assert ask(tuning, holder="b", expected=1, since=late.changes.cursor).trial.number == 1


def test_a_trial_is_told_with_the_next_question(tuning):
    tuning.create_study("s", space=SPACE, max_trials=2)
    first = ask(tuning).trial
    end = {"holder": "w", "attempt": 1, "state": TrialState.COMPLETE, "values": [2.0], "number": first.number}
    second = ask(tuning, key="k", ended=[end])
    assert ask(tuning, key="k", ended=[end]).trial == second.trial
    assert (second.trial.number, tuning.get_trial("s", 0).values) == (1, [2.0])
    other = ask(tuning, holder="other")
    assert (other.trial, other.stop, other.wait) == (None, "The budget of 2 trials is spent.", True)
    with pytest.raises(TrialLost):
        ask(tuning, ended=[{**end, "number": 1, "attempt": 7}])
    last = ask(tuning, ended=[{**end, "number": 1}])
    assert (last.trial, last.wait) == (None, False)
    assert tuning.get_study("s").state is StudyState.FINISHED
    assert tuning.get_study("s").trials.complete == 2


@pytest.mark.parametrize(
    "point",
    [
        {"x": 2, "kind": "a"},
        {"x": 0.5},
        {"x": 0.5, "kind": "c"},
        {"x": 0.5, "kind": "b"},
        {"x": 0.5, "kind": "b", "depth": 2},
        {"x": 0.5, "kind": "a", "depth": 1},
        {"x": True, "kind": "a"},
        {"x": 0.5, "kind": "a", "y": 1},
    ],
)
def test_a_point_outside_of_the_space_is_refused(sqlite_platform, point):
    tuning = sqlite_platform.client().tuning
    tuning.create_study("s", space=SPACE)
    with pytest.raises(ParameterOutside):
        ask(tuning, parameters=point)
    assert tuning.get_study("s").trials.total == 0


def test_what_waits_comes_first_and_is_completed_by_its_worker(tuning):
    tuning.create_study("s", space=SPACE, max_trials=2)
    queued = tuning.enqueue_trial("s", {"kind": "b"}, attributes={"by": "hand"})
    assert (queued.state, queued.run_id) == (TrialState.WAITING, None)
    taken = ask(tuning).trial
    assert (taken.number, taken.parameters) == (0, {"kind": "b"})
    tell(tuning, taken, [3.0], parameters={"x": 0.25, "depth": 3})
    assert tuning.get_trial("s", 0).parameters == {"kind": "b", "x": 0.25, "depth": 3}
    with pytest.raises(ParameterOutside):
        tuning.enqueue_trial("s", {"nothing": 1})
    second = tuning.enqueue_trial("s", POINT)
    with pytest.raises(Conflict):
        tuning.enqueue_trial("s", POINT)
    taken = ask(tuning).trial
    assert taken.number == second.number
    with pytest.raises(StudyError):
        report(tuning, taken, {}, parameters={"x": 0.75})
    assert ask(tuning).stop == "The budget of 2 trials is spent."


def test_a_study_ends_with_its_budget_and_goes_on_with_a_larger_one(platform, tuning):
    tuning.create_study("s", space=SPACE, max_trials=1)
    trial = ask(tuning).trial
    assert ask(tuning).stop == "The budget of 1 trials is spent."
    assert tuning.get_study("s").state is StudyState.RUNNING
    tell(tuning, trial, [1.0])
    ended = tuning.get_study("s")
    assert (ended.state, ended.reason) == (StudyState.FINISHED, "The budget of 1 trials is spent.")
    with pytest.raises(StudyError):
        tuning.resume_study("s")
    assert tuning.update_study("s", max_trials=2).state is StudyState.RUNNING
    assert ask(tuning).trial.number == 1
    platform.controller.turn()
    events = [e for e in platform.client().platform.stream_events(follow=False) if e.type.endswith("study_finished")]
    assert [event.data["best_value"] for event in events] == [1.0]


@pytest.mark.parametrize(
    ("bound", "values", "reason"),
    [
        ({"target": 1.0}, [3, 0.5], "The target 1 is reached."),
        ({"patience": 2}, [3, 4, 5], "2 trials brought nothing better."),
        ({"max_failures": 2}, [None, None], "2 trials failed, and 2 are the limit."),
    ],
)
def test_a_study_stops_early(tuning, bound, values, reason):
    tuning.create_study("s", space=SPACE, **bound)
    for value in values:
        trial = ask(tuning).trial
        if value is None:
            tell(tuning, trial, state=TrialState.FAILED, reason="no")
        else:
            tell(tuning, trial, [value])
    assert ask(tuning).stop == reason
    assert tuning.get_study("s").state is StudyState.FINISHED


def test_a_stopped_study_gives_out_nothing_until_it_is_resumed(tuning):
    tuning.create_study("s", space=SPACE)
    trial = ask(tuning).trial
    tuning.enqueue_trial("s", POINT)
    tuning.stop_study("s")
    assert "Stopped by" in tuning.stop_study("s").reason
    assert "Stopped by" in ask(tuning).stop
    assert "Stopped by" in report(tuning, trial, {0: 1.0}).stop
    tell(tuning, trial, [1.0])
    assert tuning.get_study("s").state is StudyState.STOPPED
    assert tuning.resume_study("s").state is StudyState.RUNNING
    assert ask(tuning).trial.number == 1


def test_a_silent_workers_trial_is_anothers_and_the_late_one_is_refused(timed):
    platform, clock = timed
    tuning, runs = platform.client().tuning, platform.client().experiments
    tuning.create_study("s", space=SPACE, lease_s=30, retries=1)
    dead, alive = ask(tuning, holder="dead").trial, ask(tuning, holder="alive").trial
    report(tuning, dead, {0: 1.0}, holder="dead")
    clock.advance(20)
    assert tuning.beat_trials("s", Beat(holder="alive", trials={alive.number: 1})).lost == []
    clock.advance(15)
    platform.controller.turn()
    waiting = tuning.get_trial("s", dead.number)
    assert (waiting.state, waiting.intermediate) == (TrialState.WAITING, {})
    assert "Not heard of for 30 s" in waiting.reason
    assert runs.get_run(dead.run_id).status is RunStatus.SCHEDULED
    again = ask(tuning, holder="alive", parameters=None).trial
    assert (again.number, again.attempt, again.parameters) == (dead.number, 2, POINT)
    for late in (report, tell):
        with pytest.raises(TrialLost):
            late(tuning, dead, {0: 1.0} if late is report else [1.0], holder="dead")
    assert tuning.beat_trials("s", Beat(holder="dead", trials={dead.number: 1})).lost == [dead.number]
    clock.advance(31)
    platform.controller.turn()
    failed = tuning.get_trial("s", dead.number)
    assert (failed.state, failed.attempt) == (TrialState.FAILED, 2)
    assert runs.get_run(dead.run_id).status is RunStatus.FAILED
    tell(tuning, again, [5.0], holder="alive")  # it was slow, not dead, and nobody else has it
    assert tuning.get_trial("s", dead.number).values == [5.0]
    assert runs.get_run(dead.run_id).status is RunStatus.FINISHED
    counts = tuning.get_study("s").trials
    assert (counts.failed, counts.complete, counts.waiting) == (0, 1, 1)


def test_a_lapsed_trial_is_taken_up_without_the_controller(timed):
    platform, clock = timed
    tuning = platform.client().tuning
    tuning.create_study("s", space=SPACE, lease_s=10)
    dead = ask(tuning, holder="dead").trial
    clock.advance(11)
    assert ask(tuning, holder="alive").trial.number == dead.number


def test_the_time_of_a_study_ends(timed):
    platform, clock = timed
    tuning = platform.client().tuning
    tuning.create_study("s", space=SPACE, max_seconds=60)
    tell(tuning, ask(tuning).trial, [1.0])
    clock.advance(61)
    assert ask(tuning).stop == "Its time of 60 s is over."
    assert tuning.get_study("s").state is StudyState.FINISHED


def test_changes_are_read_by_cursor_however_many_there_are(tuning):
    tuning.create_study("s", space=SPACE)
    for n in range(230):
        trial = ask(tuning, holder="a").trial
        if n < 5:
            report(tuning, trial, {0: float(n)}, holder="a")
        tell(tuning, trial, [float(n)], holder="a")
    last = ask(tuning, holder="a").trial
    report(tuning, last, {0: 1.0}, holder="a")
    report(tuning, last, {1: 2.0}, holder="a")
    first = tuning.list_changes("s")
    assert (len(first.trials), first.more) == (200, True)
    rest = tuning.list_changes("s", since=first.cursor, base=0)
    assert (len(rest.trials), rest.more) == (31, False)
    assert rest.trials[-1].intermediate == {0: 1.0, 1: 2.0}
    assert first.trials[3].intermediate == {0: 3.0}
    assert tuning.list_changes("s", since=rest.cursor).trials == []
    assert tuning.list_changes("s", holder="a").trials == []


def test_several_objectives_have_a_front(tuning):
    tuning.create_study("s", objectives=["loss:min", "size:min"], space=SPACE)
    for values in ([1, 5], [2, 2], [3, 3], [5, 1]):
        tell(tuning, ask(tuning).trial, values)
    found = tuning.get_best_trials("s")
    assert [trial.values for trial in found.items] == [[1, 5], [2, 2], [5, 1]]
    assert tuning.get_study("s").best_value is None
    with pytest.raises(InvalidInput):
        tell(tuning, ask(tuning).trial, [1])
    with pytest.raises(InvalidInput):
        tuning.get_importance("s", objective="nothing")
    assert "Pareto" in tuning.report_study("s")


def test_a_report_tells_the_whole_story(tuning):
    tuning.create_study("s", objectives=["accuracy:max"], space=SPACE)
    for n in range(40):
        trial = ask(tuning, parameters={"x": n / 40, "kind": "ab"[n % 2], **({"depth": 3} if n % 2 else {})}).trial
        report(tuning, trial, {0: 0.1, 1: n / 40})
        if n % 9 == 5:
            tell(tuning, trial, state=TrialState.FAILED, reason="<script>alert(1)</script>")
        elif n % 9 == 4:
            tell(tuning, trial, state=TrialState.PRUNED)
        else:
            tell(tuning, trial, [n / 40])
    assert [trial.number for trial in tuning.get_best_trials("s", limit=2).items] == [39, 38]
    assert tuning.get_importance("s").parameters[0].parameter == "x"
    page = tuning.report_study("s")
    for heading in (
        "Best trials",
        "History",
        "What mattered",
        "Parameter by parameter",
        "Two parameters",
        "What failed",
    ):
        assert heading in page
    assert "<script>" not in page
    assert "accuracy over x and kind" in page or "accuracy over kind and x" in page


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"space": {"x": {"type": "float", "low": 1, "high": 0}}}, "is empty"),
        ({"space": {"x": {"type": "float", "low": 0, "high": 1, "log": True}}}, "no logarithm"),
        ({"space": {"x": {"type": "int", "low": 1, "high": 9, "log": True, "step": 2}}}, "a step and a logarithm"),
        ({"space": {"x": {"type": "categorical", "choices": ["a", "a"]}}}, "named twice"),
        ({"space": {"x": {"type": "float", "low": 0, "high": 1, "when": {"y": [1]}}}}, "does not stand before"),
        ({"sampler": {"name": "grid"}}, "told beforehand"),
        ({"sampler": {"name": "grid"}, "space": {"x": {"type": "float", "low": 0, "high": 1}}}, "no end"),
        ({"objectives": ["a:min", "b:min"], "pruner": {"name": "median"}}, "prunes no trials"),
        ({"objectives": ["a:min", "b:min"], "patience": 3}, "need one objective"),
        ({"objectives": ["a:min", "b:min"], "sampler": {"name": "cmaes"}}, "one objective"),
    ],
)
def test_a_study_that_could_not_run_is_refused(sqlite_platform, fields, said):
    with pytest.raises(InvalidInput, match=said):
        sqlite_platform.client().tuning.create_study("s", **fields)


def test_who_may_not_write_neither_asks_nor_makes_studies(sqlite_platform):
    from modelops.contracts.errors import PermissionDenied

    sqlite_platform.client().tuning.create_study("s", space=SPACE)
    viewer = sqlite_platform.member("viewer").tuning
    assert viewer.get_study("s").name == "s"
    for forbidden in (lambda: viewer.create_study("t"), lambda: ask(viewer), lambda: viewer.stop_study("s")):
        with pytest.raises(PermissionDenied):
            forbidden()
    with pytest.raises(NotFound):
        ask(sqlite_platform.stranger().tuning)

"""Programs that take quick trials in blocks: the study is that of one trial after the other, whatever happens in between."""

import threading

import pytest

from modelops import HyperparameterTuning, TrialPruned
from modelops.domains.tuning.schemas import StudyState, TrialAsk, TrialState
from modelops.sdk.tuning import blocks
from modelops.sdk.tuning.sampling import Sampling
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform
from modelops.testing.waiting import wait_for

SPACE = {"x": (-5.0, 5.0), "kind": ["a", "b"], "depth": (1, 6)}


def bowl(trial):
    return (trial["x"] - 1) ** 2 + (trial["kind"] == "a") + abs(trial["depth"] - 3)


def course(trial):
    for step in range(6):
        trial.report(trial["x"] ** 2 + 1 / (step + 1), step)
        if trial.should_prune():
            raise TrialPruned
    return trial["x"] ** 2


def conditional(trial):
    x = trial.suggest_float("x", -5, 5)
    return x**2 * trial.suggest_int("power", 1, 3) if trial.suggest_categorical("steep", [True, False]) else x**2


def story(tuning):
    return [(one.number, one.state, one.parameters, one.values, one.intermediate) for one in tuning.trials]


@pytest.fixture
def platform(tmp_path):
    clock = VirtualClock()
    with running_platform(tmp_path / "home", clock=clock) as platform:
        platform.clock_of_test = clock
        yield platform


@pytest.fixture
def tune(platform, monkeypatch):
    monkeypatch.setattr(blocks, "WINDOW_S", 30.0)  # a loaded machine is no reason for small blocks

    def make(name="s", objective=bowl, space=SPACE, **options):
        told = {"backend": platform.client(), "n_trials": 40, "seed": 1, "sampler": "random", **options}
        return HyperparameterTuning(name, objective, space, **told)

    return make


@pytest.fixture
def asked(monkeypatch):
    """How many trials each request was given."""
    sizes = []
    opened = blocks.Block.open

    def note(self, numbers):
        sizes.append(len(numbers))
        opened(self, numbers)

    monkeypatch.setattr(blocks.Block, "open", note)
    return sizes


def one_by_one(monkeypatch, tuning):
    with monkeypatch.context() as only:
        only.setattr(blocks.Block, "next_size", lambda self, most: 1)
        return tuning.optimize()


@pytest.mark.parametrize(
    ("objective", "space", "options"),
    [
        (bowl, SPACE, {"sampler": "tpe"}),
        (bowl, SPACE, {"sampler": "nsga2"}),
        (bowl, SPACE, {"sampler": "qmc"}),
        (conditional, None, {"sampler": "tpe"}),
        (course, SPACE, {"sampler": "tpe", "pruner": {"name": "median", "options": {"n_startup_trials": 3}}}),
        (course, SPACE, {"sampler": "random", "pruner": "successive_halving"}),
    ],
)
def test_blocks_make_the_study_that_single_trials_make(tune, monkeypatch, asked, objective, space, options):
    whole = one_by_one(monkeypatch, tune("whole", objective, space, **options))
    assert not asked
    for most in (17, 9, None):
        parts = tune("parts", objective, space, **options).optimize(most=most)
    assert max(asked) > 8
    assert [one[1:] for one in story(parts)] == [one[1:] for one in story(whole)]
    assert [one[0] for one in story(parts)] == list(range(40))
    assert parts.study.trials == whole.study.trials
    assert (parts.study.state, parts.study.best_number) == (StudyState.FINISHED, whole.study.best_number)


def test_ctrl_c_in_a_block_leaves_nothing_behind_and_the_study_goes_on_as_if_it_had_not_been(tune, monkeypatch, asked):
    whole = one_by_one(monkeypatch, tune("whole", sampler="tpe"))

    def interrupted(trial):
        if trial.number == 13 and trial.attempt == 1:
            raise KeyboardInterrupt
        return bowl(trial)

    with pytest.raises(KeyboardInterrupt):
        tune("parts", interrupted, sampler="tpe").optimize()
    counts = tune("parts").study.trials
    assert (counts.total, counts.complete, counts.waiting, counts.running) == (14, 13, 1, 0)
    parts = tune("parts", interrupted, sampler="tpe").optimize()
    assert max(asked) > 8
    assert story(parts) == story(whole)


@pytest.mark.parametrize("lost_at", [7, 12])
def test_what_a_killed_program_had_not_told_is_tried_again_as_it_would_have_been(
    tune, platform, monkeypatch, asked, lost_at
):
    whole = one_by_one(monkeypatch, tune("whole", sampler="tpe"))
    study = tune("parts", sampler="tpe").study
    dead = Sampling(platform.client(), study, holder="dead")
    monkeypatch.setattr(dead, "_start_beats", lambda: None)
    dead.allow_blocks()
    trial = dead.ask(None)
    while trial.number < lost_at:
        trial = dead.go_on(trial, TrialState.COMPLETE, [bowl(trial)], None)
    dead._lookout.close()  # its last sign of life
    left = tune("parts").study.trials
    assert left.running > 1
    assert left.complete <= lost_at
    platform.clock_of_test.advance(61)
    platform.controller.turn()
    parts = tune("parts", sampler="tpe").optimize()
    assert story(parts) == story(whole)


def test_a_trial_that_takes_longer_is_told_of_while_it_runs(tune, platform, monkeypatch):
    monkeypatch.setattr(blocks, "WINDOW_S", 0.05)
    monkeypatch.setattr(blocks.Block, "next_size", lambda self, most: 8)
    client, seen = platform.client(), []

    def objective(trial):
        if trial.number == 11:
            wait_for(lambda: client.tuning.get_trial("s", 11).run_id is not None, within_s=60)
            seen.append(client.tuning.get_study("s").trials)
            seen.append(client.tuning.get_trial("s", 11).parameters)
            assert client.tuning.get_trial("s", 11).run_id == trial.run_id
        return bowl(trial)

    tuning = tune(objective=objective, n_trials=20).optimize()
    assert (seen[0].complete, seen[0].running, seen[0].total) == (11, 1, 12)
    assert seen[1] == tuning.trials[11].parameters
    assert tuning.study.trials.complete == 20
    assert [trial.attempt for trial in tuning.trials] == [1] * 20


def test_a_trial_of_a_block_has_its_run_when_the_objective_wants_it(tune, platform):
    client = platform.client()

    def objective(trial):
        if trial.number % 5 == 3:
            client.experiments.log_batch(trial.run_id, tags={"mark": str(trial.number)})
        return bowl(trial)

    heard = []
    tuning = tune(objective=objective, n_trials=12)
    study = tuning.study
    tuning._run_here(study, lambda trial, state, values: heard.append((trial.number, trial.run_id)), None)
    trials = tuning.trials
    assert heard == [(trial.number, trial.run_id) for trial in trials]
    marked = [client.experiments.get_run(trial.run_id).tags.get("mark") for trial in trials]
    assert [mark for mark in marked if mark] == ["3", "8"]
    assert client.experiments.list_runs("s").total == 12


@pytest.mark.parametrize(
    ("bounds", "total"),
    [({"target": 0.9}, 12), ({"patience": 6}, 12), ({"max_failures": 2}, 14)],
)
def test_a_study_stops_within_a_block_where_it_would_have_stopped(tune, asked, bounds, total):
    def objective(trial):
        if trial.number in (9, 13) and "max_failures" in bounds:
            raise ValueError("no luck")
        return {5: 1.0, 11: 0.5 if "target" in bounds else 3.0}.get(trial.number, 2.0)

    tuning = tune(objective=objective, **bounds).optimize()
    assert tuning.study.trials.total == len(tuning.trials) == total
    assert tuning.study.state is StudyState.FINISHED
    assert asked


def test_two_programs_share_a_study_though_each_would_take_blocks(tune):
    programs = [tune(sampler="qmc", n_trials=60) for _ in range(3)]
    assert programs[0].study.trials.total == 0
    threads = [threading.Thread(target=one.optimize) for one in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trials = programs[0].trials
    assert [trial.number for trial in trials] == list(range(60))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len({trial.parameters["x"] for trial in trials}) == 60


def test_one_trial_that_was_taken_away_takes_no_other_end_with_it(tune, platform):
    study = tune().study
    thief = platform.client().tuning
    with Sampling(platform.client(), study, holder="slow") as slow:
        slow.allow_blocks()
        trial = slow.ask(None)
        while trial.number < 8:
            trial = slow.go_on(trial, TrialState.COMPLETE, [bowl(trial)], None)
        platform.clock_of_test.advance(61)
        platform.controller.turn()
        untold = [one.number for one in tune().trials if one.number < 8 and one.state is TrialState.WAITING]
        assert len(untold) > 1
        stolen = thief.ask_trial(study.id, TrialAsk(holder="thief", key="k")).trial
        assert (stolen.number, stolen.attempt) == (untold[0], 2)
        following = slow.go_on(trial, TrialState.COMPLETE, [bowl(trial)], None)
        slow.tell(following, TrialState.COMPLETE, [bowl(following)])
    states = [one.state for one in tune().trials[:10]]
    assert states.pop(stolen.number) is TrialState.RUNNING
    assert set(states) == {TrialState.COMPLETE}

"""`HyperparameterTuning` on a platform: samplers, pruners, workers, and going on where another left off."""

import asyncio
import importlib.util
import io
import threading
import warnings

import numpy as np
import optuna
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelops import HyperparameterTuning, TrialPruned
from modelops.contracts.errors import InvalidInput, MissingExtra, NotFound
from modelops.domains.tuning.rules import StudyError
from modelops.domains.tuning.schemas import StudyState, TrialState
from modelops.sdk.tuning.sampling import Sampling

SPACE = {"x": (-5.0, 5.0), "kind": ["a", "b"], "depth": (1, 6)}


def bowl(trial):
    return (trial["x"] - 1) ** 2 + (trial["kind"] == "a") + abs(trial["depth"] - 3)


def conditional(trial):
    x = trial.suggest_float("x", -5, 5)
    if trial.suggest_categorical("kind", ["flat", "steep"]) == "steep":
        return x**2 * trial.suggest_int("power", 1, 3)
    return x**2


def points(tuning):
    return [(trial.parameters, trial.values) for trial in tuning.trials]


@pytest.fixture
def tune(sqlite_platform):
    client = sqlite_platform.client()

    def make(name="s", objective=bowl, space=SPACE, **options):
        return HyperparameterTuning(name, objective, space, **{"backend": client, "n_trials": 12, "seed": 1, **options})

    return make


def test_the_best_is_found_and_told_in_every_way(tune, tmp_path, sqlite_platform):
    tuning = tune(n_trials=30).optimize()
    best = min(trial.values[0] for trial in tuning.trials)
    assert tuning.best_value == best == tuning.best_trials[0].values[0]
    assert bowl(tuning.best_params) == best
    frame = tuning.trials_dataframe()
    assert len(frame) == 30
    assert frame["value"].min() == best
    assert {"params_x", "params_kind", "state", "run_id"} <= set(frame.columns)
    assert tuning.importance().parameters
    assert "</html>" in tuning.report(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == tuning.report() or "Study s" in tuning.report()
    assert tuning.study.state is StudyState.FINISHED
    assert sqlite_platform.client().experiments.list_runs("s").total == 30


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsga2", "nsga3", "grid"])
def test_a_study_that_another_process_goes_on_with_is_the_same(tune, sampler):
    space = {"x": (-4.0, 4.0, 1.0), "kind": ["a", "b"], "depth": (1, 6)}
    whole = tune("whole", space=space, sampler=sampler, n_trials=24).optimize()
    for _ in range(3):
        tune("parts", space=space, sampler=sampler, n_trials=24).optimize(most=8)
    assert points(tune("parts", space=space)) == points(whole)


def test_a_study_that_says_itself_what_it_tries_goes_on_too(tune):
    whole = tune("whole", conditional, None, n_trials=24).optimize()
    for _ in range(3):
        tune("parts", conditional, None, n_trials=24).optimize(most=8)
    assert points(tune("parts", conditional, None)) == points(whole)
    steep = [trial for trial in whole.trials if trial.parameters["kind"] == "steep"]
    assert steep
    assert all(("power" in trial.parameters) == (trial in steep) for trial in whole.trials)


@pytest.mark.slow
def test_gaussian_processes_find_a_bowl_and_can_be_gone_on_with(tune):
    space = {"x": (-5.0, 5.0)}
    objective = lambda trial: (trial["x"] - 1) ** 2  # noqa: E731
    tune(objective=objective, space=space, sampler="gp", n_trials=14).optimize(most=12)
    tuning = tune(objective=objective, space=space, sampler="gp", n_trials=14).optimize()
    assert len(tuning.trials) == 14
    assert tuning.best_value < 0.1


def test_cmaes_finds_a_bowl_where_its_package_is_and_else_says_so(tune):
    tuning = tune(
        objective=lambda t: (t["x"] - 1) ** 2 + t["y"] ** 2, space={"x": (-5.0, 5.0), "y": (-5.0, 5.0)}, sampler="cmaes"
    )
    if importlib.util.find_spec("cmaes") is None:
        with pytest.raises(MissingExtra, match="cmaes"):
            tuning.optimize()
        assert tuning.trials == []
    else:
        assert tuning.optimize().study.trials.complete == 12


def test_a_grid_is_walked_once_and_ends(tune):
    tuning = tune(
        space={"kind": ["a", "b"], "depth": (1, 3), "x": (0.0, 1.0, 0.5)}, sampler="grid", n_jobs=3
    ).optimize()
    found = {tuple(sorted(trial.parameters.items())) for trial in tuning.trials}
    assert len(found) == 12 == len(tuning.trials)  # the budget bounds it; the whole would be 18
    space = {"kind": ["a", "b"], "depth": (1, 3)}
    tuning = tune("whole", lambda trial: trial["depth"], space, sampler="grid", n_trials=None).optimize()
    assert len({tuple(sorted(trial.parameters.items())) for trial in tuning.trials}) == 6 == len(tuning.trials)


@pytest.mark.parametrize("sampler", ["tpe", "qmc"])
def test_workers_at_once_never_take_a_point_twice(tune, sampler, sqlite_platform):
    tuning = tune(sampler=sampler, n_trials=60, n_jobs=2)
    study = tuning.study
    clients = [sqlite_platform.client() for _ in range(3)]
    apart = [HyperparameterTuning("s", bowl, backend=client, n_jobs=2) for client in clients]
    threads = [threading.Thread(target=one.optimize) for one in apart]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trials = tuning.trials
    assert [trial.number for trial in trials] == list(range(60))
    assert len({trial.parameters["x"] for trial in trials}) == 60
    assert len({trial.holder for trial in trials}) > 1
    assert tuning.study.trials.complete == 60
    assert study.id == tuning.study.id


def course(trial):
    for step in range(10):
        trial.report(trial["x"] ** 2 + 1 / (step + 1), step)
        if trial.should_prune():
            raise TrialPruned
    return trial["x"] ** 2


@pytest.mark.parametrize(
    "pruner",
    [
        {"name": "median", "options": {"n_startup_trials": 2}},
        {"name": "percentile", "options": {"percentile": 50, "n_startup_trials": 2}},
        "hyperband",
        "successive_halving",
        {"name": "threshold", "options": {"upper": 5.0}},
        {"name": "patient", "options": {"wrapped_pruner": {"name": "median", "options": {"n_startup_trials": 2}}, "patience": 1}},
        "wilcoxon",
    ],
)  # fmt: skip
def test_pruners_end_what_is_hopeless(tune, pruner):
    tuning = tune(objective=course, pruner=pruner, sampler="random", n_trials=20).optimize()
    study = tuning.study
    assert study.trials.complete + study.trials.pruned == 20
    assert study.trials.complete > 0
    pruned = [trial for trial in tuning.trials if trial.state is TrialState.PRUNED]
    assert all(trial.values is None and trial.intermediate for trial in pruned)
    assert pruned or pruner in ("hyperband", "wilcoxon") or pruner["name"] == "patient"  # all go down without a pause


def test_an_objective_written_for_optuna_works_as_it_is(tune):
    def objective(trial):
        x = trial.suggest_float("x", 0.1, 10, log=True)
        trial.set_user_attr("square", x * x)
        trial.report(x, 0)
        if trial.number == 2:
            raise optuna.TrialPruned
        return x

    tuning = tune(objective=objective, space=None, n_trials=5, direction="maximize").optimize()
    assert [trial.state for trial in tuning.trials].count(TrialState.PRUNED) == 1
    assert all(trial.attributes["square"] == trial.parameters["x"] ** 2 for trial in tuning.trials)
    assert tuning.best_value == max(trial.values[0] for trial in tuning.trials if trial.values)


def test_a_failed_trial_does_not_end_the_study_unless_told_to(tune):
    def objective(trial):
        if trial.number % 3 == 1:
            raise RuntimeError("out of luck")
        return float("nan") if trial.number == 3 else trial["x"]

    tuning = tune(objective=objective).optimize()
    failed = [trial for trial in tuning.trials if trial.state is TrialState.FAILED]
    assert [trial.number for trial in failed] == [1, 3, 4, 7, 10]
    assert failed[0].reason == "RuntimeError: out of luck"
    assert "NaN" in failed[1].reason
    with pytest.raises(StudyError, match="out of luck"):
        tune("strict", objective=objective, on_failure="raise").optimize()
    assert len(tune("strict").trials) == 2


def test_an_objective_that_always_fails_does_not_burn_the_budget(tune):
    def objective(trial):
        raise ValueError("misspelt")

    with pytest.raises(StudyError, match="misspelt"):
        tune(objective=objective, n_trials=1000).optimize()
    assert len(tune().trials) == 5


def test_an_interrupted_study_goes_on_where_it_was(tune):
    def objective(trial):
        if trial.number == 4 and not seen:
            seen.append(trial.params)
            raise KeyboardInterrupt
        return bowl(trial)

    seen = []
    with pytest.raises(KeyboardInterrupt):
        tune(objective=objective).optimize()
    waiting = tune().trials[4]
    assert (waiting.state, waiting.parameters) == (TrialState.WAITING, seen[0])
    tuning = tune(objective=objective).optimize()
    assert (tuning.trials[4].parameters, tuning.trials[4].attempt) == (seen[0], 2)
    assert tuning.study.trials.complete == 12


def test_known_points_are_tried_first_and_completed(tune):
    tuning = tune(n_trials=3)
    tuning.enqueue({"x": 1.0, "kind": "b", "depth": 3})
    tuning.enqueue({"kind": "b"})
    tuning.optimize()
    first, second, _ = tuning.trials
    assert first.values == [0.0]
    assert second.parameters["kind"] == "b"
    assert set(second.parameters) == set(SPACE)


def test_several_objectives(tune):
    tuning = tune(
        objective=lambda trial: (trial["x"] ** 2, (trial["x"] - 2) ** 2),
        direction=["minimize", "minimize"],
        metric=["near", "far"],
        sampler="nsga2",
        n_trials=30,
    ).optimize()
    front = tuning.best_trials
    assert front
    assert all(not any(a.values[0] < b.values[0] and a.values[1] < b.values[1] for a in front) for b in front)
    with pytest.raises(StudyError):
        _ = tuning.best_trial
    assert tuning.importance("far").metric == "far"


def test_an_estimator_is_tuned_fold_by_fold(tune, sqlite_platform):
    inputs, targets = make_classification(120, 6, random_state=0)
    tuning = HyperparameterTuning.for_estimator(
        "svc",
        make_pipeline(StandardScaler(), LogisticRegression()),
        {"logisticregression__C": (1e-3, 1e2, "log")},
        inputs,
        targets,
        cv=4,
        pruner="median",
        n_trials=8,
        backend=sqlite_platform.client(),
    ).optimize()
    best = tuning.best_trial
    assert np.mean(best.attributes["scores"]) == tuning.best_value
    assert list(best.intermediate) == [0, 1, 2, 3]
    assert tuning.best_value > 0.5


def test_a_study_is_not_mistaken_for_another(tune):
    tune().optimize(most=1)
    with pytest.raises(StudyError, match="another space"):
        tune(space={"x": (0.0, 1.0)}).optimize()
    with pytest.raises(StudyError, match="other objectives"):
        tune(direction="maximize").optimize()
    tune().stop()
    with pytest.raises(StudyError, match="is stopped"):
        tune().optimize()


def test_what_is_wrong_is_told(tune):
    for wrong in ({"sampler": "guess"}, {"pruner": "axe"}, {"workers": "ants"}, {"on_failure": "cry"}, {"n_jobs": 0}):
        with pytest.raises(InvalidInput):
            tune(**wrong)
    with pytest.raises(InvalidInput, match="name the `objective`"):
        tune(objective=None).optimize()
    with pytest.raises(InvalidInput, match="does not take these options"):
        tune("options", sampler={"name": "random", "options": {"nonsense": 1}}).optimize()
    with pytest.raises(NotFound, match="complete"):
        _ = tune("empty").best_trial
    with pytest.raises(InvalidInput, match="module:function"):
        tune("jobs", workers="jobs").optimize()
    with pytest.raises(InvalidInput, match="cannot be handed"):
        tune("processes", threading.Lock().__enter__, workers="processes", n_jobs=2).optimize()


def test_it_runs_beside_an_event_loop(tune):
    assert len(asyncio.run(tune().run()).trials) == 12


def test_progress_is_shown_where_a_person_looks(tune):
    from rich.console import Console

    from modelops.sdk.tuning.progress import shown

    tuning = tune()
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=120)
    with shown(tuning.study, enabled=True, console=console) as watch:
        tuning._run_here(tuning.study, watch, None)
    assert "12/12" in written.getvalue()
    assert "best value" in written.getvalue()


def test_a_lost_trial_is_dropped_and_its_worker_goes_on(tune, sqlite_platform):
    tuning = tune(n_trials=4)
    study = tuning.study
    with Sampling(sqlite_platform.client(), study, holder="slow") as slow:
        trial = slow.ask()
        sqlite_platform.client().tuning.tell_trial(
            study.id, trial.number, {"holder": "x", "attempt": 1, "state": "waiting"}
        )
        tuning.optimize()
        with pytest.raises(StudyError):
            slow.tell(trial, TrialState.COMPLETE, [1.0])
        slow.drop(trial)
        assert slow.ask() is None
    assert tuning.study.trials.complete == 4


def test_missing_optuna_is_told(tune, monkeypatch):
    def without(name):
        raise ModuleNotFoundError("No module named 'optuna'", name="optuna")

    monkeypatch.setattr(importlib, "import_module", without)
    with warnings.catch_warnings(), pytest.raises(MissingExtra, match="optuna"):
        tune().optimize()

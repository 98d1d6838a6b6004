"""`HyperparameterTuning`: an objective, a space and a budget; what is best, and what mattered."""

import asyncio
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from modelops.contracts.errors import AlreadyExists, InvalidInput, MissingExtra, NotFound
from modelops.domains.experiments.analysis_rules import read_direction
from modelops.domains.experiments.analysis_schemas import Objective, ParameterImportance
from modelops.domains.tuning.rules import StudyError
from modelops.domains.tuning.schemas import Pruner, Sampler, Study, StudyState, Trial
from modelops.sdk.client import Client
from modelops.sdk.connected import Connected

if TYPE_CHECKING:
    import pandas as pd

OnFailure = str
_WAYS = ("threads", "processes", "jobs")


class HyperparameterTuning(Connected):
    """Tunes an objective. A study of the name is gone on with; otherwise it is made at the first need.

    Args:
        name: The study's name.
        objective: Called with a trial; returns its value, or one for each direction. For processes, something that can be
            pickled; for jobs, `module:function` of a package that is installed where jobs run.
        space: The ranges: `{"lr": (1e-5, 1e-1, "log"), "depth": (2, 10), "kind": ["a", "b"]}`. None where the objective
            asks for each parameter (`trial.suggest_float`), such as one that depends on another.
        direction: `minimize` or `maximize`; several for several objectives.
        n_trials: How many trials the study may have in all.
        n_jobs: How many trials are run at once.
        sampler: `tpe`, `random`, `grid`, `qmc`, `gp`, `cmaes`, `nsga2`, `nsga3`; or a dict with `options`.
        pruner: `median`, `percentile`, `hyperband`, `successive_halving`, `threshold`, `patient`, `wilcoxon`; or a dict.
        timeout: For how many seconds trials may begin.
        experiment: Where the trials' runs are; by default, under the study's name.
        metric: What the objective's values are called in runs; a name each for several.
        seed: The sampler's seed.
        workers: What runs `n_jobs` trials: `threads`, `processes` or `jobs`.
        dataset: The dataset that jobs are submitted with, where the platform asks for one.
        job_options: What jobs are submitted with besides: `resources`, `queue`, `pool`, `priority`.
        on_failure: `continue` leaves the study going when a trial fails, `raise` ends it.
        backend: A client, a platform's address, or None for the one of the settings.
        project: The project, where `backend` is no client.
        budget: Further bounds and facts of the study: `target`, `patience`, `max_failures`, `retries`, `lease_s`, `tags`.
    """

    def __init__(
        self,
        name: str,
        objective: Callable[[Any], float | Sequence[float]] | str | None = None,
        space: Mapping[str, Any] | None = None,
        direction: str | Sequence[str] = "minimize",
        n_trials: int | None = None,
        n_jobs: int = 1,
        sampler: str | Mapping[str, Any] = "tpe",
        pruner: str | Mapping[str, Any] | None = None,
        timeout: float | None = None,
        experiment: str | None = None,
        *,
        metric: str | Sequence[str] | None = None,
        seed: int | None = None,
        workers: str = "threads",
        dataset: str | None = None,
        job_options: Mapping[str, Any] | None = None,
        on_failure: OnFailure = "continue",
        backend: Client | str | None = None,
        project: str | None = None,
        **budget: Any,
    ) -> None:
        super().__init__(backend, project=project)
        if workers not in _WAYS:
            raise InvalidInput(f"'{workers}' is no way to run trials.", hint=f"Take one of {', '.join(_WAYS)}.")
        if on_failure not in ("continue", "raise"):
            raise InvalidInput("`on_failure` is 'continue' or 'raise'.")
        if n_jobs < 1:
            raise InvalidInput("`n_jobs` is at least 1.")
        self.name = name
        self.objective = objective
        self.n_jobs = n_jobs
        self.workers = workers
        self.dataset = dataset
        self.job_options = dict(job_options or {})
        self.on_failure = on_failure
        self._backend_url = backend if isinstance(backend, str) else None
        self._fields: dict[str, Any] = {
            "objectives": _objectives(direction, metric),
            "space": space,
            "sampler": _named(sampler, Sampler, seed=seed),
            "pruner": _named(pruner or "none", Pruner),
            "max_trials": n_trials,
            "max_seconds": timeout,
            "experiment": experiment,
            **budget,
        }
        self._study_id: str | None = None

    @property
    def study(self) -> Study:
        """Return the study as it is now; it is made at the first need."""
        if self._study_id is None:
            self._study_id = self._find_or_make().id
        return self.client.tuning.get_study(self._study_id)

    def _find_or_make(self) -> Study:
        try:
            return self._agreed(self.client.tuning.get_study(self.name))
        except NotFound:
            space = self._fields["space"]
            read = None if space is None else _module("ranges").read_space(space)
            try:
                aims = [f"{one.metric}:{one.direction}" for one in self._fields["objectives"]]
                fields = {**self._fields, "space": read, "objectives": aims}
                return self.client.tuning.create_study(self.name, **fields)
            except AlreadyExists:  # by another worker, at the same moment
                return self._agreed(self.client.tuning.get_study(self.name))

    def _agreed(self, study: Study) -> Study:
        """Return a study that is there already, given a larger budget if that is what was asked for.

        Raises:
            StudyError: it is of another space or other objectives.
        """
        space = self._fields["space"]
        if space is not None:
            wanted = Study.model_validate({**study.model_dump(), "space": _module("ranges").read_space(space)}).space
            if wanted != study.space:
                raise StudyError(
                    f"The study '{self.name}' has another space.", hint="Choose another name, or leave the space out."
                )
        if [one.direction for one in study.objectives] != [one.direction for one in self._fields["objectives"]]:
            raise StudyError(f"The study '{self.name}' has other objectives.", hint="Choose another name.")
        wider = {
            name: self._fields[name]
            for name in ("max_trials", "max_seconds")
            if self._fields[name] is not None and self._fields[name] > (getattr(study, name) or 0)
        }
        return self.client.tuning.update_study(study.id, **wider) if wider else study

    def optimize(self, *, progress: bool | None = None, most: int | None = None) -> Self:
        """Run trials until the budget is spent, and return this. A study that was interrupted is gone on with.

        Ctrl-C gives the trials under way back, and the study can be gone on with.

        Args:
            progress: Show a bar and the latest trials of this process; by default on a terminal.
            most: How many trials this call runs at most.

        Raises:
            ObjectiveFailed: a trial failed and `on_failure` is `raise`; or each of the first ones did.
            MissingExtra: Optuna is not installed.
        """
        study = self.study
        if study.state is StudyState.STOPPED:
            raise StudyError(
                f"The study '{self.name}' is stopped: {study.reason}", hint=f"mops studies resume-study {self.name}"
            )
        if self.workers == "jobs":
            _module("spreading").run_jobs(self, study)
        elif self.workers == "processes" and self.n_jobs > 1:
            _module("spreading").run_processes(self, study, most)
        else:
            enabled = sys.stderr.isatty() if progress is None else progress
            with _module("progress").shown(study, enabled=enabled) as watch:
                self._run_here(study, watch, most)
        return self

    def _run_here(self, study: Study, watch: Any, most: int | None) -> None:
        objective = self.objective
        if isinstance(objective, str):
            objective = _module("spreading").load_objective(objective)
        if objective is None:
            raise InvalidInput("There is nothing to tune: name the `objective`.")
        working = _module("working")
        with _module("sampling").Sampling(self.client, study) as sampling:
            workers = working.Workers(sampling, objective, go_on=self.on_failure == "continue", watch=watch, most=most)
            workers.run(self.n_jobs)

    async def run(self) -> Self:
        """Run `optimize` beside an event loop."""
        return await asyncio.to_thread(self.optimize)

    def enqueue(self, parameters: Mapping[str, Any]) -> Trial:
        """Have a point tried before those that the sampler chooses; what it leaves open is chosen."""
        return self.client.tuning.enqueue_trial(self.study.id, parameters)

    def stop(self) -> Study:
        """Stop the study for every worker; trials under way end."""
        return self.client.tuning.stop_study(self.study.id)

    @property
    def best_trial(self) -> Trial:
        """Return the best trial.

        Raises:
            NotFound: none is complete.
            StudyError: there are several objectives.
        """
        study = self.study
        if len(study.objectives) > 1:
            raise StudyError("A study of several objectives has no best trial.", hint="Take `best_trials`.")
        if study.best_number is None:
            raise NotFound(f"No trial of the study '{self.name}' is complete.", hint="Run `optimize` first.")
        return self.client.tuning.get_trial(study.id, study.best_number)

    @property
    def best_trials(self) -> list[Trial]:
        """Return the best trials, best first; of several objectives, the Pareto front."""
        return self.client.tuning.get_best_trials(self.study.id, limit=1_000).items

    @property
    def best_params(self) -> dict[str, Any]:
        """Return the best trial's parameters. Raises as `best_trial`."""
        return dict(self.best_trial.parameters)

    @property
    def best_value(self) -> float:
        """Return the best trial's value. Raises as `best_trial`."""
        values = self.best_trial.values
        if values is None:
            raise NotFound("The best trial has no value.")
        return values[0]

    @property
    def trials(self) -> list[Trial]:
        """Return every trial by number."""
        found: list[Trial] = []
        cursor: str | None = None
        while True:
            page = self.client.tuning.list_trials(self.study.id, limit=1_000, cursor=cursor)
            found += page.items
            if (cursor := page.next_cursor) is None:
                return found

    def trials_dataframe(self) -> "pd.DataFrame":
        """Return a row a trial: `number`, `state`, a column for each objective, `params_<name>`, times, `run_id`."""
        pandas: Any = _import("pandas", "sklearn")
        metrics = [one.metric for one in self.study.objectives]
        rows = [
            {
                "number": trial.number,
                "state": str(trial.state),
                **dict(zip(metrics, trial.values or (None,) * len(metrics), strict=True)),
                **{f"params_{name}": value for name, value in trial.parameters.items()},
                "started_at": trial.started_at,
                "ended_at": trial.ended_at,
                "run_id": trial.run_id,
                "reason": trial.reason,
            }
            for trial in self.trials
        ]
        frame: pd.DataFrame = pandas.DataFrame(rows)
        return frame

    def importance(self, objective: str | None = None) -> ParameterImportance:
        """Tell which parameters an objective depends on, or why that cannot be told."""
        return self.client.tuning.get_importance(self.study.id, objective=objective)

    def report(self, file: Path | str | None = None) -> str:
        """Return a report as one HTML file, with history, importance and plots; with `file`, also write it there."""
        text = self.client.tuning.report_study(self.study.id)
        if file is not None:
            Path(file).write_text(text, encoding="utf-8")
        return text

    @classmethod
    def for_estimator(
        cls,
        name: str,
        estimator: Any,
        space: Mapping[str, Any],
        inputs: Any,
        targets: Any,
        *,
        cv: Any = 5,
        scoring: Any = None,
        **options: Any,
    ) -> Self:
        """Return the tuning of a scikit-learn estimator by cross-validation, fold by fold, so that pruners see each.

        Args:
            name: The study's name.
            estimator: It is cloned for each fold; the space names its parameters, such as `svc__C` in a pipeline.
            space: As of `HyperparameterTuning`.
            inputs: Shape (rows, columns).
            targets: Shape (rows,).
            cv: Folds, as scikit-learn takes them.
            scoring: A scorer or its name; by default the estimator's own. More is better.
            options: Further arguments of `HyperparameterTuning`.
        """
        estimators = _module("estimators")
        objective = estimators.CrossValidated(estimator, inputs, targets, cv=cv, scoring=scoring)
        return cls(name, objective, space, **{"direction": "maximize", "metric": "score", **options})


def _objectives(direction: str | Sequence[str], metric: str | Sequence[str] | None) -> list[Objective]:
    ways = [direction] if isinstance(direction, str) else list(direction)
    if metric is None:
        names = ["value"] if len(ways) == 1 else [f"value_{n}" for n in range(len(ways))]
    else:
        names = [metric] if isinstance(metric, str) else list(metric)
    if len(names) != len(ways):
        raise InvalidInput(f"There are {len(ways)} directions and {len(names)} metrics.")
    return [Objective(metric=name, direction=read_direction(way)) for name, way in zip(names, ways, strict=True)]


def _named(given: str | Mapping[str, Any], kind: type[Sampler] | type[Pruner], **fields: Any) -> Any:
    """Return a sampler or pruner: by name, or as a dict of `name` and `options`."""
    told = {"name": given} if isinstance(given, str) else dict(given)
    names = kind.model_fields["name"].annotation
    if told.get("name") not in [str(one) for one in names]:  # type: ignore[union-attr]
        raise InvalidInput(
            f"There is no {kind.__name__.lower()} '{told.get('name')}'.",
            hint=f"Take one of {', '.join(names)}.",  # type: ignore[arg-type]
        )
    return kind.model_validate({**told, **{name: value for name, value in fields.items() if value is not None}})


def _module(name: str) -> Any:
    """Import a part of this room that needs Optuna."""
    return _import(f"modelops.sdk.tuning.{name}", "tuning")


def _import(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name is not None and missing.name.startswith("modelops"):
            raise
        raise MissingExtra(
            f"'{missing.name}' is not installed.", hint=f"Install it: pip install 'modelops[{extra}]'"
        ) from missing

"""Comparing what was tried, and choosing the best of it.

comparison = compare_experiments("churn", metric="accuracy", objectives={"latency_ms": "min"})
print(comparison)
comparison.report("churn.html")

best = get_best_model(metric="accuracy", direction="max", constraints={"latency_ms": "<= 20"}, experiment="churn")
model = best.load()
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelops.contracts.errors import ExperimentError, NotFound
from modelops.contracts.ids import id_pattern
from modelops.contracts.schemas import Json
from modelops.domains.experiments.analysis_rules import (
    both,
    constraint_filter,
    metric_field,
    read_direction,
    read_objectives,
)
from modelops.domains.experiments.analysis_schemas import (
    Direction,
    MetricBuckets,
    ParameterImportance,
    RunComparison,
    Significance,
)
from modelops.domains.experiments.schemas import Run
from modelops.domains.models.schemas import ModelVersion
from modelops.sdk.client import Client
from modelops.sdk.registry import ModelRegistry

if TYPE_CHECKING:
    from modelops.domains.models.flavours import Predictor

_RUN_ID = re.compile(id_pattern("run"))
_MOST_RUNS = 200

Backend = Client | str | None


def compare_experiments(
    *experiments: str,
    metric: str | None = None,
    direction: str = "max",
    objectives: Mapping[str, str] | None = None,
    baseline: str | None = None,
    filter: str | None = None,  # noqa: A002 - as everywhere
    limit: int = 100,
    backend: Backend = None,
    project: str | None = None,
) -> "ExperimentComparison":
    """Compare the runs of experiments, or single runs.

    Args:
        experiments: Experiments by name or id, and runs by id.
        metric: What the runs are judged by; brings the importance of parameters and paired tests, and the best runs first.
        direction: Whether more of it is better (`max`) or less (`min`).
        objectives: Further metrics and their directions; two or more in all bring the Pareto front.
        baseline: The run that others are tested against; by default the best.
        filter: Which runs of the experiments, such as `status = "finished"`.
        limit: How many runs at most, shared evenly by the experiments; 200 where several are named.
        backend: A client, a platform's address, or None for the one of the settings.
        project: The project, where `backend` is no client.

    Raises:
        NotFound: an experiment or a run is none of the project's.
        ExperimentError: nothing is named.
    """
    if not experiments:
        raise ExperimentError(
            "Nothing to compare is named.", hint="Name an experiment: `compare_experiments('churn')`."
        )
    wanted = [] if metric is None else [f"{metric}:{read_direction(direction)}"]
    wanted += [f"{name}:{read_direction(way)}" for name, way in (objectives or {}).items() if name != metric]
    with _connected(backend, project) as client:
        options: dict[str, Any] = {"objective": wanted, "baseline": baseline}
        if len(experiments) == 1 and not _RUN_ID.fullmatch(experiments[0]):
            options |= {"experiment": experiments[0], "filter": filter, "limit": limit}
            found = client.experiments.compare(**options)
            return ExperimentComparison(found, options, [], backend, project)
        runs = _gather(client, experiments, wanted, filter, min(limit, _MOST_RUNS))
        if not runs:
            raise ExperimentError(f"None of {', '.join(experiments)} has such runs.")
        return ExperimentComparison(client.experiments.compare(*runs, **options), options, runs, backend, project)


class ExperimentComparison:
    """Runs beside each other: `runs`, and `found`, which holds all that the platform told."""

    def __init__(
        self,
        found: RunComparison,
        options: Mapping[str, Any],
        named: Sequence[str],
        backend: Backend,
        project: str | None,
    ) -> None:
        self.found = found
        self.runs = found.runs
        self._options, self._named = dict(options), list(named)
        self._backend, self._project = backend, project

    @property
    def differences(self) -> dict[str, dict[str, dict[str, Json]]]:
        """What differs alone: `parameters`, `metrics`, `tags`, `data`, `code`, `files` -> key -> run's id -> value."""
        told = self.found
        parts = {
            "parameters": told.parameters,
            "tags": told.tags,
            "data": told.data,
            "code": told.code,
            "files": told.files,
        }
        found: dict[str, dict[str, dict[str, Json]]] = {
            name: {one.key: dict(one.values) for one in part} for name, part in parts.items()
        }
        return {**found, "metrics": {one.key: dict(one.values) for one in told.metrics}}

    @property
    def importance(self) -> ParameterImportance | None:
        """Which parameters the metric depends on; None where no metric was named."""
        return self.found.importance

    @property
    def pareto_front(self) -> list[Run]:
        """The runs that no other beats in every objective at once; empty where fewer than two were named."""
        front = set(self.found.pareto.front) if self.found.pareto else set()
        return [run for run in self.runs if run.id in front]

    @property
    def significance(self) -> Significance | None:
        """Which runs differ from the baseline by more than noise, on the folds they share; None without a metric."""
        return self.found.significance

    def rows(self) -> list[dict[str, Any]]:
        """Return a flat row a run, for a DataFrame: `id`, `name`, `status`, `parameters.<key>` and `metrics.<key>`."""
        return [
            {
                "id": run.id,
                "name": run.name,
                "experiment": run.experiment,
                "status": str(run.status),
                **{f"parameters.{key}": value for key, value in run.parameters.items()},
                **{f"metrics.{key}": value for key, value in run.metrics.items()},
            }
            for run in self.runs
        ]

    def curves(self, key: str, *, buckets: int = 200) -> dict[str, MetricBuckets]:
        """Return a metric's history of each run that has it, by the run's id, in at most `buckets` stretches."""
        with _connected(self._backend, self._project) as client:
            read = client.experiments.get_metric_buckets
            return {run.id: read(run.id, key, buckets=buckets) for run in self.runs if key in run.metrics}

    def report(self, path: Path | str, *, title: str | None = None, curves: Sequence[str] = ()) -> Path:
        """Write the comparison as one HTML file with plots that needs nothing else, and return where it lies."""
        with _connected(self._backend, self._project) as client:
            page = client.experiments.report(*self._named, title=title, curve=list(curves), **self._options)
        place = Path(path)
        place.write_text(page, encoding="utf-8")
        return place

    def __str__(self) -> str:
        chief = [one.metric for one in self.found.objectives] or [one.key for one in self.found.metrics][:4]
        keys = [one.key for one in self.found.parameters][:6]
        rows = [["run", *chief, *keys]]
        rows += [
            [
                run.name,
                *(_short(run.metrics.get(key)) for key in chief),
                *(_short(run.parameters.get(key)) for key in keys),
            ]
            for run in self.runs
        ]
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


@dataclass(frozen=True)
class BestModel:
    """The best model: the run that made it, and the version it is registered as, where either is known."""

    metric: str
    value: float
    run: Run | None
    version: ModelVersion | None
    backend: Backend = None
    project: str | None = None

    def load(self) -> "Predictor":
        """Download the version, verify it, and load it.

        Raises:
            NotFound: no version was registered of the run.
        """
        if self.version is None:
            run = self.run.id if self.run else ""
            hint = f"Register it: modelops.register_model(name, model, experiment_id='{run}')."
            raise NotFound(f"No model is registered of the run '{run}'.", hint=hint)
        with _connected(self.backend, self.project) as client:
            return ModelRegistry(client).load_model(self.version.id)


def get_best_model(
    metric: str,
    direction: str = "max",
    constraints: Mapping[str, str] | None = None,
    *,
    experiment: str | None = None,
    model: str | None = None,
    filter: str | None = None,  # noqa: A002 - as everywhere
    backend: Backend = None,
    project: str | None = None,
) -> BestModel:
    """Return the best model by a metric: of the finished runs, or, with `model`, of that model's registered versions.

    Args:
        metric: What is compared; runs and versions without it as a number do not count.
        direction: Whether more of it is better (`max`) or less (`min`).
        constraints: What other metrics must keep, such as `{"latency_ms": "<= 20"}`.
        experiment: Only runs of this experiment.
        model: Look at this model's versions and the metrics they were registered with, instead of at runs.
        filter: Which runs, or versions, beside that.
        backend: A client, a platform's address, or None for the one of the settings.
        project: The project, where `backend` is no client.

    Raises:
        NotFound: nothing keeps the constraints.
        InvalidInput: the direction or a constraint cannot be read.
        ExperimentError: both an experiment and a model are named.
    """
    kept = [f"{name} {bound}" for name, bound in (constraints or {}).items()]
    way = read_direction(direction)
    if model is not None and experiment is not None:
        raise ExperimentError("Name an experiment or a model, not both.")
    with _connected(backend, project) as client:
        if model is not None:
            return _best_version(
                client, model, metric, way, both(filter, *map(constraint_filter, kept)), backend, project
            )
        best = client.experiments.get_best_run(
            metric, direction=way, constraint=kept, experiment=experiment, filter=filter
        )
        version = _version_of(client, best.run)
        return BestModel(metric, best.value, best.run, version, backend, project)


def _best_version(
    client: Client, model: str, metric: str, way: Direction, kept: str | None, backend: Backend, project: str | None
) -> BestModel:
    field = metric_field(metric)
    order = f"{field} {'desc' if way is Direction.MAX else 'asc'}"
    found = client.models.list_versions(model, filter=both(f"{field} != null", kept), order_by=order, limit=1)
    if not found.items:
        raise NotFound(
            f"No version of '{model}' has '{metric}' and keeps what is asked for.", hint="Loosen the constraints."
        )
    version = found.items[0]
    run = None if version.run_id is None else client.experiments.get_run(version.run_id)
    return BestModel(metric, float(version.metrics[metric]), run, version, backend, project)


def _version_of(client: Client, run: Run) -> ModelVersion | None:
    """Return the newest version that was registered of a run; every model is asked, since a run may make several."""
    cursor: str | None = None
    while True:
        page = client.models.list_models(cursor=cursor)
        for model in page.items:
            found = client.models.list_versions(model.id, filter=f'run_id = "{run.id}"', limit=1)
            if found.items:
                return found.items[0]
        if not (cursor := page.next_cursor):
            return None


def _gather(client: Client, named: Sequence[str], wanted: list[str], filter: str | None, limit: int) -> list[str]:  # noqa: A002
    """Return the ids of the runs that are named, by themselves or by their experiments."""
    chief = read_objectives(wanted)[:1]
    order = None
    if chief:
        order = f"{metric_field(chief[0].metric)} {'desc' if chief[0].direction is Direction.MAX else 'asc'}"
    ids = [name for name in named if _RUN_ID.fullmatch(name)]
    experiments = [name for name in named if not _RUN_ID.fullmatch(name)]
    share = max(1, (limit - len(ids)) // max(1, len(experiments)))
    for experiment in experiments:
        page = client.experiments.list_runs(experiment, filter=filter, order_by=order, limit=share)
        ids += [run.id for run in page.items]
    return list(dict.fromkeys(ids))


@contextmanager
def _connected(backend: Backend, project: str | None) -> Iterator[Client]:
    """Use a client, or open one for the length of the block."""
    if isinstance(backend, Client):
        yield backend
        return
    with Client(backend, project=project) as client:
        yield client


def _short(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)[:24]

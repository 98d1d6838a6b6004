"""The client of experiments."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from modelops.contracts.rest import Group
from modelops.contracts.schemas import Json, Page
from modelops.domains.experiments.analysis_rules import read_direction
from modelops.domains.experiments.analysis_schemas import (
    Axis,
    BestQuery,
    BestRun,
    BucketsQuery,
    ComparisonQuery,
    Direction,
    GroupQuery,
    MetricBuckets,
    ReportQuery,
    RunComparison,
    RunGroups,
    dump,
)
from modelops.domains.experiments.rules import ParameterChanged, RunEnded
from modelops.domains.experiments.schemas import (
    Experiment,
    ExperimentCreate,
    ExperimentUpdate,
    LogBatch,
    Logged,
    MetricPoint,
    Run,
    RunArtifact,
    RunArtifactCreate,
    RunCreate,
    RunStatus,
    RunUpdate,
)
from modelops.domains.experiments.view_schemas import View, ViewCreate, ViewUpdate

__all__ = ["Experiments", "ParameterChanged", "RunEnded"]  # the errors, so that a client far away can raise them


class Experiments(Group):
    """Experiments and runs. Listings take `limit`, `cursor`, `filter` and `order_by`.

    For logging from a training program, `ExperimentTracker` is more convenient.
    """

    def create_experiment(
        self, name: str, *, description: str = "", tags: Mapping[str, str] | None = None
    ) -> Experiment:
        """Make an experiment."""
        body = ExperimentCreate(name=name, description=description, tags=dict(tags or {}))
        return self._post(Experiment, "/experiments", body)

    def list_experiments(self, **page: Any) -> Page[Experiment]:
        """List the project's experiments."""
        return self._list(Experiment, "/experiments", **page)

    def get_experiment(self, experiment: str) -> Experiment:
        """Return an experiment, by name or id."""
        return self._get(Experiment, f"/experiments/{experiment}")

    def update_experiment(
        self,
        experiment: str,
        *,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        revision: int | None = None,
    ) -> Experiment:
        """Change an experiment; with `revision`, only while it is still at that one."""
        body = ExperimentUpdate(description=description, tags=None if tags is None else dict(tags))
        return self._patch(Experiment, f"/experiments/{experiment}", body, revision)

    def delete_experiment(self, experiment: str) -> None:
        """Delete an experiment and its runs; `restore_experiment` brings them back for a while."""
        self._delete(f"/experiments/{experiment}")

    def restore_experiment(self, experiment: str) -> Experiment:
        """Restore a deleted experiment, and the runs that were deleted with it."""
        return self._post(Experiment, f"/experiments/{experiment}/restore")

    def create_run(
        self,
        experiment: str,
        *,
        name: str | None = None,
        parameters: Mapping[str, Json] | None = None,
        tags: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> Run:
        """Begin a run in an experiment, named or by id. Called again with the same `key`, it begins no second one."""
        body = RunCreate(experiment=experiment, name=name, parameters=dict(parameters or {}), tags=dict(tags or {}))
        return self._post(Run, "/runs", body, headers={} if key is None else {"Idempotency-Key": key})

    def list_runs(self, experiment: str | None = None, **page: Any) -> Page[Run]:
        """List runs, newest first; filter and order also by `metrics.<key>`, `parameters.<key>`, `tags.<key>`."""
        return self._list(Run, "/runs", experiment=experiment, **page)

    def all_runs(self, experiment: str | None = None, **page: Any) -> Iterator[Run]:
        """Walk runs, newest first."""
        return self._all(Run, "/runs", experiment=experiment, **page)

    def get_run(self, run: str) -> Run:
        """Return a run with the latest value of each metric."""
        return self._get(Run, f"/runs/{run}")

    def update_run(
        self,
        run: str,
        *,
        name: str | None = None,
        status: RunStatus | str | None = None,
        reason: str | None = None,
        revision: int | None = None,
    ) -> Run:
        """Rename a run, or end it as `finished`, `failed` or `canceled`, with the reason.

        Raises:
            RunEnded: it has ended otherwise, which never changes.
        """
        body = RunUpdate(name=name, status=None if status is None else RunStatus(status), reason=reason)
        return self._patch(Run, f"/runs/{run}", body, revision)

    def delete_run(self, run: str) -> None:
        """Delete a run; `restore_run` brings it back for a while."""
        self._delete(f"/runs/{run}")

    def restore_run(self, run: str) -> Run:
        """Restore a deleted run."""
        return self._post(Run, f"/runs/{run}/restore")

    def log_batch(
        self,
        run: str,
        *,
        metrics: Sequence[MetricPoint] = (),
        parameters: Mapping[str, Json] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Logged:
        """Record on a run: all of it, or nothing. A point with a timestamp that is sent twice is kept once.

        Raises:
            RunEnded: the run has ended.
            ParameterChanged: a parameter has another value there; the error names it.
        """
        body = LogBatch(metrics=list(metrics), parameters=dict(parameters or {}), tags=dict(tags or {}))
        return self._post(Logged, f"/runs/{run}/log", body)

    def log_json(self, run: str, batch: bytes) -> None:
        """Record the JSON of a `LogBatch`, as `log_batch` does, without reading it first."""
        self._rest.request("POST", f"/runs/{run}/log", content=batch, headers={"Content-Type": "application/json"})

    def heartbeat(self, run: str) -> None:
        """Tell that whoever makes the run is alive."""
        self._rest.request("POST", f"/runs/{run}/heartbeat")

    def get_metric_history(self, run: str, key: str, **page: Any) -> Page[MetricPoint]:
        """Return the points of a metric by step and time; takes `limit` and `cursor`."""
        return self._list(MetricPoint, f"/runs/{run}/metrics/{_in_path(key)}", **page)

    def link_run_artifact(self, run: str, path: str, digest: str) -> RunArtifact:
        """Give an artifact that was uploaded a path in a run."""
        return self._post(RunArtifact, f"/runs/{run}/artifacts", RunArtifactCreate(path=path, digest=digest))

    def list_run_artifacts(self, run: str) -> Page[RunArtifact]:
        """List a run's files."""
        return self._list(RunArtifact, f"/runs/{run}/artifacts")

    def get_metric_buckets(
        self, run: str, key: str, *, buckets: int = 200, axis: Axis | str | None = None
    ) -> MetricBuckets:
        """Return a metric's history in equal stretches of its steps or time, each with its least, greatest and last value."""
        query = BucketsQuery(buckets=buckets, axis=None if axis is None else Axis(axis))
        return self._get(MetricBuckets, f"/runs/{run}/metric-buckets/{_in_path(key)}", **dump(query))

    def compare(self, *runs: str, **selection: Any) -> RunComparison:
        """Compare runs: those named, or those of `experiment`, `view`, `filter`, `order_by` and `limit`.

        Args:
            runs: Ids.
            selection: Also `objective`, a list such as `["accuracy:max", "latency_ms:min"]`, the chief one first: it brings
                the importance of parameters, the Pareto front and paired tests; and `baseline`, the run tested against.
        """
        return self._get(RunComparison, "/run-comparison", **dump(ComparisonQuery(run=list(runs), **selection)))

    def report(self, *runs: str, **selection: Any) -> str:
        """Return a report as one HTML file that needs nothing else. Takes what `compare` does, and `curve` and `title`."""
        query = ReportQuery(run=list(runs), **selection)
        return self._rest.request("GET", "/run-report", params=dump(query)).text

    def group_runs(self, by: str | None = None, *, metric: Sequence[str] = (), **selection: Any) -> RunGroups:
        """Group runs by `parameters.<key>` or `tags.<key>`, with a summary of metrics, such as `accuracy:max`, for each."""
        query = GroupQuery(by=by, metric=list(metric), **selection)
        return self._get(RunGroups, "/run-groups", **dump(query))

    def get_best_run(
        self,
        metric: str,
        *,
        direction: Direction | str = Direction.MAX,
        constraint: Sequence[str] = (),
        experiment: str | None = None,
        filter: str | None = None,  # noqa: A002 - as everywhere
        any_status: bool = False,
    ) -> BestRun:
        """Return the run with the best value of a metric that keeps constraints such as `latency_ms <= 20`.

        Raises:
            NotFound: none does.
        """
        query = BestQuery(
            metric=metric,
            direction=read_direction(direction),
            constraint=list(constraint),
            experiment=experiment,
            filter=filter,
            any_status=any_status,
        )
        return self._get(BestRun, "/best-run", **dump(query))

    def create_view(self, name: str, **fields: Any) -> View:
        """Save a view of runs: `experiment`, `filter`, `order_by`, `columns`, `group_by`, `metrics`, `shared`."""
        return self._post(View, "/run-views", ViewCreate(name=name, **fields))

    def list_views(self, **page: Any) -> Page[View]:
        """List your own views of runs and those that are shared."""
        return self._list(View, "/run-views", **page)

    def get_view(self, view: str) -> View:
        """Return a view of runs, by name or id."""
        return self._get(View, f"/run-views/{view}")

    def update_view(self, view: str, *, revision: int | None = None, **fields: Any) -> View:
        """Change a view of runs; with `revision`, only while it is still at that one."""
        return self._patch(View, f"/run-views/{view}", ViewUpdate(**fields), revision)

    def delete_view(self, view: str) -> None:
        """Forget a view of runs. The runs stay."""
        self._delete(f"/run-views/{view}")

    def list_view_runs(self, view: str, **page: Any) -> Page[Run]:
        """List the runs that a view shows, in its order; takes `limit` and `cursor`."""
        return self._list(Run, f"/run-views/{view}/runs", **page)


def _in_path(key: str) -> str:
    return quote(key, safe="").replace(".", "%2E")  # a key such as `..` is no path

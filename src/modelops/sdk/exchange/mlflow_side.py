"""An MLflow store as a side, through MLflow's own library: a server, a database or a folder."""

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from modelops.contracts.errors import MissingExtra, Unavailable
from modelops.sdk.exchange.sides import ExperimentFacts, ModelFacts, Point, RunFacts, VersionFacts

_PAGE = 1_000
_MANNERS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # a folder that is there may be read
}
"""What MLflow is told, unless its user told it otherwise."""


class MlflowSide:
    """The store behind an MLflow tracking URI; used in a `with`.

    MLflow is told how to behave by the process's environment alone: that is changed from here to the end of the `with`, and then
    as it was.

    Args:
        uri: As MLflow takes it: `http(s)://…`, `sqlite:///…`, or a folder.
        token: For a server; by default what `MLFLOW_TRACKING_TOKEN` says.

    Raises:
        MissingExtra: on entering; MLflow is not installed.
        Unavailable: on entering; the store cannot be opened.
    """

    def __init__(self, uri: str, token: str | None = None) -> None:
        self.uri = uri
        self._token = token
        self._until = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as until:
            until.enter_context(_environment(self._wanted()))
            self._open()
            self._until = until.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._until.close()

    def _wanted(self) -> dict[str, str]:
        wanted = {name: value for name, value in _MANNERS.items() if name not in os.environ}
        if self.uri.startswith(("http://", "https://")):
            wanted.pop("MLFLOW_ALLOW_FILE_STORE", None)
        return wanted | ({} if self._token is None else {"MLFLOW_TRACKING_TOKEN": self._token})

    def _open(self) -> None:
        try:
            with _quietly():
                import mlflow
                from mlflow import MlflowClient
        except ImportError as missing:
            raise MissingExtra(
                "Moving to or from an MLflow store needs MLflow's own library.", hint="pip install 'modelops[mlflow]'"
            ) from missing
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        self._mlflow: Any = mlflow
        try:
            with _quietly():
                self._client: Any = MlflowClient(self.uri, self.uri)
                self._client.search_experiments(max_results=1)
        except Exception as wrong:
            raise Unavailable(
                f"The MLflow store at {self.uri} cannot be opened: {str(wrong)[:300]}",
                hint="Check the URI and the token.",
            ) from wrong

    def experiments(self) -> Iterable[ExperimentFacts]:
        """Return every experiment, deleted ones too."""
        for found in self._pages(self._client.search_experiments, view_type=3, max_results=_PAGE):
            deleted = found.lifecycle_stage == "deleted"
            yield ExperimentFacts(found.experiment_id, found.name, dict(found.tags), deleted)

    def runs(self, experiment: str) -> Iterable[RunFacts]:
        """Return every run of an experiment, deleted ones too."""
        for run in self._pages(
            self._client.search_runs, experiment_ids=[experiment], run_view_type=3, max_results=_PAGE
        ):
            yield _facts(run)

    def run(self, run: str) -> RunFacts:
        """Return a run."""
        return _facts(self._client.get_run(run))

    def history(self, run: str, key: str) -> Iterable[Point]:
        """Return the points of a metric."""
        for point in self._client.get_metric_history(run, key):
            yield Point(point.key, point.value, point.timestamp, point.step)

    def files(self, run: str) -> Iterable[tuple[str, int]]:
        """Return the path and size of every file of a run."""
        folders = [None]
        while folders:
            for found in self._client.list_artifacts(run, folders.pop()):
                if found.is_dir:
                    folders.append(found.path)
                else:
                    yield found.path, found.file_size or 0

    def fetch(self, run: str, path: str, folder: Path) -> Path:
        """Download a file of a run into a folder and return where it lies."""
        with _quietly():
            return Path(self._client.download_artifacts(run, path, str(folder)))

    def make_experiment(self, name: str, tags: Mapping[str, str]) -> str:
        """Return the id of the experiment of a name, made if there is none."""
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return str(self._client.create_experiment(name, tags=dict(tags)))
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def begin(self, experiment: str, run: RunFacts, tags: Mapping[str, str]) -> str:
        """Begin a run, and return its id."""
        made = self._client.create_run(experiment, run.started, dict(tags), run.name)
        return str(made.info.run_id)

    def log(self, run: str, points: Sequence[Point], parameters: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Log on a run; at most 1,000 points and 100 of the others."""
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            run,
            [Metric(p.key, p.value, p.time, p.step) for p in points],
            [Param(key, value) for key, value in parameters.items()],
            [RunTag(key, value) for key, value in tags.items()],
        )

    def store(self, run: str, path: str, file: Path) -> None:
        """Upload a file of a run."""
        above, _, name = path.rpartition("/")
        if file.name != name:
            file = file.rename(file.with_name(name))
        self._client.log_artifact(run, str(file), above or None)

    def end(self, run: str, status: str, ended: int | None) -> None:
        """End a run."""
        if status in ("RUNNING", "SCHEDULED"):
            self._client.update_run(run, status)
        else:
            self._client.set_terminated(run, status, ended)

    def delete(self, run: str) -> None:
        """Delete a run."""
        self._client.delete_run(run)

    def models(self) -> Iterable[ModelFacts]:
        """Return every registered model."""
        for found in self._pages(self._client.search_registered_models, max_results=100):
            aliases = {alias: int(number) for alias, number in dict(found.aliases).items()}
            yield ModelFacts(found.name, found.description or "", dict(found.tags), aliases)

    def versions(self, model: str) -> Iterable[VersionFacts]:
        """Return every version of a model, oldest first."""
        name = model.replace("'", "''")
        found = self._pages(self._client.search_model_versions, filter_string=f"name = '{name}'", max_results=1_000)
        for version in sorted(found, key=lambda one: int(one.version)):
            yield VersionFacts(
                int(version.version),
                version.run_id or "",
                version.source or "",
                version.current_stage or "None",
                version.description or "",
                dict(version.tags),
            )

    def fetch_version(self, model: str, version: VersionFacts, folder: Path) -> Path:
        """Download a version's files into a folder and return where they lie."""
        with _quietly():
            uri = self._client.get_model_version_download_uri(model, str(version.number))
            return Path(
                self._mlflow.artifacts.download_artifacts(
                    artifact_uri=uri, dst_path=str(folder), tracking_uri=self.uri, registry_uri=self.uri
                )
            )

    def make_model(self, model: ModelFacts) -> None:
        """Make a registered model of a name, if there is none."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(model.name, dict(model.tags), model.description)
        except MlflowException as refused:
            if refused.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def make_version(self, model: str, version: VersionFacts, source: str, run: str | None) -> int:
        """Register a version and return its number."""
        with _quietly():
            made = self._client.create_model_version(
                model, source, run, dict(version.tags), description=version.description
            )
        return int(made.version)

    def place_version(self, model: str, number: int, stage: str) -> None:
        """Move a version to a stage of MLflow's."""
        with _quietly():
            self._client.transition_model_version_stage(model, str(number), stage)

    def point_alias(self, model: str, alias: str, number: int) -> None:
        """Point an alias at a version."""
        self._client.set_registered_model_alias(model, alias, str(number))

    def _pages(self, search: Any, **options: Any) -> Iterator[Any]:
        token = None
        while True:
            with _quietly():
                page = search(**options, page_token=token)
            yield from page
            if not (token := page.token):
                return


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep MLflow's warnings, which are for its own users, off the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _facts(run: Any) -> RunFacts:
    info, data = run.info, run.data
    return RunFacts(
        info.run_id,
        info.run_name or "",
        info.status,
        info.start_time or 0,
        info.end_time,
        info.lifecycle_stage == "deleted",
        dict(data.params),
        dict(data.tags),
        sorted(data.metrics),
    )

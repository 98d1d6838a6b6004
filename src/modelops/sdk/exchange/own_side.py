"""This platform as a side: at the door where it speaks MLflow's protocol, so that both sides are told the same."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from modelops.contracts.errors import MLOpsError, Unavailable
from modelops.contracts.rest import Rest
from modelops.sdk.exchange.sides import ExperimentFacts, ModelFacts, Point, RunFacts, VersionFacts

_API = "/api/2.0/mlflow"
_FILES = "/api/2.0/mlflow-artifacts/artifacts"
_PAGE = 1_000


class OwnSide:
    """The project that a client works in."""

    def __init__(self, rest: Rest) -> None:
        self._http = rest.http
        self._places: dict[str, str] = {}

    def experiments(self) -> Iterable[ExperimentFacts]:
        """Return every experiment, deleted ones too."""
        for found in self._pages("experiments/search", "experiments", {"view_type": "ALL"}):
            deleted = found["lifecycle_stage"] == "deleted"
            yield ExperimentFacts(found["experiment_id"], found["name"], _pairs(found.get("tags", ())), deleted)

    def runs(self, experiment: str) -> Iterable[RunFacts]:
        """Return every run of an experiment, deleted ones too."""
        body = {"experiment_ids": [experiment], "run_view_type": "ALL"}
        for run in self._pages("runs/search", "runs", body):
            yield self._facts(run)

    def run(self, run: str) -> RunFacts:
        """Return a run."""
        return self._facts(self._call("GET", "runs/get", params={"run_id": run})["run"])

    def history(self, run: str, key: str) -> Iterable[Point]:
        """Return the points of a metric."""
        query = {"run_id": run, "metric_key": key, "max_results": 25_000, "page_token": ""}
        while True:
            page = self._call("GET", "metrics/get-history", params=query)
            for point in page["metrics"]:
                yield Point(point["key"], float(point["value"]), point["timestamp"], point["step"])
            if not (token := page.get("next_page_token")):
                return
            query["page_token"] = token

    def files(self, run: str) -> Iterable[tuple[str, int]]:
        """Return the path and size of every file of a run."""
        folders = [""]
        while folders:
            found = self._call("GET", "artifacts/list", params={"run_id": run, "path": folders.pop()})
            for file in found.get("files", ()):
                if file.get("is_dir"):
                    folders.append(file["path"])
                else:
                    yield file["path"], int(file.get("file_size", 0))

    def fetch(self, run: str, path: str, folder: Path) -> Path:
        """Download a file of a run into a folder and return where it lies."""
        return self._download(self._place(run, path), folder / path.rpartition("/")[2])

    def make_experiment(self, name: str, tags: Mapping[str, str]) -> str:
        """Return the id of the experiment of a name, made if there is none."""
        answer = self._http.get(f"{_API}/experiments/get-by-name", params={"experiment_name": name})
        if answer.status_code == 404:
            body = {"name": name, "tags": [{"key": key, "value": value} for key, value in tags.items()]}
            return str(self._call("POST", "experiments/create", json=body)["experiment_id"])
        found = _read(answer)["experiment"]
        if found["lifecycle_stage"] == "deleted":
            self._call("POST", "experiments/restore", json={"experiment_id": found["experiment_id"]})
        return str(found["experiment_id"])

    def begin(self, experiment: str, run: RunFacts, tags: Mapping[str, str]) -> str:
        """Begin a run, and return its id."""
        labels = [{"key": key, "value": value} for key, value in tags.items()]
        body = {"experiment_id": experiment, "start_time": run.started, "run_name": run.name, "tags": labels}
        return str(self._call("POST", "runs/create", json=body)["run"]["info"]["run_id"])

    def log(self, run: str, points: Sequence[Point], parameters: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Log on a run; at most 1,000 points and 100 of the others."""
        body = {
            "run_id": run,
            "metrics": [{"key": p.key, "value": _number(p.value), "timestamp": p.time, "step": p.step} for p in points],
            "params": [{"key": key, "value": value} for key, value in parameters.items()],
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        self._call("POST", "runs/log-batch", json=body)

    def store(self, run: str, path: str, file: Path) -> None:
        """Upload a file of a run."""
        with file.open("rb") as opened:
            _read(self._http.put(self._place(run, path), content=opened))

    def end(self, run: str, status: str, ended: int | None) -> None:
        """End a run."""
        body: dict[str, Any] = {"run_id": run, "status": status}
        self._call("POST", "runs/update", json=body if ended is None else {**body, "end_time": ended})

    def delete(self, run: str) -> None:
        """Delete a run."""
        self._call("POST", "runs/delete", json={"run_id": run})

    def models(self) -> Iterable[ModelFacts]:
        """Return every registered model."""
        for found in self._pages("registered-models/search", "registered_models", None, size=100):
            aliases = {one["alias"]: int(one["version"]) for one in found.get("aliases", ())}
            yield ModelFacts(found["name"], found.get("description", ""), _pairs(found.get("tags", ())), aliases)

    def versions(self, model: str) -> Iterable[VersionFacts]:
        """Return every version of a model, oldest first."""
        name = model.replace("'", "''")
        query = {"filter": f"name = '{name}'"}
        found = self._pages("model-versions/search", "model_versions", None, query=query)
        for version in sorted(found, key=lambda one: int(one["version"])):
            yield VersionFacts(
                int(version["version"]),
                version.get("run_id", ""),
                version.get("source", ""),
                version.get("current_stage", "None"),
                version.get("description", ""),
                _pairs(version.get("tags", ())),
            )

    def fetch_version(self, model: str, version: VersionFacts, folder: Path) -> Path:
        """Download a version's files into a folder and return where they lie."""
        query = {"name": model, "version": str(version.number)}
        uri = self._call("GET", "model-versions/get-download-uri", params=query)["artifact_uri"]
        root = str(uri).removeprefix("mlflow-artifacts:/").strip("/")
        if "://" in root or not str(uri).startswith("mlflow-artifacts:/"):
            raise Unavailable(f"Its files lie elsewhere: {uri}.")
        self._fetch_folder(root, "", folder)
        return folder

    def make_model(self, model: ModelFacts) -> None:
        """Make a registered model of a name, if there is none."""
        labels = [{"key": key, "value": value} for key, value in model.tags.items()]
        body = {"name": model.name, "description": model.description, "tags": labels}
        answer = self._http.post(f"{_API}/registered-models/create", json=body)
        if answer.status_code >= 300 and answer.json().get("error_code") != "RESOURCE_ALREADY_EXISTS":
            raise _refused(answer)

    def make_version(self, model: str, version: VersionFacts, source: str, run: str | None) -> int:
        """Register a version and return its number."""
        labels = [{"key": key, "value": value} for key, value in version.tags.items()]
        body = {"name": model, "source": source, "tags": labels, "description": version.description}
        made = self._call("POST", "model-versions/create", json=body if run is None else {**body, "run_id": run})
        return int(made["model_version"]["version"])

    def place_version(self, model: str, number: int, stage: str) -> None:
        """Move a version to a stage of MLflow's."""
        body = {"name": model, "version": str(number), "stage": stage, "archive_existing_versions": False}
        self._call("POST", "model-versions/transition-stage", json=body)

    def point_alias(self, model: str, alias: str, number: int) -> None:
        """Point an alias at a version."""
        self._call("POST", "registered-models/alias", json={"name": model, "alias": alias, "version": str(number)})

    def _facts(self, run: Mapping[str, Any]) -> RunFacts:
        info, data = run["info"], run["data"]
        self._places[info["run_id"]] = info["artifact_uri"]
        return RunFacts(
            info["run_id"],
            info["run_name"],
            info["status"],
            info["start_time"],
            info.get("end_time"),
            info["lifecycle_stage"] == "deleted",
            _pairs(data["params"]),
            _pairs(data["tags"]),
            sorted(metric["key"] for metric in data["metrics"]),
        )

    def _place(self, run: str, path: str) -> str:
        if run not in self._places:
            self.run(run)
        root = self._places[run].removeprefix("mlflow-artifacts:/").strip("/")
        return f"{_FILES}/{quote(f'{root}/{path}')}"

    def _fetch_folder(self, root: str, path: str, folder: Path) -> None:
        found = _read(self._http.get(_FILES, params={"path": f"{root}/{path}".strip("/")}))
        for file in found.get("files", ()):
            below = f"{path}/{file['path']}".strip("/")
            if file.get("is_dir"):
                (folder / below).mkdir(parents=True, exist_ok=True)
                self._fetch_folder(root, below, folder)
            else:
                (folder / below).parent.mkdir(parents=True, exist_ok=True)
                self._download(f"{_FILES}/{quote(f'{root}/{below}')}", folder / below)

    def _download(self, url: str, target: Path) -> Path:
        with self._http.stream("GET", url) as answer, target.open("wb") as file:
            if answer.status_code >= 300:
                answer.read()
                raise _refused(answer)
            for part in answer.iter_bytes():
                file.write(part)
        return target

    def _pages(
        self,
        path: str,
        items: str,
        body: Mapping[str, Any] | None,
        *,
        query: Mapping[str, Any] | None = None,
        size: int = _PAGE,
    ) -> Iterator[Any]:
        token = ""
        while True:
            asked = {**(query or {}), **(body or {}), "max_results": size, "page_token": token}
            page = self._call("GET", path, params=asked) if body is None else self._call("POST", path, json=asked)
            yield from page.get(items, ())
            if not (token := page.get("next_page_token", "")):
                return

    def _call(self, method: str, path: str, **options: Any) -> Any:
        return _read(self._http.request(method, f"{_API}/{path}", **options))


def _read(answer: httpx.Response) -> Any:
    if answer.status_code >= 300:
        raise _refused(answer)
    return answer.json()


def _refused(answer: httpx.Response) -> MLOpsError:
    try:
        told = answer.json()
    except ValueError:
        told = {}
    detail = str(told.get("message") or f"The platform answered {answer.status_code}.")
    return MLOpsError.from_problem({"code": told.get("code", ""), "detail": detail}, answer.status_code)


def _pairs(found: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {pair["key"]: pair.get("value", "") for pair in found}


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"

"""Moving from one side to the other: run by run, each proven whole before it counts as moved.

A copy bears the tag `modelops.origin`, the run it is of, and `modelops.moved` once it was read back and found equal. Whoever was
killed half-way starts again: what is marked is passed over, and a copy without the mark is deleted and made anew.
"""

import hashlib
import math
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from modelops.contracts.errors import InvalidInput, MLOpsError
from modelops.sdk.client import Client
from modelops.sdk.exchange.mlflow_side import MlflowSide
from modelops.sdk.exchange.own_side import OwnSide
from modelops.sdk.exchange.sides import MOVED, ORIGIN, ModelFacts, Point, RunFacts, Side, VersionFacts

_POINTS, _LABELS = 1_000, 100
_AT_ONCE = 4
_CARRIER = "moved models"
_GOING_ON = ("RUNNING", "SCHEDULED")
"""The states of a run that is moved as far as it is, and anew the next time."""

_LARGEST = sys.float_info.max
_Exact = tuple[str, str, int, int]
_WITHIN = ("runs", "models", "mlflow-artifacts")
"""Sources that the store itself keeps; files that lie elsewhere may be out of reach for good."""

_STAGED = ("Staging", "Production", "Archived")


@dataclass
class Kind:
    """How many of a kind were found, moved and read back, and how many were there already."""

    found: int = 0
    moved: int = 0
    there: int = 0
    verified: int = 0
    failed: int = 0


@dataclass
class Summary:
    """What became of everything. `failures` say why something was not moved; `remarks` what was moved differently."""

    experiments: Kind = field(default_factory=Kind)
    runs: Kind = field(default_factory=Kind)
    points: Kind = field(default_factory=Kind)
    files: Kind = field(default_factory=Kind)
    versions: Kind = field(default_factory=Kind)
    failures: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Tell whether nothing failed."""
        return not self.failures

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {**asdict(self), "whole": self.whole}


Progress = Callable[[str, int, int], None]
"""Told (what is moved, how many of how many runs and versions)."""


def import_mlflow(
    uri: str,
    client: Client,
    *,
    experiments: Sequence[str] = (),
    deleted: bool = False,
    dry_run: bool = False,
    token: str | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Bring what an MLflow store holds into the client's project. It can be called again: what is there stays.

    Args:
        uri: A tracking URI of MLflow: a server, `sqlite:///…`, or a folder.
        experiments: Names; all where none is given. With names, no registered models are moved.
        deleted: Deleted experiments and runs, too; the runs are deleted here as well.
        dry_run: Only count.
        token: For a server.

    Raises:
        MissingExtra: MLflow's library is not installed.
        Unavailable: the store cannot be opened.
        InvalidInput: it has no experiment of a name.
    """
    with MlflowSide(uri, token) as theirs:
        return _Move(theirs, OwnSide(client.rest), deleted, dry_run, progress).run(experiments)


def export_mlflow(
    uri: str,
    client: Client,
    *,
    experiments: Sequence[str] = (),
    deleted: bool = False,
    dry_run: bool = False,
    token: str | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Bring what the client's project holds into an MLflow store; arguments and errors as `import_mlflow`."""
    with MlflowSide(uri, token) as theirs:
        return _Move(OwnSide(client.rest), theirs, deleted, dry_run, progress).run(experiments)


class _Move:
    def __init__(self, source: Side, target: Side, deleted: bool, dry_run: bool, progress: Progress | None) -> None:
        self.source, self.target = source, target
        self.deleted, self.dry_run = deleted, dry_run
        self.progress: Progress = progress or (lambda what, done, total: None)
        self.summary = Summary()
        self.copies: dict[str, str] = {}
        self._lock = threading.Lock()

    def run(self, names: Sequence[str]) -> Summary:
        found = [one for one in self.source.experiments() if self.deleted or not one.deleted]
        missing = set(names) - {one.name for one in found}
        if missing:
            raise InvalidInput(f"There is no experiment {', '.join(map(repr, sorted(missing)))} in the source.")
        wanted = [one for one in found if not names or one.name in names]
        self.summary.experiments.found = len(wanted)
        plan = [(one, [run for run in self.source.runs(one.id) if self.deleted or not run.deleted]) for one in wanted]
        total, done = sum(len(runs) for _, runs in plan), 0
        self.summary.runs.found = total
        for experiment, runs in plan:
            self.progress(experiment.name, done, total)
            if self.dry_run:
                continue
            try:
                into = self.target.make_experiment(experiment.name, experiment.tags)
            except Exception as wrong:
                self._failed(self.summary.experiments, f"experiment '{experiment.name}'", wrong)
                continue
            self._count(self.summary.experiments, "moved", 1)
            self._count(self.summary.experiments, "verified", 1)
            known = {run.tags[ORIGIN]: run for run in self.target.runs(into) if ORIGIN in run.tags}
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                for _ in pool.map(lambda run, into=into, known=known: self._run(run, into, known), runs):
                    done += 1
                    self.progress(experiment.name, done, total)
        if not names:
            self._registry()
        return self.summary

    def _run(self, run: RunFacts, into: str, known: dict[str, RunFacts]) -> None:
        there = known.get(run.id)
        if there is not None and MOVED in there.tags:
            self.copies[run.id] = there.id
            self._count(self.summary.runs, "there", 1)
            return
        try:
            if there is not None and not there.deleted:
                self.target.delete(there.id)
            copy = self.target.begin(into, run, {**_labels(run), ORIGIN: run.id})
            points = self._log(run, copy)
            files = self._files(run, copy)
            self.target.end(copy, run.status, run.ended)
            self._verify(run, copy, points, files)
            if run.status not in _GOING_ON:
                self.target.log(copy, [], {}, {MOVED: "yes"})
            if run.deleted:
                self.target.delete(copy)
        except Exception as wrong:
            self._failed(self.summary.runs, f"run '{run.name}' ({run.id})", wrong)
            return
        self.copies[run.id] = copy
        self._count(self.summary.runs, "moved", 1)
        self._count(self.summary.runs, "verified", 1)

    def _log(self, run: RunFacts, copy: str) -> dict[str, set[_Exact]]:
        for some in _chunks(run.parameters.items(), _LABELS):
            self.target.log(copy, [], dict(some), {})
        for some in _chunks(_labels(run).items(), _LABELS):
            self.target.log(copy, [], {}, dict(some))
        sent: dict[str, set[_Exact]] = {}
        for key in run.metrics:
            points = {_exact(point): point for point in self.source.history(run.id, key)}  # a store may hold one twice
            for chunk in _chunks(points.values(), _POINTS):
                self.target.log(copy, chunk, {}, {})
            sent[key] = set(points)
            self._count(self.summary.points, "found", len(points))
            self._count(self.summary.points, "moved", len(points))
        return sent

    def _files(self, run: RunFacts, copy: str) -> dict[str, str]:
        """Move the files, and return the digest of each."""
        moved: dict[str, str] = {}
        for path, _ in self.source.files(run.id):
            self._count(self.summary.files, "found", 1)
            with tempfile.TemporaryDirectory() as folder:
                file = self.source.fetch(run.id, path, Path(folder))
                moved[path] = _digest(file)
                self.target.store(copy, path, file)
            self._count(self.summary.files, "moved", 1)
        return moved

    def _verify(self, run: RunFacts, copy: str, sent: dict[str, set[_Exact]], files: dict[str, str]) -> None:
        """Read a copy back and compare it.

        Raises:
            MLOpsError: it is not what was sent.
        """
        made = self.target.run(copy)
        if dict(made.parameters) != dict(run.parameters):
            raise MLOpsError("Its parameters are not what was sent.")
        if any(made.tags.get(key) != value for key, value in _labels(run).items()):
            raise MLOpsError("Its tags are not what was sent.")
        ended = made.ended if run.ended is not None else None
        if (made.status, made.started, ended) != (run.status, run.started, run.ended):
            raise MLOpsError("Its status or time is not what was sent.")
        for key, points in sent.items():
            if set(map(_exact, self.target.history(copy, key))) != points:
                raise MLOpsError(f"Its metric '{key}' is not what was sent.")
            self._count(self.summary.points, "verified", len(points))
        for path, digest in files.items():
            with tempfile.TemporaryDirectory() as folder:
                if _digest(self.target.fetch(copy, path, Path(folder))) != digest:
                    raise MLOpsError(f"Its file '{path}' is not what was sent.")
            self._count(self.summary.files, "verified", 1)

    def _registry(self) -> None:
        models = list(self.source.models())
        plan = [(model, list(self.source.versions(model.name))) for model in models]
        total, done = sum(len(versions) for _, versions in plan), 0
        self.summary.versions.found = total
        if self.dry_run:
            return
        for model, versions in plan:
            try:
                self._model(model, versions)
            except Exception as wrong:
                self._failed(self.summary.versions, f"model '{model.name}'", wrong)
            done += len(versions)
            self.progress(f"model {model.name}", done, total)

    def _model(self, model: ModelFacts, versions: Sequence[VersionFacts]) -> None:
        self.target.make_model(model)
        numbers: dict[int, int] = {}
        known = {one.tags[ORIGIN]: one.number for one in self.target.versions(model.name) if ORIGIN in one.tags}
        for version in versions:
            origin = f"{model.name}:{version.number}"
            if origin in known:
                numbers[version.number] = known[origin]
                self._count(self.summary.versions, "there", 1)
                continue
            try:
                numbers[version.number] = self._version(model.name, version, origin)
            except Exception as wrong:
                self._failed(self.summary.versions, f"version {origin}", wrong)
                continue
            self._count(self.summary.versions, "moved", 1)
            there = {one.number for one in self.target.versions(model.name)}
            self._count(self.summary.versions, "verified", int(numbers[version.number] in there))
        for alias, number in model.aliases.items():
            if number in numbers:
                point = partial(self.target.point_alias, model.name, alias, numbers[number])
                self._remark(f"alias '{alias}' of '{model.name}'", point)

    def _version(self, name: str, version: VersionFacts, origin: str) -> int:
        """Move a version: its files become files of a run, from where it is registered."""
        run = self.copies.get(version.run)
        source = version.source or f"models:/{origin}"
        with tempfile.TemporaryDirectory() as folder:
            try:
                root = self.source.fetch_version(name, version, Path(folder))
                files = [file for file in sorted(root.rglob("*")) if file.is_file()]
            except Exception as wrong:
                if source.partition(":")[0] in _WITHIN:
                    raise  # it failed now; registered without them, it would never be tried again
                self.summary.remarks.append(f"version {origin} was registered without its files: {str(wrong)[:200]}")
                files = []
            if files:
                carrier = run or self._carrier(origin)
                place = f"models/{name}/{version.number}".replace(":", "_")
                for file in files:
                    path = file.relative_to(root).as_posix()
                    digest = _digest(file)
                    self.target.store(carrier, f"{place}/{path}", file)
                    with tempfile.TemporaryDirectory() as back:
                        if _digest(self.target.fetch(carrier, f"{place}/{path}", Path(back))) != digest:
                            raise MLOpsError(f"Its file '{path}' is not what was sent.")
                source = f"runs:/{carrier}/{place}"
        labelled = replace(version, tags={**version.tags, ORIGIN: origin})
        number = self.target.make_version(name, labelled, source, run)
        if version.stage in _STAGED:
            what = f"stage {version.stage} of version {origin}"
            self._remark(what, partial(self.target.place_version, name, number, version.stage))
        return number

    def _carrier(self, origin: str) -> str:
        into = self.target.make_experiment(_CARRIER, {})
        facts = RunFacts("", origin, "FINISHED", 0, None, False, {}, {}, ())
        run = self.target.begin(into, facts, {})
        self.target.end(run, "FINISHED", None)
        return run

    def _remark(self, what: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as refused:
            self.summary.remarks.append(f"{what} was not carried over: {str(refused)[:300]}")

    def _count(self, kind: Kind, what: str, number: int) -> None:
        with self._lock:
            setattr(kind, what, getattr(kind, what) + number)

    def _failed(self, kind: Kind, what: str, wrong: Exception) -> None:
        self._count(kind, "failed", 1)
        self.summary.failures.append(f"{what}: {type(wrong).__name__}: {str(wrong)[:300]}")


def _labels(run: RunFacts) -> dict[str, str]:
    return {key: value for key, value in run.tags.items() if key not in (ORIGIN, MOVED)}


def _exact(point: Point) -> _Exact:
    """Return a point as something that equals its like: NaN does not, and MLflow's databases make an infinity the largest
    number."""
    value = point.value if math.isnan(point.value) else min(max(point.value, -_LARGEST), _LARGEST)
    return point.key, (value + 0.0).hex(), point.time, point.step


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _chunks(items: Iterable[Any], size: int) -> Iterable[list[Any]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some

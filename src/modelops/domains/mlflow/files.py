"""The tree of MLflow's artifact proxy, and what lies where in it.

    <experiment>/<run>/artifacts/…              the run's files, as natively
    <experiment>/models/<logged model>/artifacts/…
    <experiment>/traces/<trace>/artifacts/…
    versions/<version>/…                        a registered version's own files; nobody writes there
    anything else                               the project's own files

What stands before is for people: a run or a logged model is found by its id, in the project alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from modelops.contracts.errors import InvalidInput, NotFound, PermissionDenied
from modelops.contracts.ids import id_pattern
from modelops.contracts.ports import BlobInfo
from modelops.domains.data import service as data
from modelops.domains.experiments import service as experiments
from modelops.domains.experiments.artifacts import (
    beside,
    check_paths,
    check_run_path,
    run_artifacts_under,
    unlink_run_artifacts,
    within,
)
from modelops.domains.experiments.schemas import RunArtifactCreate
from modelops.domains.mlflow.rules import checked, media_type_of
from modelops.domains.mlflow.tables import FileRow, LoggedModelRow
from modelops.domains.models import service as models
from modelops.domains.models.flavours.mlmodel import FILE, describe_version, format_mlmodel
from modelops.domains.models.rules import ANY_MODEL
from modelops.domains.models.schemas import ModelVersion
from modelops.kernel.context import Context

MODELS, TRACES = "models", "traces"
_LONGEST = 500
_OF_VERSION = re.compile(r"versions/(?P<owner>[^/]+)(?:/(?P<path>.+))?")
_OF_MODEL = re.compile(r"(?:.*?/)?(?P<kind>models)/(?P<owner>m-[0-9a-f]{32})/artifacts(?:/(?P<path>.+))?")
_OF_TRACE = re.compile(r"(?:.*?/)?(?P<kind>traces)/(?P<owner>tr-[^/]+)/artifacts(?:/(?P<path>.+))?")
_OF_RUN = re.compile(rf"(?:.*?/)?(?P<owner>{id_pattern('run')[1:-1]})/artifacts(?:/(?P<path>.+))?")
_RUN, _VERSION, _PROJECT = "run", "version", "project"


@dataclass(frozen=True)
class Place:
    """Where a path leads: `kind` is `run`, `version`, `models`, `traces` or `project`; `path` is empty for its root."""

    kind: str
    owner: str
    path: str


@dataclass(frozen=True)
class StoredFile:
    """A file. `path` is relative to its owner; `content` is there where the file is made on request and has no blob."""

    path: str
    digest: str
    size: int
    media_type: str
    content: bytes | None = None


@dataclass(frozen=True)
class Entry:
    """What lies in a folder: a file, or a folder (then `size` is None)."""

    name: str
    size: int | None


def place_of(path: str) -> Place:
    """Tell where a clean path leads."""
    if found := _OF_VERSION.fullmatch(path):
        return Place(_VERSION, found["owner"], found["path"] or "")
    if found := _OF_RUN.fullmatch(path):
        return Place(_RUN, found["owner"], found["path"] or "")
    if found := _OF_MODEL.fullmatch(path) or _OF_TRACE.fullmatch(path):
        return Place(found["kind"], found["owner"], found["path"] or "")
    return Place(_PROJECT, "", path)


def run_place(run: str, path: str) -> Place:
    """Return the place of a path in a run."""
    return Place(_RUN, run, path)


def model_place(model_id: str, path: str) -> Place:
    """Return the place of a path in a logged model."""
    return Place(MODELS, model_id, path)


def version_place(version_id: str, path: str) -> Place:
    """Return the place of a path in a registered version."""
    return Place(_VERSION, version_id, path)


def files_under(ctx: Context, place: Place) -> list[StoredFile]:
    """Return the files in a folder and below it, or the one file of that path, by path.

    Raises:
        NotFound: its owner is not of this project.
    """
    ctx.require("artifacts.read")
    if place.kind == _RUN:
        found = run_artifacts_under(ctx, place.owner, place.path)
        return [StoredFile(file.path, file.digest, file.size, file.media_type) for file in found]
    if place.kind == _VERSION:
        return [file for file in _version_files(ctx, place.owner) if _is_within(file.path, place.path)]
    _check_owner(ctx, place)
    query = select(FileRow).where(*_owned(ctx, place), within(FileRow.path, place.path)).order_by(FileRow.path)
    return [StoredFile(row.path, row.digest, row.size, row.media_type) for row in ctx.session.scalars(query)]


def find_file(ctx: Context, place: Place) -> StoredFile:
    """Return the file of a path.

    Raises:
        NotFound: there is none.
    """
    for file in files_under(ctx, place):
        if file.path == place.path:
            return file
    raise NotFound(f"There is no artifact '{place.path[:200]}' here.")


def list_folder(ctx: Context, place: Place) -> list[Entry]:
    """Return what lies in a folder, by name: files, and folders; nothing where the path is a file's, or nobody's."""
    start = len(place.path) + 1 if place.path else 0
    found: dict[str, int | None] = {}
    for file in files_under(ctx, place):
        if file.path != place.path:
            name, inner, _ = file.path[start:].partition("/")
            found[name] = None if inner else file.size
    return [Entry(name, found[name]) for name in sorted(found)]


def check_writing(ctx: Context, place: Place) -> None:
    """Refuse, before anything is uploaded, what would be refused after.

    Raises:
        InvalidInput: the path names no file, or uses a file as a folder.
        PermissionDenied: nobody may write there, or this caller may not.
    """
    data.check_new_artifact(ctx)
    ctx.require("runs.write")
    if place.kind == _VERSION:
        raise PermissionDenied("A registered version's files never change.", hint="Register another version.")
    if not place.path or len(place.path) > _LONGEST:
        raise InvalidInput(f"Invalid path: it names no file, or has more than {_LONGEST} characters.")
    if place.kind == _RUN:
        return check_run_path(ctx, place.owner, place.path)
    _check_owner(ctx, place)
    query = select(FileRow.path).where(*_owned(ctx, place), beside(FileRow.path, place.path)).limit(1)
    return check_paths(ctx.session.scalars(query), place.path)


def put_file(ctx: Context, place: Place, blob: BlobInfo) -> None:
    """Give a stored blob a path; one that the path named before is replaced."""
    check_writing(ctx, place)
    media_type = media_type_of(place.path)
    data.upload_artifact(ctx, blob, media_type)
    if place.kind == _RUN:
        experiments.link_run_artifact(ctx, place.owner, checked(RunArtifactCreate, path=place.path, digest=blob.digest))
        return
    row = {
        "project_id": ctx.project_id,
        "owner": _owner(place),
        "path": place.path,
        "digest": blob.digest,
        "size": blob.size,
        "media_type": media_type,
    }
    on_postgres = ctx.session.get_bind().dialect.name == "postgresql"
    insert = (postgresql.insert if on_postgres else sqlite.insert)(FileRow).values(row)
    changed = {name: row[name] for name in ("digest", "size", "media_type")}
    ctx.session.execute(insert.on_conflict_do_update(index_elements=["project_id", "owner", "path"], set_=changed))


def delete_files(ctx: Context, place: Place) -> None:
    """Take a file, or a folder with all below it, away.

    Raises:
        NotFound: nothing lies there.
        PermissionDenied: nobody may write there, or this caller may not.
    """
    ctx.require("runs.write")
    if place.kind == _VERSION:
        raise PermissionDenied("A registered version's files never change.", hint="Delete the version.")
    if place.kind == _RUN:
        count = unlink_run_artifacts(ctx, place.owner, place.path)
    else:
        _check_owner(ctx, place)
        gone = delete(FileRow).where(*_owned(ctx, place), within(FileRow.path, place.path))
        digests = list(ctx.session.scalars(gone.returning(FileRow.digest)))
        data.release_artifacts(ctx, ctx.project_id, sorted(set(digests)))
        count = len(digests)
    if not count:
        raise NotFound(f"There is no artifact '{place.path[:200]}' here.")


def forget_files(ctx: Context, kind: str, owners: Sequence[str]) -> None:
    """Take all files of owners that are gone for good away."""
    names = [f"{kind}/{owner}" for owner in owners]
    gone = delete(FileRow).where(FileRow.project_id == ctx.project_id, FileRow.owner.in_(names))
    digests = set(ctx.session.scalars(gone.returning(FileRow.digest)))
    data.release_artifacts(ctx, ctx.project_id, sorted(digests))


def _check_owner(ctx: Context, place: Place) -> None:
    if place.kind == MODELS:
        there = (LoggedModelRow.id == place.owner, LoggedModelRow.deleted_at.is_(None))
        ctx.one(LoggedModelRow, f"logged model '{place.owner[:100]}'", *there)


def _owned(ctx: Context, place: Place) -> tuple[ColumnElement[bool], ...]:
    return FileRow.project_id == ctx.project_id, FileRow.owner == _owner(place)


def _owner(place: Place) -> str:
    if len(place.owner) > 70:
        raise NotFound("There is no such owner of artifacts in this project.")
    return f"{place.kind}/{place.owner}"


def _version_files(ctx: Context, version_id: str) -> list[StoredFile]:
    version = models.get_version(ctx, ANY_MODEL, version_id)
    files = [StoredFile(file.path, file.digest, file.size, media_type_of(file.path)) for file in version.files]
    if files and all(file.path != FILE for file in files):
        files.append(_described(version))
    return sorted(files, key=lambda file: file.path)


def _described(version: ModelVersion) -> StoredFile:
    content = format_mlmodel(describe_version(version))
    return StoredFile(FILE, "", len(content), media_type_of(FILE), content)


def _is_within(path: str, folder: str) -> bool:
    return not folder or path == folder or path.startswith(f"{folder}/")

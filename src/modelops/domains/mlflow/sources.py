"""Where a model version's files lie: its source, as MLflow writes it, found in what the platform keeps.

runs:/<run>/<path>                                   a folder of a run
models:/m-…                                          a logged model
models:/<name>/<version>, models:/<name>@<alias>     another registered version
mlflow-artifacts:/<tree>                             a folder of the artifact proxy; also as its http address
anything else                                        lies elsewhere
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.domains.mlflow.files import (
    Place,
    StoredFile,
    files_under,
    model_place,
    place_of,
    run_place,
    version_place,
)
from modelops.domains.mlflow.rules import clean_path
from modelops.domains.models import service as models
from modelops.domains.models.schemas import ModelVersion
from modelops.kernel.context import Context

_PROXY = "/api/2.0/mlflow-artifacts/artifacts/"
_KEPT, _WEB = frozenset({"models", "runs", "mlflow-artifacts"}), frozenset({"http", "https"})
_LOGGED = re.compile(r"m-[\w-]+")
_COPIES = 20
ELSEWHERE = "Its files lie elsewhere: register one that was logged to this platform."
EMPTY = "Nothing lies at its source: log the model first, then register it."


@dataclass(frozen=True)
class Found:
    """What lies at a source.

    Attributes:
        files: Relative to the source; none where it has none, and `why` then says so to people.
        version: The registered version that the source names.
        logged_model_id: The logged model that it names.
    """

    files: list[StoredFile]
    why: str | None = None
    version: ModelVersion | None = None
    logged_model_id: str | None = None


def lies_elsewhere(source: str) -> bool:
    """Tell whether a source names nothing that the platform could keep. Raises as `look_at`."""
    scheme, path = _split(source)
    return scheme not in _KEPT and not (scheme in _WEB and _PROXY in f"/{path}")


def look_at(ctx: Context, source: str) -> Found:
    """Return what lies at a source.

    Raises:
        InvalidInput: it is no URI.
        NotFound: it names a registered version that is not there.
    """
    place = _place_at(source, "")
    if place is not None:
        return _at_place(ctx, place)
    scheme, path = _split(source)
    return _at_version(ctx, path) if scheme == "models" else Found([], ELSEWHERE)


def origin_of(ctx: Context, version: ModelVersion) -> ModelVersion:
    """Return the version whose files or source a version has: a copy without files has those of what it was copied from."""
    for _ in range(_COPIES):
        source = version.source or ""
        if version.files or not source.startswith("models:/"):
            break
        try:
            found = look_at(ctx, source).version
        except NotFound:
            break
        if found is None:
            break
        version = found
    return version


def place_in(ctx: Context, version: ModelVersion, path: str) -> Place:
    """Return the place of a path in a version: among its own files, or where it has none, at its source.

    Raises:
        NotFound: its files lie elsewhere.
    """
    version = origin_of(ctx, version)
    place = version_place(version.id, path) if version.files else _place_at(version.source or "", path)
    if place is None:
        raise NotFound(f"There is no artifact '{path[:200]}' here.", hint=ELSEWHERE)
    return place


def _split(source: str) -> tuple[str, str]:
    try:
        parts = urlsplit(source)
    except ValueError as wrong:
        raise InvalidInput(f"Invalid model version source: '{source[:500]}': {wrong}.") from wrong
    return parts.scheme, unquote(parts.path).strip("/")


def _place_at(source: str, inner: str) -> Place | None:
    """Return the place of a path below a source; None where that is a registered version, or lies elsewhere."""
    scheme, path = _split(source)
    if scheme == "models" and _LOGGED.fullmatch(path):
        return model_place(path, inner)
    if scheme == "runs":
        run, _, folder = path.partition("/")
        return run_place(run, clean_path(f"{folder}/{inner}".strip("/")))
    if scheme in _WEB and _PROXY in f"/{path}":
        scheme, path = "mlflow-artifacts", f"/{path}".partition(_PROXY)[2]
    return place_of(clean_path(f"{path}/{inner}".strip("/"))) if scheme == "mlflow-artifacts" else None


def _at_version(ctx: Context, path: str) -> Found:
    """Look at `name/3` or `name@alias`.

    Raises:
        NotFound: there is no such registered version; a client that copies one wants to know.
    """
    name, at, alias = path.rpartition("@")
    ref = f"{name}@{alias}" if at else ":".join(path.rsplit("/", 1))
    version = models.resolve_version(ctx, ref)
    files = [StoredFile(file.path, file.digest, file.size, "") for file in version.files]
    return Found(files, version.undeployable or EMPTY, version=version)


def _at_place(ctx: Context, place: Place) -> Found:
    try:
        found = files_under(ctx, place)
    except NotFound:
        return Found([], EMPTY)
    start = len(place.path) + 1 if place.path else 0
    files = [
        StoredFile(file.path[start:], file.digest, file.size, file.media_type)
        for file in found
        if file.path != place.path and file.content is None
    ]
    model = place.owner if place.kind == "models" else None
    return Found(files, None if files else EMPTY, logged_model_id=model)

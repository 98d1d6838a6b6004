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
from modelops.domains.mlflow.files import Place, StoredFile, files_under, model_place, place_of, run_place
from modelops.domains.mlflow.rules import clean_path
from modelops.domains.models import service as models
from modelops.domains.models.schemas import ModelVersion
from modelops.kernel.context import Context

_PROXY = "/api/2.0/mlflow-artifacts/artifacts/"
_KEPT, _WEB = frozenset({"models", "runs", "mlflow-artifacts"}), frozenset({"http", "https"})
_LOGGED = re.compile(r"m-[\w-]+")
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


def _split(source: str) -> tuple[str, str]:
    try:
        parts = urlsplit(source)
    except ValueError as wrong:
        raise InvalidInput(f"Invalid model version source: '{source[:500]}': {wrong}.") from wrong
    return parts.scheme, unquote(parts.path).strip("/")


def look_at(ctx: Context, source: str) -> Found:
    """Return what lies at a source.

    Raises:
        InvalidInput: it is no URI.
        NotFound: it names a registered version that is not there.
    """
    scheme, path = _split(source)
    if scheme == "models":
        return _at_model(ctx, path)
    if scheme == "runs":
        run, _, folder = path.partition("/")
        return _at_place(ctx, run_place(run, clean_path(folder)))
    if scheme == "mlflow-artifacts":
        return _at_tree(ctx, path)
    if scheme in _WEB and _PROXY in f"/{path}":
        return _at_tree(ctx, f"/{path}".partition(_PROXY)[2])
    return Found([], ELSEWHERE)


def _at_model(ctx: Context, path: str) -> Found:
    """Look at `m-…`, `name/3` or `name@alias`.

    Raises:
        NotFound: there is no such registered version; a client that copies one wants to know.
    """
    if _LOGGED.fullmatch(path):
        return _at_place(ctx, model_place(path, ""))
    name, at, alias = path.rpartition("@")
    ref = f"{name}@{alias}" if at else ":".join(path.rsplit("/", 1))
    version = models.resolve_version(ctx, ref)
    files = [StoredFile(file.path, file.digest, file.size, "") for file in version.files]
    return Found(files, version.undeployable or EMPTY, version=version)


def _at_tree(ctx: Context, path: str) -> Found:
    return _at_place(ctx, place_of(clean_path(path)))


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

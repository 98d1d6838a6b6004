"""What MLflow's words mean here, without a database.

Stages:

| MLflow's | this platform's |
|---|---|
| None | Development, Registration, Retraining |
| Staging | Staging |
| Production | Production |
| Archived | Retirement |

A transition takes the shortest way of the platform's own moves that passes neither Production nor Retirement, so that
nobody skips an approval or ends a version by the way.
"""

import mimetypes
import re
from collections import deque
from typing import Any, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel, ValidationError

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.rules import NEXT, StageTransitionRefused
from modelops.domains.models.schemas import Stage

STAGES: dict[str, tuple[Stage, ...]] = {
    "None": (Stage.DEVELOPMENT, Stage.REGISTRATION, Stage.RETRAINING),
    "Staging": (Stage.STAGING,),
    "Production": (Stage.PRODUCTION,),
    "Archived": (Stage.RETIREMENT,),
}
ACTIVE = ("Staging", "Production")
"""MLflow's stages of which the versions before can be archived with a transition."""

S = TypeVar("S", bound=BaseModel)

_NAME_OF = {stage: name for name, stages in STAGES.items() for stage in stages}
_NO_THOROUGHFARE = frozenset({Stage.PRODUCTION, Stage.RETIREMENT})
_ALIAS = re.compile(r"[\w-]{1,63}")
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)
_PLAIN_NAMES = frozenset({"mlmodel", "mlproject"})
_PLAIN_ENDINGS = (".txt", ".log", ".yaml", ".yml", ".json", ".py", ".cfg", ".ini", ".toml", ".md", ".sh")


def checked(schema: type[S], **said: Any) -> S:
    """Return what was said as one of the platform's payloads.

    Raises:
        InvalidInput: it breaks a rule of the platform; names the first.
    """
    try:
        return schema(**said)
    except ValidationError as wrong:
        first = wrong.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise InvalidInput(f"Invalid value for parameter '{name}' supplied: {first['msg']}.") from wrong


def stage_name(stage: Stage) -> str:
    """Return MLflow's name of a stage."""
    return _NAME_OF[stage]


def canonical_stage(name: str) -> str:
    """Return the name of one of MLflow's stages as it is written; any case is taken."""
    for known in STAGES:
        if known.lower() == name.lower():
            return known
    raise InvalidInput(f"Invalid Model Version stage: {name[:100]}. Value must be one of {', '.join(STAGES)}.")


def way_to(present: Stage, wanted: str) -> list[Stage]:
    """Return the platform's moves that lead from a stage to one of MLflow's; none where the version is there.

    Raises:
        StageTransitionRefused: no way leads there.
    """
    goals = STAGES[wanted]
    reached: dict[Stage, list[Stage]] = {present: []}
    queue = deque([present])
    while queue:
        here = queue.popleft()
        if here in goals:
            return reached[here]
        if here in _NO_THOROUGHFARE and here is not present:
            continue
        for there in (stage for stage in Stage if stage in NEXT[here] and stage not in reached):
            reached[there] = [*reached[here], there]
            queue.append(there)
    raise StageTransitionRefused(
        f"A version in {present} cannot go to {wanted}.", hint="Retirement is the end; register the model anew."
    )


def check_alias_name(alias: str) -> None:
    """Refuse an alias that would not be one word, or means something by itself.

    Raises:
        InvalidInput: it would.
    """
    if not _ALIAS.fullmatch(alias):
        raise InvalidInput(
            f"Invalid alias name: '{alias[:100]}'.", hint="It has up to 63 letters, digits, underscores and hyphens."
        )
    if _RESERVED_ALIAS.fullmatch(alias):
        raise InvalidInput(f"The alias name '{alias}' is reserved.", hint="It would read as a version.")


def clean_path(path: str) -> str:
    """Return a path of artifacts in its plain form, without empty parts and single dots; empty for the root.

    Raises:
        InvalidInput: it leads upwards, is absolute, or cannot be stored. Nothing that hides it by coding helps.
    """
    plain = "/".join(part for part in path.split("/") if part not in ("", "."))
    bare = plain
    while (decoded := unquote(bare)) != bare:
        bare = decoded
    parts = bare.split("/")
    bad = ".." in parts or "." in parts or path.startswith("/") or bare.startswith("/") or "\\" in bare or "#" in bare
    if bad or any(sign < " " or sign == "\x7f" for sign in bare) or re.match(r"[A-Za-z]:", bare) or len(path) > 1_000:
        raise InvalidInput("Invalid path", hint="Name it relative to its root, with slashes and without dots alone.")
    return plain


def media_type_of(path: str) -> str:
    """Tell a file's media type from its name; bytes where it cannot be told."""
    name = path.rpartition("/")[2]
    if name.lower() in _PLAIN_NAMES or name.lower().endswith(_PLAIN_ENDINGS):
        return "text/plain"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


_ELSEWHERE = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+:", re.IGNORECASE)


def check_source(source: str) -> None:
    """Refuse a source with relative parts, or on a disk that no client and server share.

    Raises:
        InvalidInput: it is one.
    """
    bare = source
    while (decoded := unquote(bare)) != bare:
        bare = decoded
    if "\x00" in bare or ".." in bare.replace("\\", "/").split("/"):
        raise InvalidInput(
            f"Invalid model version source: '{source[:500]}'.",
            hint="If supplying a source as an http, https, mlflow-artifacts or other uri, name it without relative parts.",
        )
    if not _ELSEWHERE.match(bare):
        raise InvalidInput(
            f"Invalid model version source: '{source[:500]}'.",
            hint="To use a local path as a model version's source, log its files to a run and name their URI.",
        )

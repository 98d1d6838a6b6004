"""The registry's rules, without a database.

Stages and where they lead:

| from | to |
|---|---|
| Development | Registration, Retirement |
| Registration | Development, Staging, Retirement |
| Staging | Registration, Production, Retirement |
| Production | Staging, Retraining, Retirement |
| Retraining | Registration, Staging, Retirement |
| Retirement | (nowhere: it is the end) |

Production is entered only with an approval of exactly that version, digest and stage, given by somebody other than who
asked for it; of several decisions, the newest counts. Several versions may be in Production at once. The alias
`champion` names the one that entered it last, and where that one leaves, the one that entered before it and stayed.
"""

import re
from collections.abc import Collection, Iterable

from modelops.contracts.errors import InvalidInput, ModelRegistryError, PermissionDenied
from modelops.contracts.ids import id_pattern
from modelops.domains.models.schemas import Stage

NEXT: dict[Stage, frozenset[Stage]] = {
    Stage.DEVELOPMENT: frozenset({Stage.REGISTRATION, Stage.RETIREMENT}),
    Stage.REGISTRATION: frozenset({Stage.DEVELOPMENT, Stage.STAGING, Stage.RETIREMENT}),
    Stage.STAGING: frozenset({Stage.REGISTRATION, Stage.PRODUCTION, Stage.RETIREMENT}),
    Stage.PRODUCTION: frozenset({Stage.STAGING, Stage.RETRAINING, Stage.RETIREMENT}),
    Stage.RETRAINING: frozenset({Stage.REGISTRATION, Stage.STAGING, Stage.RETIREMENT}),
    Stage.RETIREMENT: frozenset(),
}
FIRST = frozenset({Stage.DEVELOPMENT, Stage.REGISTRATION})
NEEDS_APPROVAL = frozenset({Stage.PRODUCTION})
CHAMPION = "champion"
"""The alias that follows the versions in Production."""

ANY_MODEL = "-"
"""Stands for the model where a version is named by its id."""

MAX_VERSION = 2**31 - 1
MAX_TAG_KEY = 250
MAX_TAG_VALUE = 100_000
MLFLOW = "mlflow"
"""The flavour of models that MLflow wrote."""

NO_INPUTS = "It was logged without a signature, so nothing tells which inputs it takes."
"""Why a model that MLflow logged without a signature cannot be deployed."""

UNPACKAGED = "unpackaged"
"""Stands for the flavour where a version has no files, and only says where they are."""

COMPILED_RECORD, COMPILED_GRAPH = "compiled/record.json", "compiled/model.onnx"
"""Where a package says in which form it is served, and where the ONNX graph of that form lies."""

_VERSION_ID = re.compile(id_pattern("mver"))
_MODEL_ID = re.compile(id_pattern("mdl"))
_WORDS = frozenset(
    {"metrics", "register", ANY_MODEL, ".", ".."}
)  # they stand in the API's paths where a model's name does
_LATEST = "latest"


class StageTransitionRefused(ModelRegistryError):
    """The stage cannot be reached from the present one."""

    code, title = "models.stage_refused", "The stage cannot be reached from here"


class ApprovalRequired(ModelRegistryError):
    """The stage needs an approval that is not there."""

    code, title = "models.approval_required", "An approval is needed"


class ApprovalRefused(ModelRegistryError):
    """The approval cannot be given, or was decided before."""

    code, title = "models.approval_refused", "The approval cannot be given so"


class ValidationRequired(ModelRegistryError):
    """The model's policy asks for checks that have not passed on this version."""

    code, title = "models.validation_required", "A validation is needed"


class AliasRefused(ModelRegistryError):
    """The alias cannot point there."""

    code, title = "models.alias_refused", "The alias cannot point there"


class DeletionRefused(ModelRegistryError):
    """What is in use is not deleted."""

    code, title = "models.deletion_refused", "It cannot be deleted now"


class ScanRefused(ModelRegistryError):
    """The files hold what nobody allowed, or cannot be judged."""

    code, title = "models.scan_refused", "The model's files are refused"


def check_name(name: str) -> None:
    """Refuse a model's name that would read as an id or as a word of the API: a reference must mean one thing.

    Raises:
        InvalidInput: it would.
    """
    if _VERSION_ID.match(name) or _MODEL_ID.match(name):
        raise InvalidInput(f"'{name}' has the form of an id, not of a name.", hint="Choose another name.")
    if name in _WORDS:
        raise InvalidInput(f"'{name}' is a word of the API and cannot name a model.", hint="Choose another name.")


def check_inputs(flavour: str, inputs: int) -> None:
    """Refuse a version that does not say what it takes; a model that MLflow logged need not.

    Raises:
        InvalidInput: it does not.
    """
    if not inputs and flavour != MLFLOW:
        raise InvalidInput("The signature names no inputs.", hint="Name each column that the model takes.")


def check_tag(key: str, value: str) -> None:
    """Refuse a tag that cannot be stored.

    Raises:
        InvalidInput: it is too long, or holds a NUL character.
    """
    if not 1 <= len(key) <= MAX_TAG_KEY or len(value) > MAX_TAG_VALUE or "\x00" in key + value:
        raise InvalidInput(
            f"The tag '{key[:100]}' cannot be stored.",
            hint=f"A key has 1 to {MAX_TAG_KEY} characters, a value up to {MAX_TAG_VALUE}, and none is NUL.",
        )


def check_deletion(name: str, version: int, stage: Stage) -> None:
    """Refuse to delete what is in Production.

    Raises:
        DeletionRefused: it is.
    """
    if stage is Stage.PRODUCTION:
        raise DeletionRefused(f"{name}:{version} is in Production.", hint="Move it to another stage first.")


def check_first_stage(stage: Stage) -> None:
    """Refuse a stage that a version cannot be registered in."""
    if stage not in FIRST:
        allowed = " or ".join(sorted(FIRST))
        raise StageTransitionRefused(
            f"A version cannot be registered in {stage}.", hint=f"Register it in {allowed}, then move it step by step."
        )


def check_features(names: Iterable[str]) -> None:
    """Refuse input columns of which two have one name: an object by feature name could not be told apart.

    Raises:
        InvalidInput: names the first that comes twice.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidInput(f"The signature has two inputs named '{name[:100]}'.", hint="Give each its own name.")
        seen.add(name)


def check_transition(name: str, version: int, present: Stage, wanted: Stage) -> None:
    """Refuse a move that the table above does not have.

    Raises:
        StageTransitionRefused: the error names where the version can go.
    """
    if wanted not in NEXT[present]:
        ways = ", ".join(sorted(NEXT[present])) or "nowhere: Retirement is the end"
        raise StageTransitionRefused(
            f"{name}:{version} is in {present} and cannot go to {wanted} from there.", hint=f"It can go to: {ways}."
        )


def check_rules(stages: Iterable[Stage]) -> None:
    """Refuse to ask for something before a stage that versions are registered in at once, or that is their end.

    Raises:
        InvalidInput: names it.
    """
    for stage in stages:
        if stage in FIRST or stage is Stage.RETIREMENT:
            allowed = ", ".join(sorted(set(Stage) - FIRST - {Stage.RETIREMENT}))
            raise InvalidInput(f"Nothing can be asked for before {stage}.", hint=f"Rules are for: {allowed}.")


def check_request(name: str, version: int, present: Stage, wanted: Stage) -> None:
    """Refuse to ask for an approval that nothing could come of.

    Raises:
        ApprovalRefused: the stage needs none, or the version is retired.
    """
    if wanted not in NEEDS_APPROVAL:
        raise ApprovalRefused(f"{wanted} needs no approval.", hint="Move the version there: `set_stage`.")
    if present is Stage.RETIREMENT:
        raise ApprovalRefused(
            f"{name}:{version} is retired, and Retirement is the end.", hint="Ask for another version."
        )


def check_decider(requested_by: str, decided_by: str) -> None:
    """Refuse that somebody approves his own request.

    Raises:
        PermissionDenied: requester and approver are the same.
    """
    if requested_by == decided_by:
        raise PermissionDenied(
            "Who asks for an approval cannot give it.", hint="Ask another member with the permission 'models.approve'."
        )


def check_alias(alias: str, name: str, version: int, stage: Stage) -> None:
    """Refuse an alias for a version that it cannot point at.

    Raises:
        AliasRefused: the version is retired, or `champion` would leave Production, or `latest` would not be the latest.
    """
    if alias == _LATEST:
        raise AliasRefused("`latest` is the newest version by itself.", hint=f"Name it so: {name}:latest.")
    if stage is Stage.RETIREMENT:
        raise AliasRefused(f"{name}:{version} is retired.", hint="Point the alias at another version.")
    if alias == CHAMPION and stage is not Stage.PRODUCTION:
        raise AliasRefused(
            f"`{CHAMPION}` is for versions in Production, and {name}:{version} is in {stage}.",
            hint="Promote the version; the alias follows by itself.",
        )


def next_champion(
    present: int | None, moved: int, to: Stage, promotions: Iterable[int], in_production: Collection[int]
) -> int | None:
    """Return the version that `champion` names after a move; None where it names none.

    Args:
        present: The one it named before.
        moved: The version that was moved.
        to: The stage that it has entered.
        promotions: The versions that entered Production, newest first; one may come several times.
        in_production: Those that are in it now.
    """
    if to is Stage.PRODUCTION:
        return moved
    if present != moved:
        return present
    return next((version for version in promotions if version in in_production), None)


def is_version_id(text: str) -> bool:
    """Tell whether a text is the id of a version, `mver_…`."""
    return _VERSION_ID.match(text) is not None


def parse_ref(ref: str) -> tuple[str, int | None, str | None]:
    """Read `name`, `name:3`, `name:latest` or `name@alias` into name, version and alias.

    Raises:
        InvalidInput: what stands after the colon is no version.
    """
    name, at, alias = ref.rpartition("@")
    if at:
        return name, None, alias
    name, colon, version = ref.rpartition(":")
    if not colon:
        return ref, None, None
    return name, parse_version(version), None


def parse_version(text: str) -> int | None:
    """Read a version number, or `latest` as None."""
    if text == _LATEST:
        return None
    number = int(text) if len(text) <= 10 and text.isascii() and text.isdigit() else 0
    if not 1 <= number <= MAX_VERSION:
        raise InvalidInput(f"'{text[:50]}' is no version.", hint="Write its number, `latest`, or `@alias`.")
    return number

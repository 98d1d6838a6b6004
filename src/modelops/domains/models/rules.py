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
asked for it.
"""

from modelops.contracts.errors import InvalidInput, ModelRegistryError, PermissionDenied
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
"""The alias that follows the version promoted to Production last."""

MAX_VERSION = 2**31 - 1


class StageTransitionRefused(ModelRegistryError):
    """The stage cannot be reached from the present one."""

    code, title = "models.stage_refused", "The stage cannot be reached from here"


class ApprovalRequired(ModelRegistryError):
    """The stage needs an approval that is not there."""

    code, title = "models.approval_required", "An approval is needed"


class ApprovalRefused(ModelRegistryError):
    """The approval cannot be given, or was decided before."""

    code, title = "models.approval_refused", "The approval cannot be given so"


def check_first_stage(stage: Stage) -> None:
    """Refuse a stage that a version cannot be registered in."""
    if stage not in FIRST:
        allowed = " or ".join(sorted(FIRST))
        raise StageTransitionRefused(
            f"A version cannot be registered in {stage}.", hint=f"Register it in {allowed}, then move it step by step."
        )


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


def check_decider(requested_by: str, decided_by: str) -> None:
    """Refuse that somebody approves his own request.

    Raises:
        PermissionDenied: requester and approver are the same.
    """
    if requested_by == decided_by:
        raise PermissionDenied(
            "Who asks for an approval cannot give it.", hint="Ask another member with the permission 'models.approve'."
        )


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
    if text == "latest":
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:11]) <= MAX_VERSION:
        raise InvalidInput(f"'{text[:50]}' is no version.", hint="Write its number, `latest`, or `@alias`.")
    return int(text)

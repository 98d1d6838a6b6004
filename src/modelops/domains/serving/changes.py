"""Changes of a deployment: what is wished, checked, and made into the next revision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelops.contracts.errors import DeploymentError
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import jsonable
from modelops.domains.models import service as models
from modelops.domains.models.schemas import ModelSignature, ModelVersion, Stage
from modelops.domains.serving.courses.courses import RolloutState, Strategy, end
from modelops.domains.serving.courses.strategies import AllAtOnce, BlueGreen, Canary
from modelops.domains.serving.errors import IncompatibleVariant
from modelops.domains.serving.history import add_rollout, write_course
from modelops.domains.serving.rows import course_of, home_of, pending_rollout, policy_of, variants_of
from modelops.domains.serving.schemas import (
    DeploymentState,
    RevisionState,
    RevisionVariant,
    ServingLimits,
    TrafficPolicy,
    VariantRole,
)
from modelops.domains.serving.tables import DeploymentRow, RevisionRow
from modelops.domains.serving.variants import mismatch
from modelops.domains.serving.workloads import runs_our_runtime
from modelops.kernel.context import Context


@dataclass(frozen=True)
class Wish:
    """What a revision is to be, with every model resolved and checked. `others` are the variants beside the champion."""

    version: ModelVersion
    limits: ServingLimits
    traffic: TrafficPolicy
    others: Sequence[RevisionVariant]


def wish_for(
    ctx: Context,
    model: str,
    limits: ServingLimits,
    traffic: TrafficPolicy,
    resolved: Sequence[RevisionVariant] | None = None,
) -> Wish:
    """Resolve and check what a revision is to be.

    Args:
        resolved: Variants of the same policy as they were resolved before; by default its models are resolved now.

    Raises:
        NotFound: a model is not there.
        DeploymentError: one cannot be served, or does not take the champion's requests.
    """
    champion = servable(ctx, model)
    before = {one.name: one.model_version_id for one in resolved or ()}
    parts = [(one.name, one.model, one.share, VariantRole.CHALLENGER) for one in traffic.challengers]
    parts += [(one.name, one.model, one.share, VariantRole.SHADOW) for one in traffic.shadows]
    others = []
    for name, reference, share, role in parts:
        version = servable(ctx, before.get(name, reference))
        check_fit(f"The variant '{name}' ({version.name}:{version.version})", champion.signature, version)
        others.append(
            RevisionVariant(
                name=name,
                role=role,
                share=share,
                model=version.name,
                model_version=version.version,
                model_version_id=version.id,
            )
        )
    return Wish(champion, limits, traffic, others)


def servable(ctx: Context, ref: str) -> ModelVersion:
    """Return the version that a reference names. Raises NotFound, or DeploymentError where it cannot be served."""
    version = models.resolve_version(ctx, ref)
    if version.stage is Stage.RETIREMENT:
        raise DeploymentError(
            f"Version {version.version} of '{version.name}' is retired.",
            hint="Retired versions are not deployed again; choose another one.",
        )
    if version.undeployable is not None:
        raise DeploymentError(
            f"Version {version.version} of '{version.name}' cannot be deployed. {version.undeployable}",
            hint="Register a version that can; `mops models list-versions` tells which ones there are.",
        )
    return version


def check_fit(what: str, champion: ModelSignature, other: ModelVersion) -> None:
    """Refuse a model that cannot share the champion's traffic. Raises IncompatibleVariant, naming the feature."""
    if why := mismatch(champion, other.signature):
        raise IncompatibleVariant(f"{what} cannot answer the champion's requests: {why}.")


def same_wish(wish: Wish, revision: RevisionRow) -> bool:
    """Tell whether a revision is what is wished."""
    return (
        wish.version.id == revision.model_version_id
        and wish.limits == ServingLimits.model_validate(revision.limits)
        and list(wish.others) == variants_of(revision)[1:]
        and (wish.traffic == policy_of(revision) or (revision.traffic is None and wish.traffic == TrafficPolicy()))
    )


def refuse_deleting(row: DeploymentRow) -> None:
    """Refuse a change of what is being deleted."""
    if row.deleting:
        raise DeploymentError(f"The deployment '{row.name}' is being deleted.", hint="Make a new one once it is gone.")


def begin(row: DeploymentRow) -> None:
    """Note that a change is under way: nobody has watched it yet."""
    row.state, row.reason = DeploymentState.PROGRESSING, None
    row.waited_s, row.seen_at = 0.0, None


def supersede(
    ctx: Context,
    row: DeploymentRow,
    revisions: Mapping[int, RevisionRow],
    wish: Wish,
    strategy: Strategy,
    *,
    towards: RevisionRow | None = None,
) -> RevisionRow:
    """Want a new revision; one that was still being brought up is dropped.

    Args:
        towards: An earlier revision to go back to, whose processes may be kept still.

    Raises:
        DeploymentError: the strategy cannot be had for this change.
    """
    number = max(revisions) + 1
    strategy = _suited(revisions, row, wish, strategy)
    home = _home(ctx, row, revisions, wish, strategy, towards)
    if isinstance(strategy, Canary) and home is None:
        raise DeploymentError(
            "A canary answers within the processes that serve, and this change needs new ones.",
            hint="Change `cpus`, `memory_mb` and `grpc` by themselves, and move what an older version of the platform started "
            "to processes of this one, with the strategy `all_at_once` or `blue_green`.",
        )
    before, why = revisions[row.wanted_revision], f"Revision {number} replaced it before it was ready."
    if (rollout := pending_rollout(ctx, row, revisions)) is not None:
        write_course(ctx, row, rollout, end(course_of(rollout), RolloutState.SUPERSEDED, why))
    if before.state == RevisionState.PENDING:
        before.state, before.reason = RevisionState.SUPERSEDED, why
    row.wanted_revision, row.failure = number, None
    begin(row)
    revision = add_revision(ctx, row, number, wish, home)
    if row.active_revision is not None:
        add_rollout(ctx, row, revision, strategy)
    return revision


def add_revision(ctx: Context, row: DeploymentRow, number: int, wish: Wish, home: int | None) -> RevisionRow:
    """Write a revision that is to be brought up, in the workload of another one where `home` names it."""
    revision = RevisionRow(
        id=new_id("rev"),
        project_id=row.project_id,
        deployment_id=row.id,
        number=number,
        home=home,
        model_version_id=wish.version.id,
        model=wish.version.name,
        model_version=wish.version.version,
        limits=wish.limits.model_dump(mode="json"),
        traffic=jsonable(wish.traffic),
        variants=[jsonable(one) for one in wish.others],
        state=RevisionState.PENDING,
        placed=False,
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
    )
    ctx.session.add(revision)
    ctx.session.flush()
    return revision


def _suited(revisions: Mapping[int, RevisionRow], row: DeploymentRow, wish: Wish, strategy: Strategy) -> Strategy:
    """Return the strategy that a change has need of: a canary compares two models, so there must be two."""
    if row.active_revision is None:
        return AllAtOnce()
    if isinstance(strategy, Canary) and revisions[row.active_revision].model_version_id == wish.version.id:
        return AllAtOnce()
    return strategy


def _home(
    ctx: Context,
    row: DeploymentRow,
    revisions: Mapping[int, RevisionRow],
    wish: Wish,
    strategy: Strategy,
    towards: RevisionRow | None,
) -> int | None:
    """Return the revision in whose workload a new one can live; None where it needs one of its own."""
    if row.active_revision is None or isinstance(strategy, BlueGreen):
        return None
    if isinstance(strategy, Canary):
        serving = models.get_version_by_id(ctx, revisions[row.active_revision].model_version_id)
        check_fit(f"The model {wish.version.name}:{wish.version.version}", serving.signature, wish.version)
    now = ctx.clock.now()
    homes = [revisions[home_of(revisions[row.active_revision])]]
    if towards is not None and (kept := revisions[home_of(towards)]).keep_until is not None and kept.keep_until > now:
        homes.insert(0, kept)
    for home in homes:
        made = ServingLimits.model_validate(home.limits)
        if home.placed and made.of_processes == wish.limits.of_processes and runs_our_runtime(home.spec or {}):
            return home.number
    return None

"""What makes the number of a deployment's replicas follow its load."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from modelops.contracts.schemas import jsonable
from modelops.domains.identity import service as identity
from modelops.domains.serving.changes import begin
from modelops.domains.serving.policies.autoscaling import Autoscaling
from modelops.domains.serving.policies.demand import Decision, Sample
from modelops.domains.serving.replicas.figures import Reading, summed
from modelops.domains.serving.replicas.gateway import Gateway
from modelops.domains.serving.replicas.reading import read_replicas
from modelops.domains.serving.replicas.tokens import platform_token
from modelops.domains.serving.rows import endpoints_of, revision_rows, scaling_of
from modelops.domains.serving.scaling.observations import Observations
from modelops.domains.serving.schemas import RevisionState
from modelops.domains.serving.tables import DeploymentRow
from modelops.kernel.context import Context

_EVERY_S = 0.4
"""The controller may be woken much more often than there is something to learn."""

_RATES_OVER_S = 0.2
"""Rates are not told from looks that lie closer together."""


@dataclass(frozen=True)
class Load:
    """What one step looks at. `at` is the present on the monotonic clock; `busy` tells that a revision is brought up."""

    deployment_id: str
    policy: Autoscaling
    wanted: int
    endpoints: Sequence[str]
    token: str
    at: float
    busy: bool


@dataclass(frozen=True)
class Rescale:
    """What a step decided, on which grounds."""

    load: Load
    decision: Decision


class ScalingReconciler:
    """Looks at what the replicas of each deployment do that scales itself, and changes how many there shall be."""

    name = "serving.scaling"

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return the deployments whose number of replicas is not fixed."""
        query = select(DeploymentRow.id, DeploymentRow.autoscaling).where(DeploymentRow.deleting.is_(False))
        return [key for key, policy in ctx.session.execute(query.order_by(DeploymentRow.id)) if policy is not None]

    def load(self, ctx: Context, key: str) -> Load | None:
        """Return which replicas to look at; None where it is too early, or there are none."""
        row = ctx.session.get(DeploymentRow, key)
        policy = None if row is None else scaling_of(row)
        if row is None or policy is None:
            return None
        watched, now = ctx.port(Observations), ctx.clock.monotonic()
        # What is new is seen at work before it idles.
        revisions = revision_rows(ctx, row)
        busy = revisions[row.wanted_revision].state == RevisionState.PENDING
        if row.replicas == 0 and policy.sleeps and not busy:
            watched.rest(key)
            return None
        samples = watched.demand(key).samples
        if samples and 0 <= now - samples[-1].at < _EVERY_S:
            return None
        ready, _ = endpoints_of(row, revisions)
        token = platform_token(ctx.within(row.project_id)) if ready else ""
        return Load(key, policy, row.replicas, ready, token, now, busy)

    def act(self, ports: Mapping[type, Any], state: Load) -> Rescale | None:
        """Ask the replicas and decide."""
        if state.wanted == 0:
            return Rescale(state, Decision(state.policy.bound(0), "A revision is to be brought up."))
        watched: Observations = ports[Observations]
        demand = watched.demand(state.deployment_id)
        last = demand.samples[-1].at if demand.samples else state.at
        # Others look, too; what was asked since this loop's own last look must not be lost in between.
        before = watched.before(state.deployment_id, last)
        reading = read_replicas(ports[Gateway], state.endpoints, state.token, state.at)
        watched.add(state.deployment_id, reading)
        asked = state.busy or watched.asked_at(state.deployment_id) >= last
        decision = demand.decide(state.policy, sample_of(reading, before, state.wanted, asked))
        return None if decision.replicas == state.wanted else Rescale(state, decision)

    def apply(self, ctx: Context, key: str, seen: Rescale) -> None:
        """Write how many replicas there shall be, unless somebody changed that, or asked, in the meantime."""
        row = ctx.session.scalars(select(DeploymentRow).where(DeploymentRow.id == key).with_for_update()).one_or_none()
        load, replicas = seen.load, seen.decision.replicas
        if row is None or row.deleting or row.replicas != load.wanted or scaling_of(row) != load.policy:
            return
        if replicas == 0 and ctx.port(Observations).asked_at(key) >= load.at:
            return
        row.replicas, row.scaled_at = replicas, ctx.clock.now()
        if row.waited_s is None:
            begin(row)
        ctx.within(row.project_id, identity.tenant_of(ctx, row.project_id)).emit(
            "modelops.serving.deployment_scaled",
            row.id,
            name=row.name,
            before=load.wanted,
            replicas=replicas,
            reason=seen.decision.why,
            policy=jsonable(load.policy),
        )


def sample_of(reading: Reading, before: Reading | None, wanted: int, asked: bool) -> Sample:
    """Return what two readings say of the load.

    Requests at once are those that the replicas have, or, where that is more, the time that requests took in all, by the
    time between the readings (Little's law): a fast model is through with them whenever somebody looks.

    Args:
        asked: Somebody is known to have asked since the sample before.
    """
    inflight = float(sum(told.inflight + told.waiting for told in reading.answered))
    grown = reading.since(before).values()
    wait_ms = None
    if before is not None and reading.at - before.at >= _RATES_OVER_S:
        both = Reading(reading.at, {key: told for key, told in reading.told.items() if key in before.told})
        counted = summed(both.since(before).values())
        inflight = max(inflight, counted.latencies.total_s / (reading.at - before.at))
        wait_ms = counted.waits.quantile_ms(0.95)
    asked = asked or reading.explained_since(before) or any(one.requests or one.rejected for one in grown)
    return Sample(reading.at, wanted, len(reading.answered), inflight, wait_ms, asked)

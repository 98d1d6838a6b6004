"""What keeps deployments as they should be: their workloads over the port `Deployer`."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import select

from modelops.contracts.errors import MLOpsError
from modelops.contracts.ports import Deployer, Phase, ReplicaObservation, WorkloadSpec
from modelops.domains.identity import service as identity
from modelops.domains.serving.analysis.analysis import in_words
from modelops.domains.serving.comparing import Comparison, compared, comparison
from modelops.domains.serving.directing import Order, direct
from modelops.domains.serving.documents import prepare_revision
from modelops.domains.serving.orders import control_token, orders, specs
from modelops.domains.serving.outcomes import Tails, desired_of, forget_deployment, write_replicas, write_verdict
from modelops.domains.serving.replicas.control import ReplicaControl
from modelops.domains.serving.rollouts import AnalysisResult
from modelops.domains.serving.rows import observed, pending_rollout, revision_rows
from modelops.domains.serving.rules import NOT_SCALED, Look, judge, plan
from modelops.domains.serving.scaling.resizing import follow
from modelops.domains.serving.schemas import Replica
from modelops.domains.serving.tables import DeploymentRow, RevisionRow
from modelops.domains.serving.workloads import LOG_BYTES, is_ours, workload_name
from modelops.kernel.context import Context
from modelops.kernel.work import PlatformUrl

T = TypeVar("T")

_TAIL_CHARACTERS = 8_000
_LAST_WORDS = 600
_SECONDS_TO_END = 10.0
"""What a replica may take beyond its draining, to hand over its telemetry."""


@dataclass(frozen=True)
class Task:
    """What one step does: the workloads to run, what their replicas shall serve, and the workloads to end, by revision; the
    comparison to make; and what was known before. `token` is for calls to replicas."""

    run: Mapping[int, WorkloadSpec]
    orders: Mapping[int, Order]
    token: str
    comparison: Comparison | None
    end: Mapping[int, str]
    prepare: bool
    grace_s: float
    known: Sequence[Replica]
    under_way: bool
    replicas: int
    told: str | None


@dataclass(frozen=True)
class Seen:
    """What one step saw. `tails` are the last output of replicas that are not ready, by revision and index; `analysis` is of
    the stage that `comparison` names. `scaled` is how many replicas the cluster wants, where it decides; `unscaled` is why it
    does not, although it should."""

    replicas: Sequence[Replica] = ()
    ended: frozenset[int] = frozenset()
    url: str | None = None
    problem: str | None = None
    tails: Tails = field(default_factory=dict)
    comparison: Comparison | None = None
    analysis: AnalysisResult | None = None
    scaled: int | None = None
    unscaled: str | None = None


class DeploymentReconciler:
    """Runs each deployment's active revision, and beside it the one that is brought up."""

    name = "serving.deployments"

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return every deployment: a replica may die at any time."""
        return ctx.session.scalars(select(DeploymentRow.id).order_by(DeploymentRow.id)).all()

    def load(self, ctx: Context, key: str) -> Task | None:
        """Return what is to run and to end."""
        row = ctx.session.get(DeploymentRow, key)
        if row is None:
            return None
        ctx = ctx.within(row.project_id, identity.tenant_of(ctx, row.project_id))
        revisions, now = revision_rows(ctx, row), ctx.clock.now()
        rollout = pending_rollout(ctx, row, revisions)
        desired = desired_of(row, revisions, rollout, now)
        step = plan(desired)
        under_way = (
            row.deleting or row.waited_s is not None or (desired.course is not None and desired.course.is_due(now))
        )
        if not (step.run or step.end or step.prepare is not None or under_way):
            return None
        directed, known = orders(row, revisions, desired), observed(row)
        unsure = any(directed[one.revision].control.digest != one.serves for one in known if one.revision in directed)
        return Task(
            run=specs(ctx, row, revisions, step.run),
            orders=directed,
            token=control_token(ctx, row) if directed and (under_way or unsure) else "",
            comparison=comparison(ctx, row, revisions, rollout),
            end={number: workload_name(row.id, number) for number in step.end},
            prepare=step.prepare is not None,
            grace_s=ctx.settings.drain_s + _SECONDS_TO_END,
            known=known,
            under_way=under_way,
            replicas=row.replicas,
            told=row.reason,
        )

    def act(self, ports: Mapping[type, Any], state: Task) -> Seen | None:
        """Run, direct, end and look. An error of the world is an observation too: it must not keep a change from failing."""
        deployer: Deployer = ports[Deployer]
        replicas, tails, problems = list[Replica](), dict[tuple[int, int], str](), list[str]()
        url = _attempt(ports[PlatformUrl].get, problems) if state.prepare else None
        known = {(one.revision, one.index): one for one in state.known}
        scaled: int | None = None
        unscaled = list[str]()
        for number, spec in state.run.items():
            # Looking comes first: a replica that ended is started again by `apply`, and why it ended would be lost.
            seen = _look(deployer, number, spec.name, tails)
            if order := state.orders.get(number):
                seen = direct(ports[ReplicaControl], order, seen, known, state.token, ask_all=state.under_way)
            replicas += seen
            _attempt(partial(deployer.apply, spec), problems if spec.scaling is None else unscaled)
            if spec.scaling is not None:
                scaled = _attempt(partial(deployer.scaled, spec.name), problems)
        ended = {number for number, name in state.end.items() if deployer.remove(name, grace_s=state.grace_s)}
        for number in sorted(state.end.keys() - ended):
            replicas += _look(deployer, number, state.end[number], tails)
        told = state.told or ""
        rescaled = scaled not in (None, state.replicas) or bool(unscaled) != (NOT_SCALED in told)
        if not (state.under_way or url or ended or state.comparison or rescaled) and replicas == list(state.known):
            return None
        analysis = None if state.comparison is None else compared(state.comparison)
        problem = " ".join(problems) or None
        why = " ".join(unscaled) or None
        return Seen(tuple(replicas), frozenset(ended), url, problem, tails, state.comparison, analysis, scaled, why)

    def apply(self, ctx: Context, key: str, seen: Seen) -> None:
        """Write what was seen, and what follows from it."""
        row = ctx.session.scalars(select(DeploymentRow).where(DeploymentRow.id == key).with_for_update()).one_or_none()
        if row is None:
            return
        ctx = ctx.within(row.project_id, identity.tenant_of(ctx, row.project_id))
        revisions = revision_rows(ctx, row)
        for number in seen.ended:
            revisions[number].placed, revisions[number].keep_until = False, None
        if row.deleting and not any(revision.placed for revision in revisions.values()):
            forget_deployment(ctx, row)
            return
        rollout, now = pending_rollout(ctx, row, revisions), ctx.clock.now()
        follow(ctx, row, seen.scaled)
        desired = desired_of(row, revisions, rollout, now)
        problem = seen.problem
        if seen.url and plan(desired).prepare is not None:
            problem = prepare_revision(ctx, row, revisions[row.wanted_revision], seen.url, sys.executable) or problem
        # Meanwhile somebody may have moved the rollout on: then the analysis is of a stage that is over.
        fresh = seen.comparison is not None and seen.comparison.is_of(rollout)
        analysis = seen.analysis if fresh else None
        verdict, why = (None, "") if analysis is None else (analysis.outcome, in_words(analysis))
        write_replicas(ctx, row, revisions, seen.replicas)
        found = judge(
            desired, Look(seen.replicas, problem, verdict, why, seen.unscaled), now, ctx.settings.ready_timeout_s
        )
        write_verdict(ctx, row, revisions, rollout, found, seen.tails, analysis)


class OrphanReconciler:
    """Ends workloads that belong to no revision: a controller that was cut off may have started one that was ended
    before."""

    name = "serving.orphans"
    rest_s = 5.0

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return the one key: all workloads are looked at together."""
        return ["workloads"]

    def load(self, ctx: Context, key: str) -> Sequence[str] | None:
        """Return the workloads that nobody may want.

        They are listed before the rows are read, and a revision is written as placed before its workload is made, and
        as not placed only after that was seen gone: so what is listed and not placed then is never wanted again.
        """
        listed = [name for name in ctx.port(Deployer).names() if is_ours(name)]
        if not listed:
            return None
        query = select(RevisionRow.deployment_id, RevisionRow.number).where(RevisionRow.placed)
        placed = {workload_name(*found) for found in ctx.session.execute(query)}
        return [name for name in listed if name not in placed] or None

    def act(self, ports: Mapping[type, Any], state: Sequence[str]) -> None:
        """End them."""
        for name in state:
            ports[Deployer].remove(name)

    def apply(self, ctx: Context, key: str, seen: None) -> None:
        """Nothing is written."""


def _attempt(action: Callable[[], T], problems: list[str]) -> T | None:
    try:
        return action()
    except MLOpsError as wrong:
        problems.append(str(wrong))
        return None


def _look(deployer: Deployer, number: int, name: str, tails: dict[tuple[int, int], str]) -> list[Replica]:
    """Return the replicas of a revision's workload, and add what those that are not ready last said to `tails`."""
    found = []
    for seen in deployer.observe(name):
        tail = "" if seen.ready else _last_output(deployer, name, seen.index)
        if tail:
            tails[number, seen.index] = tail
        found.append(_replica(number, seen, tail))
    return found


def _replica(number: int, seen: ReplicaObservation, tail: str) -> Replica:
    reason = seen.reason
    if seen.phase in (Phase.EXITED, Phase.LOST) and (words := _last_words(tail)):
        reason = f"{(reason or 'it ended').rstrip('.')}; it last said: {words}"
    return Replica(
        revision=number,
        index=seen.index,
        phase=seen.phase,
        ready=seen.ready,
        endpoint=seen.endpoint,
        grpc_endpoint=seen.grpc_endpoint,
        pid=seen.pid,
        restarts=seen.restarts,
        reason=reason,
        started_at=seen.started_at,
    )


def _last_output(deployer: Deployer, name: str, index: int) -> str:
    """Return the end of what a replica has said."""
    text = deployer.log(name, index, limit=LOG_BYTES).decode(errors="replace").replace("\x00", "")
    return text[-_TAIL_CHARACTERS:]


def _last_words(tail: str) -> str:
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    return lines[-1][:_LAST_WORDS] if lines else ""

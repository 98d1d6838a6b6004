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
from modelops.domains.serving.documents import prepare_revision, token_of
from modelops.domains.serving.outcomes import Tails, desired_of, forget_deployment, write_replicas, write_verdict
from modelops.domains.serving.rows import observed, revision_rows
from modelops.domains.serving.rules import Look, judge, plan
from modelops.domains.serving.schemas import Replica, ServingLimits
from modelops.domains.serving.tables import DeploymentRow, RevisionRow
from modelops.domains.serving.workloads import LOG_BYTES, is_ours, workload_name, workload_spec
from modelops.kernel.context import Context
from modelops.kernel.work import PlatformUrl

T = TypeVar("T")

_TAIL_CHARACTERS = 8_000
_LAST_WORDS = 600
_SECONDS_TO_END = 10.0
"""What a replica may take beyond its draining, to hand over its telemetry."""


@dataclass(frozen=True)
class Task:
    """What one step does: the workloads to run and to end, by revision, and what was known before."""

    run: Mapping[int, WorkloadSpec]
    end: Mapping[int, str]
    prepare: bool
    grace_s: float
    known: Sequence[Replica]
    under_way: bool


@dataclass(frozen=True)
class Seen:
    """What one step saw. `tails` are the last output of replicas that are not ready, by revision and index."""

    replicas: Sequence[Replica] = ()
    ended: frozenset[int] = frozenset()
    url: str | None = None
    problem: str | None = None
    tails: Tails = field(default_factory=dict)


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
        revisions = revision_rows(ctx, row)
        step = plan(desired_of(row, revisions))
        under_way = row.deleting or row.waited_s is not None
        if not (step.run or step.end or step.prepare is not None or under_way):
            return None
        return Task(
            run={number: _spec(ctx, row, revisions[number], replicas) for number, replicas in step.run.items()},
            end={number: workload_name(row.id, number) for number in step.end},
            prepare=step.prepare is not None,
            grace_s=ctx.settings.drain_s + _SECONDS_TO_END,
            known=observed(row),
            under_way=under_way,
        )

    def act(self, ports: Mapping[type, Any], state: Task) -> Seen | None:
        """Run, end and look. An error of the world is an observation too: it must not keep a change from failing."""
        deployer: Deployer = ports[Deployer]
        replicas, tails, problems = list[Replica](), dict[tuple[int, int], str](), list[str]()
        url = _attempt(ports[PlatformUrl].get, problems) if state.prepare else None
        for number, spec in state.run.items():
            # Looking comes first: a replica that ended is started again by `apply`, and why it ended would be lost.
            replicas += _look(deployer, number, spec.name, tails)
            _attempt(partial(deployer.apply, spec), problems)
        ended = {number for number, name in state.end.items() if deployer.remove(name, grace_s=state.grace_s)}
        for number in sorted(state.end.keys() - ended):
            replicas += _look(deployer, number, state.end[number], tails)
        if not (state.under_way or url or ended) and replicas == list(state.known):
            return None
        return Seen(tuple(replicas), frozenset(ended), url, " ".join(problems) or None, tails)

    def apply(self, ctx: Context, key: str, seen: Seen) -> None:
        """Write what was seen, and what follows from it."""
        row = ctx.session.scalars(select(DeploymentRow).where(DeploymentRow.id == key).with_for_update()).one_or_none()
        if row is None:
            return
        ctx = ctx.within(row.project_id, identity.tenant_of(ctx, row.project_id))
        revisions = revision_rows(ctx, row)
        for number in seen.ended:
            revisions[number].placed = False
        if row.deleting and not any(revision.placed for revision in revisions.values()):
            forget_deployment(ctx, row)
            return
        desired = desired_of(row, revisions)
        problem = seen.problem
        if seen.url and plan(desired).prepare is not None:
            problem = prepare_revision(ctx, row, revisions[row.wanted_revision], seen.url, sys.executable) or problem
        write_replicas(ctx, row, seen.replicas)
        verdict = judge(desired, Look(seen.replicas, problem), ctx.clock.now(), ctx.settings.ready_timeout_s)
        write_verdict(ctx, row, revisions, verdict, seen.tails)


class OrphanReconciler:
    """Ends workloads that belong to no revision: a controller that was cut off may have started one that was ended
    before."""

    name = "serving.orphans"

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


def _spec(ctx: Context, row: DeploymentRow, revision: RevisionRow, replicas: int) -> WorkloadSpec:
    limits = ServingLimits.model_validate(revision.limits)
    name = workload_name(row.id, revision.number)
    return workload_spec(name, replicas, revision.spec or {}, token_of(ctx, revision), limits)


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

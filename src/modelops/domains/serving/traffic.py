"""Predictions on their way: from a caller of the platform to a replica and back, with no transaction meanwhile."""

import asyncio
import codecs
import time
from dataclasses import dataclass

from fastapi import Response
from fastapi.concurrency import run_in_threadpool

from modelops.contracts.errors import DeploymentError, NotFound, TooLarge
from modelops.contracts.ports import Deployer
from modelops.contracts.tracing import Tracing, calling, untraced
from modelops.domains.identity import service as identity
from modelops.domains.serving.errors import NoReplicaReady, ReplicaBroke
from modelops.domains.serving.holding import Holding
from modelops.domains.serving.replicas.gateway import Answer, Gateway
from modelops.domains.serving.replicas.tokens import PERMISSION, issue_token
from modelops.domains.serving.rows import (
    deployment_row,
    endpoints_of,
    home_of,
    locked_row,
    policy_of,
    revision_rows,
    scaling_of,
)
from modelops.domains.serving.scaling.observations import Observations
from modelops.domains.serving.scaling.resizing import wake
from modelops.domains.serving.schemas import DeploymentState, ReplicaLog, RevisionState, ServingLimits
from modelops.domains.serving.workloads import workload_name
from modelops.kernel.context import Context
from modelops.kernel.scope import Scope

_PASSED_BACK = ("content-type", "retry-after")
_PASSED_ON = ("x-request-id", "traceparent", "x-request-timeout-ms")
_UNWILLING = frozenset({DeploymentState.STOPPED, DeploymentState.FAILED, DeploymentState.DELETING})
_HOPELESS = frozenset({DeploymentState.DEGRADED, DeploymentState.FAILED, DeploymentState.DELETING})
_BROKEN_AT_MOST = 2
"""How often a request may be sent again because a replica broke off: it may be the request that breaks them."""

_AGAIN_S = 0.1


@dataclass(frozen=True)
class Target:
    """Where a deployment answers now.

    Attributes:
        deciding: The headers that may decide which of its variants answers.
        asleep: It was scaled to zero.
        hold_s: How long a request may wait for it to come up; None where nobody waits.
    """

    id: str
    name: str
    state: DeploymentState
    reason: str | None
    endpoints: tuple[str, ...]
    max_body_bytes: int
    deciding: frozenset[str]
    asleep: bool
    hold_s: float | None

    @property
    def decided(self) -> bool:
        """Tell whether waiting for it is over: a replica is there, or none will be."""
        return bool(self.endpoints) or self.hold_s is None


async def predict(scope: Scope, deployment: str) -> Response:
    """Predict rows: the request's body goes to a replica, and its answer comes back, as they are."""
    return await _forward(scope, deployment, "/predict")


async def explain(scope: Scope, deployment: str) -> Response:
    """Explain rows, in the same way."""
    return await _forward(scope, deployment, "/explain")


def get_replica_log(
    scope: Scope, deployment: str, index: int, revision: int | None, offset: int, limit: int
) -> ReplicaLog:
    """Return a piece of a replica's output; of a revision that failed, what it last said.

    By default it is of the revision that is brought up, or the one that serves, or the one that failed.
    """
    with scope.work(write=False) as ctx:
        ctx.require("deployments.read")
        row = deployment_row(ctx, deployment)
        revisions = revision_rows(ctx, row)
        pending = revisions[row.wanted_revision].state == RevisionState.PENDING
        by_default = row.wanted_revision if pending else row.active_revision or row.wanted_revision
        number = by_default if revision is None else revision
        if number not in revisions:
            raise NotFound(f"The deployment '{row.name}' has no revision {number}.")
        home = home_of(revisions[number])
        placed, kept = revisions[home].placed, revisions[number].log_tail or {}
        workload = workload_name(row.id, home)
    if placed:
        content = scope.place.ports[Deployer].log(workload, index, offset=offset, limit=limit)
    else:
        content = kept.get(str(index), "").encode()[offset : offset + limit]
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    text = decoder.decode(content)
    read = len(content) - len(decoder.getstate()[0])
    return ReplicaLog(
        revision=number, index=index, text=text, next_offset=offset + read, complete=not placed and read < limit
    )


async def _forward(scope: Scope, deployment: str, path: str) -> Response:
    target = await run_in_threadpool(_target, scope, deployment)
    body = await _body(scope, target.max_body_bytes)
    if target.hold_s is None:
        answer = await run_in_threadpool(_call, scope, deployment, target, path, body)
    else:
        answer = await _call_or_wait(scope, target, target.hold_s, path, body)
    headers = {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}
    return Response(answer.body, answer.status, headers)


async def _call_or_wait(scope: Scope, target: Target, hold_s: float, path: str, body: bytes) -> Answer:
    """Ask a deployment that may sleep: a request that finds no replica waits for one."""
    deadline, failed, broken = time.monotonic() + hold_s, 0, 0
    while True:
        if target.endpoints:
            try:
                return await run_in_threadpool(_ask, scope, target, path, body)
            except NoReplicaReady as none:
                failed, broken = failed + 1, broken + isinstance(none, ReplicaBroke)
                if broken >= _BROKEN_AT_MOST or time.monotonic() > deadline:
                    raise
            if failed == 1:
                scope.place.ports[Gateway].forget_token(scope.project_id)
            await asyncio.sleep(_AGAIN_S)  # what was last seen of the replicas may be older than their end
        found = await _awaited(scope, target, len(body), deadline)
        if found is None:
            late = await run_in_threadpool(_look, scope, target.id)
            raise NoReplicaReady(f"Within {hold_s:g} s no replica of '{target.name}' became ready. {late.reason or ''}")
        if not found.endpoints:
            raise _not_now(found)
        target = found


async def _awaited(scope: Scope, target: Target, size: int, deadline: float) -> Target | None:
    holding: Holding[Target] = scope.place.ports[Holding]
    settings = scope.place.settings
    with holding.admitted(target.id, size, settings.max_held_requests, settings.max_held_bytes):
        return await holding.until_decided(target.id, lambda: _woken(scope, target.id), scope.request, deadline)


def _woken(scope: Scope, deployment_id: str) -> Target:
    """Return where a deployment answers, after having woken it if it sleeps."""
    scope.place.ports[Observations].asked(deployment_id, scope.place.clock.monotonic())
    found = _look(scope, deployment_id)
    if found.asleep:
        with scope.place.work() as ctx:
            ctx = ctx.within(scope.project_id, identity.tenant_of(ctx, scope.project_id))
            row = locked_row(ctx, deployment_id)
            if wake(row, ctx.clock.now()):
                ctx.emit("modelops.serving.deployment_woken", row.id, name=row.name, replicas=row.replicas)
    scope.place.wake()  # while somebody waits, the controller looks more often
    return found


def _target(scope: Scope, deployment: str) -> Target:
    with scope.work(write=False) as ctx:
        ctx.require(PERMISSION)
        found = _found(ctx, deployment)
    scope.place.ports[Observations].asked(found.id, scope.place.clock.monotonic())
    return found


def _look(scope: Scope, deployment_id: str) -> Target:
    with scope.place.work(write=False) as ctx:
        return _found(ctx.within(scope.project_id), deployment_id)


def _found(ctx: Context, deployment: str) -> Target:
    row = deployment_row(ctx, deployment)
    revisions = revision_rows(ctx, row)
    revision = revisions[row.active_revision or row.wanted_revision]
    traffic = [policy_of(one) for one in (revision, revisions[row.wanted_revision])]
    scaling, state = scaling_of(row), DeploymentState(row.state)
    ready, listening = endpoints_of(row, revisions)
    return Target(
        id=row.id,
        name=row.name,
        state=state,
        reason=row.reason,
        endpoints=tuple(ready or listening),  # one that was too busy to say that it is ready is better than none
        max_body_bytes=ServingLimits.model_validate(revision.limits).max_body_bytes,
        deciding=frozenset(
            name for one in traffic for name in (one.sticky_header, one.override_header) if name is not None
        ),
        asleep=scaling is not None and row.replicas == 0,
        hold_s=scaling.hold_timeout_s if scaling is not None and scaling.sleeps and state not in _HOPELESS else None,
    )


async def _body(scope: Scope, limit: int) -> bytes:
    """Read the body, as long as the deployment's own limit lets it be."""
    scope.accept_upload()
    chunks, size = [], 0
    async for chunk in scope.request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(
                f"The body is larger than {limit:,} bytes, the limit of this deployment.",
                hint="Send fewer rows at once, or raise the deployment's `max_body_bytes`.",
            )
        chunks.append(chunk)
    return b"".join(chunks)


def _call(scope: Scope, deployment: str, target: Target, path: str, body: bytes) -> Answer:
    if not target.endpoints:
        raise _not_now(target)
    try:
        return _ask(scope, target, path, body)
    except NoReplicaReady as none:
        # The deployment may have gone over to another revision since it was looked up.
        newer = _target(scope, deployment)
        if not newer.endpoints:
            raise _not_now(newer) from none
        scope.place.ports[Gateway].forget_token(scope.project_id)
        return _ask(scope, newer, path, body)


def _ask(scope: Scope, target: Target, path: str, body: bytes) -> Answer:
    gateway: Gateway = scope.place.ports[Gateway]
    token = gateway.token(scope.project_id, scope.place.clock.monotonic(), lambda: _issue(scope))
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    passed_on = (*target.deciding, *_PASSED_ON)
    headers |= {name.lower(): value for name in passed_on if (value := scope.request.headers.get(name))}
    headers["x-request-id"] = getattr(scope.request.state, "request_id", "") or headers.get("x-request-id", "")
    tracing = scope.place.ports.get(Tracing)
    if tracing is not None and "traceparent" not in headers:
        headers["traceparent"] = untraced()
    with calling(f"call {path}", headers, {"modelops.deployment": target.name}) as span:
        answer = gateway.call(target.endpoints, path, body, headers, scope.place.settings.request_timeout_s)
        if span is not None:
            span.note({"http.response.status_code": answer.status})
        return answer


def _issue(scope: Scope) -> str:
    with scope.place.work(write=False) as ctx:
        return issue_token(ctx.within(scope.project_id))


def _not_now(target: Target) -> DeploymentError:
    detail = f"The deployment '{target.name}' is {target.state} and has no replica that is ready."
    if target.reason:
        detail = f"{detail} {target.reason}"
    if target.state in _UNWILLING:
        return DeploymentError(detail, hint="`mops deployments update-deployment` gives it replicas or another model.")
    return NoReplicaReady(detail)

"""Predictions on their way: from a caller of the platform to a replica and back, with no transaction meanwhile."""

import codecs
from dataclasses import dataclass

from fastapi import Response
from fastapi.concurrency import run_in_threadpool

from modelops.contracts.errors import DeploymentError, NotFound, TooLarge
from modelops.contracts.ports import Deployer
from modelops.contracts.tracing import Tracing, calling, untraced
from modelops.domains.identity import service as identity
from modelops.domains.serving.errors import NoReplicaReady
from modelops.domains.serving.gateway import TOKEN_TTL_S, Answer, Gateway
from modelops.domains.serving.rows import deployment_row, home_of, observed, policy_of, revision_rows
from modelops.domains.serving.schemas import DeploymentState, ReplicaLog, RevisionState, ServingLimits
from modelops.domains.serving.workloads import workload_name
from modelops.kernel.scope import Scope

_PERMISSION = "deployments.predict"
_PASSED_BACK = ("content-type", "retry-after")
_PASSED_ON = ("x-request-id", "traceparent", "x-request-timeout-ms")
_UNWILLING = frozenset({DeploymentState.STOPPED, DeploymentState.FAILED, DeploymentState.DELETING})


@dataclass(frozen=True)
class Target:
    """Where a deployment answers now. `deciding` are the headers that may decide which of its variants does."""

    name: str
    state: DeploymentState
    reason: str | None
    endpoints: tuple[str, ...]
    max_body_bytes: int
    deciding: frozenset[str]


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
    answer = await run_in_threadpool(_call, scope, deployment, target, path, body)
    headers = {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}
    return Response(answer.body, answer.status, headers)


def _target(scope: Scope, deployment: str) -> Target:
    with scope.work(write=False) as ctx:
        ctx.require(_PERMISSION)
        row = deployment_row(ctx, deployment)
        revisions = revision_rows(ctx, row)
        revision = revisions[row.active_revision or row.wanted_revision]
        policies = [policy_of(one) for one in (revision, revisions[row.wanted_revision])]
        home = None if row.active_revision is None else home_of(revision)
        serving = [
            replica
            for replica in observed(row)
            if replica.revision == home and replica.index < row.replicas and replica.endpoint
        ]
        # One that was too busy to say that it is ready is still better than none.
        chosen = [replica for replica in serving if replica.ready] or serving
        return Target(
            name=row.name,
            state=DeploymentState(row.state),
            reason=row.reason,
            endpoints=tuple(replica.endpoint for replica in chosen if replica.endpoint),
            max_body_bytes=ServingLimits.model_validate(revision.limits).max_body_bytes,
            deciding=frozenset(
                name for one in policies for name in (one.sticky_header, one.override_header) if name is not None
            ),
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
        return identity.call_token(ctx.within(scope.project_id), [_PERMISSION], ttl_s=TOKEN_TTL_S)


def _not_now(target: Target) -> DeploymentError:
    detail = f"The deployment '{target.name}' is {target.state} and has no replica that is ready."
    if target.reason:
        detail = f"{detail} {target.reason}"
    if target.state in _UNWILLING:
        return DeploymentError(detail, hint="`mops deployments update-deployment` gives it replicas or another model.")
    return NoReplicaReady(detail)

"""Routes of the platform itself: health, version, the event stream, and the public keys."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, StreamingResponse
from sqlalchemy import text

from modelops.contracts.errors import InvalidInput, Unavailable
from modelops.contracts.events import Event
from modelops.contracts.platform import Health, HealthCheck, VersionInfo
from modelops.contracts.ports import BlobStore
from modelops.domains.compute import service as compute
from modelops.domains.identity import service as identity
from modelops.domains.identity.schemas import JsonWebKeySet
from modelops.kernel import outbox
from modelops.kernel.context import Context
from modelops.kernel.edge import Router
from modelops.kernel.scope import Scope
from modelops.kernel.work import Workplace
from modelops.server.engines import Engines
from modelops.server.health import check_artifacts, check_health, version_info

router = Router("platform")
unversioned = Router("platform")

_PAUSE_S = 0.3
_KEEP_ALIVE_S = 15.0


@unversioned.get("/healthz")
def get_liveness() -> HealthCheck:
    """Tell that the process lives. Open to all."""
    return HealthCheck(name="process", healthy=True, detail="The process answers.")


@unversioned.get("/health", include_in_schema=False)
def get_plain_liveness() -> PlainTextResponse:
    """Tell that the process lives, as MLflow's servers do. Open to all."""
    return PlainTextResponse("OK")


@unversioned.get("/health/live", include_in_schema=False)
def get_live() -> HealthCheck:
    """Tell that the process lives, under the name that every process of a platform has it. Open to all."""
    return get_liveness()


@unversioned.get("/health/ready", include_in_schema=False)
def get_ready(request: Request) -> HealthCheck:
    """Tell whether requests would be served, under the name that every process of a platform has it. Open to all."""
    return get_readiness(request)


@unversioned.get("/readyz")
def get_readiness(request: Request) -> HealthCheck:
    """Tell whether requests would be served: the database answers. Open to all."""
    place: Workplace = request.app.state.place
    with place.work(write=False) as ctx:
        ctx.session.execute(text("SELECT 1"))
    if getattr(request.app.state, "draining", False):
        raise Unavailable("The platform is shutting down.")
    return HealthCheck(name="database", healthy=True, detail="The database answers.")


@unversioned.get(
    "/metrics", response_class=PlainTextResponse, responses={200: {"description": "Metrics in Prometheus' text format"}}
)
def get_metrics(ctx: Context) -> PlainTextResponse:
    """Return the platform's figures for Prometheus: capacity, allocation and waiting of pools, by tenant."""
    return PlainTextResponse(compute.pool_metrics(ctx), media_type="text/plain; version=0.0.4; charset=utf-8")


@unversioned.get("/.well-known/jwks.json")
def get_jwks(request: Request) -> JsonWebKeySet:
    """Return the public keys that verify access tokens. Open to all."""
    place: Workplace = request.app.state.place
    with place.work(write=False) as ctx:
        return identity.get_jwks(ctx)


@router.get("/version")
def get_version(ctx: Context) -> VersionInfo:
    """Tell the platform's version and what is installed beside it."""
    return version_info()


@router.get("/health")
def get_health(scope: Scope) -> Health:
    """Check each part of the platform: what `mops doctor` shows."""
    with scope.work(write=False) as ctx:
        checks = check_health(ctx)
    checks.append(check_artifacts(scope.place.ports[BlobStore]))
    if (check_cluster := scope.place.ports[Engines].check) is not None:
        checks.append(check_cluster())
    return Health(healthy=all(check.healthy for check in checks), checks=checks)


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "CloudEvents"}},
)
async def stream_events(
    scope: Scope,
    last_event_id: Annotated[str | None, Header(max_length=30)] = None,
    after: Annotated[int | None, Query(ge=0, lt=2**63, description="Instead of `Last-Event-ID`.")] = None,
    follow: Annotated[bool, Query(description="Stay open and send what happens from now on.")] = True,
) -> StreamingResponse:
    """Stream the project's events in order, as server-sent events whose id is the position to resume from."""
    _ = scope.project_id  # refused before the stream begins
    start = after if after is not None else _position(last_event_id)
    return StreamingResponse(
        _events(scope, start, follow), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


def _position(last_event_id: str | None) -> int:
    if last_event_id is None:
        return 0
    if not last_event_id.isascii() or not last_event_id.isdigit() or int(last_event_id) >= 2**63:
        raise InvalidInput("`Last-Event-ID` is not one of ours.", hint="Send the `id` of the last event you received.")
    return int(last_event_id)


async def _events(scope: Scope, position: int, follow: bool) -> AsyncIterator[str]:
    silent = 0.0
    yield "retry: 1000\n\n"
    while True:
        events = await run_in_threadpool(_read, scope, position)
        for event in events:
            position = event.sequence or position
            yield f"id: {position}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n"
        if (not follow and not events) or getattr(scope.request.app.state, "draining", False):
            return
        if events:
            silent = 0.0
            continue
        await asyncio.sleep(_PAUSE_S)
        silent += _PAUSE_S
        if silent >= _KEEP_ALIVE_S:
            silent = 0.0
            yield ": still here\n\n"


def _read(scope: Scope, position: int) -> list[Event]:
    with scope.work(write=False) as ctx:
        return outbox.stream(ctx.session, ctx.project_id, position)

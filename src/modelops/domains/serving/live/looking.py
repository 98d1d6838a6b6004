"""A look at a deployment's replicas, for whoever watches it: no transaction is open while they are asked."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi.concurrency import run_in_threadpool

from modelops.domains.serving.holding import Holding
from modelops.domains.serving.live.live import LiveReplica, LiveStats, LiveVariant
from modelops.domains.serving.replicas.figures import Counted, Reading, summed
from modelops.domains.serving.replicas.gateway import Gateway
from modelops.domains.serving.replicas.reading import read_replicas
from modelops.domains.serving.replicas.tokens import platform_token
from modelops.domains.serving.rows import deployment_row, read_deployment
from modelops.domains.serving.scaling.observations import Observations
from modelops.domains.serving.schemas import Deployment, Replica
from modelops.kernel.scope import Scope

_WINDOW_S = 2.0
"""Rates are told over so long, where somebody looked before; else over what the first look takes."""

_FIRST_S = 0.5
_FRESH_S = 0.2
"""Whoever looks so soon after another sees what that one saw."""


@dataclass(frozen=True)
class _Asked:
    """A deployment, and what is needed to ask its replicas."""

    deployment: Deployment
    token: str


async def read_live_stats(scope: Scope, deployment: str) -> LiveStats:
    """Return what a deployment does now: how much it is asked, how fast it answers, what waits.

    The first look takes half a second: rates need two.
    """
    asked = await run_in_threadpool(_asked, scope, deployment)
    known = scope.place.ports[Observations]
    now = scope.place.clock.monotonic()
    if asked.token and known.before(asked.deployment.id, now) is None:
        await run_in_threadpool(_read, scope, asked)
        await asyncio.sleep(_FIRST_S)
    reading, before = await run_in_threadpool(_read, scope, asked)
    held = scope.place.ports[Holding].held(asked.deployment.id)
    return live_stats(asked.deployment, reading, before, held, os.cpu_count() or 1)


def live_stats(deployment: Deployment, reading: Reading, before: Reading | None, held: int, cpus: int) -> LiveStats:
    """Return what two readings tell of a deployment.

    Args:
        before: An earlier reading; None where there is none, so that nothing is known of rates.
        held: Requests that wait for it at the platform.
        cpus: Processors of the machine that replicas share.
    """
    window_s = 0.0 if before is None else reading.at - before.at
    grown = {} if before is None else reading.since(before)
    total = summed(grown.values())
    return LiveStats(
        deployment_id=deployment.id,
        deployment=deployment.name,
        state=deployment.state,
        reason=deployment.reason,
        model=deployment.model,
        model_version=deployment.model_version,
        active_revision=deployment.active_revision,
        wanted_revision=deployment.wanted_revision,
        replicas=deployment.replicas,
        ready_replicas=deployment.ready_replicas,
        restarts=sum(replica.restarts for replica in deployment.replica_status),
        autoscaling=deployment.autoscaling,
        scaled_at=deployment.scaled_at,
        remark=_remark(deployment, cpus),
        window_s=round(window_s, 3),
        requests_per_s=_rate(total.requests, window_s),
        errors_percent=_errors(total),
        rejected_per_s=_rate(total.rejected, window_s),
        **_quantiles(total),
        inflight=sum(told.inflight for told in reading.answered),
        queue_depth=sum(told.waiting for told in reading.answered),
        held=held,
        variants=[_variant(name, counted, window_s) for name, counted in grown.items()],
        replica_stats=_replicas(deployment.replica_status, reading),
    )


def _asked(scope: Scope, deployment: str) -> _Asked:
    with scope.work(write=False) as ctx:
        ctx.require("deployments.read")
        found = read_deployment(ctx, deployment_row(ctx, deployment))
    if not _endpoints(found):
        return _Asked(found, "")
    with scope.place.work(write=False) as ctx:
        return _Asked(found, platform_token(ctx.within(scope.project_id)))


def _read(scope: Scope, asked: _Asked) -> tuple[Reading, Reading | None]:
    """Return what the replicas tell now, and a reading from before; both may be another's who looked just now."""
    known: Observations = scope.place.ports[Observations]
    key, now = asked.deployment.id, scope.place.clock.monotonic()
    endpoints = _endpoints(asked.deployment)
    if not endpoints:
        return Reading(now, {}), None
    latest = known.latest(key)
    if latest is None or not 0 <= now - latest.at < _FRESH_S or set(latest.told) != set(endpoints):
        latest = read_replicas(scope.place.ports[Gateway], endpoints, asked.token, now)
        known.add(key, latest)
    before = known.before(key, latest.at - _WINDOW_S)
    return latest, before if before is not None and before.at < latest.at else None


def _endpoints(deployment: Deployment) -> list[str]:
    return [one.endpoint for one in deployment.replica_status if one.endpoint]


def _remark(deployment: Deployment, cpus: int) -> str | None:
    policy, each = deployment.autoscaling, deployment.limits.cpus or cpus
    if policy is None or policy.by != "requests" or policy.max_replicas * each <= cpus:
        return None
    return f"Up to {policy.max_replicas} replicas of {each} processors share this machine's {cpus}."


def _variant(name: str, counted: Counted, window_s: float) -> LiveVariant:
    return LiveVariant(
        name=name,
        requests_per_s=_rate(counted.requests, window_s),
        errors_percent=_errors(counted),
        **_quantiles(counted),
    )


def _quantiles(counted: Counted) -> Mapping[str, float | None]:
    found = {f"p{share}_ms": counted.latencies.quantile_ms(share / 100) for share in (50, 95, 99)}
    found["queue_wait_p95_ms"] = counted.waits.quantile_ms(0.95)
    return {name: None if value is None else round(value, 3) for name, value in found.items()}


def _rate(count: int, window_s: float) -> float:
    return round(count / window_s, 2) if window_s > 0 else 0.0


def _errors(counted: Counted) -> float | None:
    return round(100 * counted.errors / counted.requests, 3) if counted.requests else None


def _replicas(replicas: Sequence[Replica], reading: Reading) -> list[LiveReplica]:
    found = []
    for replica in replicas:
        told = reading.told.get(replica.endpoint or "")
        found.append(
            LiveReplica(
                revision=replica.revision,
                index=replica.index,
                phase=replica.phase,
                ready=replica.ready,
                restarts=replica.restarts,
                inflight=None if told is None else told.inflight,
                queue_depth=None if told is None else told.waiting,
            )
        )
    return found

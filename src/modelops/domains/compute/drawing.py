"""How pools and queues are drawn in a terminal: tables with bars of what is used."""

from collections.abc import Sequence
from typing import Any

from modelops.domains.compute.schemas import ClusterQueue, Pool, PoolAllocation, Queue, Quota

_WIDTH = 16
_DRAWN = 64
"""So many GPUs of a pool are drawn."""

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def bar(used: float, of: float) -> str:
    """Return a bar, and the numbers behind it; what is beyond the end is borrowed."""
    part = used / of if of else (1.0 if used else 0.0)
    filled = min(_WIDTH, round(part * _WIDTH))
    beyond = "+" if part > 1 else ""
    return f"{'█' * filled}{'░' * (_WIDTH - filled)}{beyond} {used:g}/{of:g}"


def pool_lines(pools: Sequence[Pool]) -> list[dict[str, Any]]:
    """Return pools as the lines of a table. Time slicing says that it is best-effort."""
    return [
        {
            "name": pool.name,
            "mode": f"{pool.mode} (best-effort)" if pool.best_effort else str(pool.mode),
            "gpus": f"{pool.gpu_count} × {pool.gpu_model or 'GPU'}",
            "shares": bar(pool.allocated_shares, pool.capacity_shares),
            "pending": pool.pending,
            "cordoned": pool.cordoned,
        }
        for pool in pools
    ]


def device_lines(pool: Pool, held: Sequence[PoolAllocation]) -> list[dict[str, Any]]:
    """Return the GPUs of a pool as the lines of a table: a letter for each share that a job holds, a dot for what is free
    or another tenant's."""
    width = pool.capacity_shares // pool.gpu_count
    letters = {job: _LETTERS[at % len(_LETTERS)] for at, job in enumerate(dict.fromkeys(one.job_id for one in held))}
    on: dict[int, list[PoolAllocation]] = {}
    for one in held:
        on.setdefault(one.device, []).append(one)
    lines = []
    for device in range(min(pool.gpu_count, _DRAWN)):
        lying = sorted(on.get(device, []), key=lambda one: one.position)
        drawn = "".join(letters[one.job_id] * one.shares for one in lying)
        told = [f"{letters[one.job_id]} {one.job_id}{f' ({one.profile})' if one.profile else ''}" for one in lying]
        state = "cordoned" if device in pool.cordoned else None
        lines.append(
            {"gpu": device, "shares": f"{drawn}{'·' * (width - len(drawn))}", "jobs": "\n".join(told) or state}
        )
    return lines


def cluster_queue_lines(queues: Sequence[ClusterQueue]) -> list[dict[str, Any]]:
    """Return cluster queues as the lines of a table."""
    return [
        {
            "name": queue.name,
            "cohort": queue.cohort,
            "usage": "\n".join(f"{one.flavor} {one.resource}: {bar(one.used, one.nominal)}" for one in queue.usage)
            or None,
            "pending": queue.pending,
            "admitted": queue.admitted,
            "stopped": None if queue.stop_policy == "None" else str(queue.stop_policy),
        }
        for queue in queues
    ]


def quota_lines(quotas: Sequence[Quota]) -> list[dict[str, Any]]:
    """Return quotas as the lines of a table."""
    return [
        {
            "scope": str(quota.scope),
            "holder": f"{quota.tenant}/{quota.project}" if quota.project else quota.tenant,
            "used": "\n".join(
                f"{one.flavor + ' ' if one.flavor else ''}{one.resource}: {bar(one.used, one.limit)}"
                for one in quota.limits
            ),
        }
        for quota in quotas
    ]


def queue_lines(queues: Sequence[Queue]) -> list[dict[str, Any]]:
    """Return a project's queues as the lines of a table."""
    lines = []
    for queue in queues:
        limits = [f"{resource}: {bar(queue.used.get(resource, 0), limit)}" for resource, limit in queue.limits.items()]
        free = [f"{resource}: {used:g}" for resource, used in queue.used.items() if resource not in queue.limits]
        lines.append(
            {
                "name": queue.name,
                "cluster_queue": queue.cluster_queue,
                "used": "\n".join([*limits, *free]) or None,
                "pending": queue.pending,
                "admitted": queue.admitted,
                "stopped": None if queue.stop_policy == "None" else str(queue.stop_policy),
            }
        )
    return lines

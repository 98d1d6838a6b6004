"""What workloads wait for, told to those whose they are."""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import func, select

from modelops.domains.compute.admission import load_snapshot
from modelops.domains.compute.allocator.engine import Engine
from modelops.domains.compute.allocator.explaining import why
from modelops.domains.compute.schemas import Wait, Waiting, WorkloadState
from modelops.domains.compute.tables import QueueRow, WorkloadRow
from modelops.kernel.context import Context

_IDS = re.compile(r"(wkl|que)_[0-9a-f]{32}")


def waits_of(ctx: Context, jobs: Collection[str]) -> dict[str, str]:
    """Say in a sentence where jobs are in their queues; those that wait in none are left out (for the domains above)."""
    if not jobs:
        return {}
    order = (WorkloadRow.priority.desc(), WorkloadRow.created_at, WorkloadRow.id)
    place = func.row_number().over(partition_by=WorkloadRow.cluster_queue, order_by=order).label("place")
    pending = WorkloadRow.state == WorkloadState.PENDING
    line = select(WorkloadRow.job_id, WorkloadRow.queue, place).where(pending).subquery()
    found = ctx.session.execute(select(line).where(line.c.job_id.in_(list(jobs))))
    return {
        job: f"It waits in the queue '{queue}' as number {number}; `mops jobs why {job}` says for what."
        for job, queue, number in found
    }


def explain(ctx: Context, job_id: str) -> Waiting | None:
    """Tell what a job of the current project waits for; None where it is in no queue (for the domains above)."""
    query = ctx.query(WorkloadRow).where(WorkloadRow.job_id == job_id)
    row = ctx.session.scalars(query).one_or_none()
    if row is None:
        return None
    told = {"workload_id": row.id, "queue": row.queue, "cluster_queue": row.cluster_queue, "state": row.state}
    now = ctx.clock.now()
    if row.state != WorkloadState.PENDING:
        return Waiting.model_validate({**told, "position": None, "waits": [], "remedies": []})
    if row.not_before is not None and row.not_before > now:
        sentence = f"It is tried again at {row.not_before:%H:%M:%S} UTC, and waits until then."
        wait = Wait(reason="backoff", sentence=sentence, facts={})
        return Waiting.model_validate({**told, "position": None, "waits": [wait], "remedies": []})
    snapshot, rows = load_snapshot(ctx, also=row.id)
    engine = Engine(snapshot)
    engine.settle(now.timestamp())
    found = why(engine, row.id)
    said = {
        "waits": [{"reason": one.reason, "sentence": one.sentence, "facts": one.facts} for one in found.waits],
        "remedies": list(found.remedies),
    }
    return Waiting.model_validate({**told, "position": found.position, **_for_readers(ctx, said, rows)})


def _for_readers(ctx: Context, said: dict[str, Any], rows: Mapping[str, WorkloadRow]) -> dict[str, Any]:
    """Return what the allocator says, with names for its ids; nobody reads ids of other projects' jobs."""
    queues = {one.id: one.name for one in ctx.session.scalars(ctx.query(QueueRow))}

    def named(match: re.Match[str]) -> str:
        key = match.group()
        if key in queues:
            return queues[key]
        row = rows.get(key)
        return row.job_id if row is not None and row.project_id == ctx.project_id else "another project's"

    read: dict[str, Any] = json.loads(_IDS.sub(named, json.dumps(said)))
    return read

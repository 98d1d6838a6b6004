"""Jobs in queues: what compute is told of them, and what it says of why they wait."""

from typing import Any

from modelops.domains.compute import service as compute
from modelops.domains.compute.schemas import WorkloadRequest
from modelops.domains.training.rows import as_job, find_job
from modelops.domains.training.schemas import JobCreate, JobState, JobWhy, Resources
from modelops.domains.training.tables import JobRow
from modelops.kernel.context import Context


def wants_queue(ctx: Context, body: JobCreate) -> bool:
    """Tell whether a job asks for what queues alone give, or counts in a quota that nobody would count it in elsewhere."""
    asked = body.resources
    if body.queue or body.pool or body.priority or asked.gpu_shares or asked.min_gpu_shares or asked.mig_profile:
        return True
    return compute.counts_all_jobs(ctx)


def join(ctx: Context, row: JobRow) -> None:
    """Put a job into its queue, at the end of the line.

    Raises:
        InvalidInput: no queue of the project gives what it asks for.
    """
    asked = Resources.model_validate(row.resources)
    row.queue = compute.enqueue(
        ctx,
        row.id,
        WorkloadRequest(
            queue=row.queue,
            pool=row.pool,
            priority=row.priority,
            cpus=asked.cpus,
            memory_mb=asked.memory_mb,
            gpu_shares=asked.gpu_shares or (1 if asked.mig_profile else 0),
            min_gpu_shares=asked.min_gpu_shares,
            mig_profile=asked.mig_profile,
        ),
    )


def leave(ctx: Context, row: JobRow) -> None:
    """Take a job that ended out of its queue, if it is in one: what it held is free in the same unit of work."""
    if row.queue is not None:
        compute.finish(ctx, row.id, row.reason)


def rejoin(ctx: Context, row: JobRow) -> None:
    """Put a job whose attempt ended back at its place in its queue, if it has one."""
    if row.queue is not None:
        compute.requeue(ctx, row.id, not_before=row.retry_at, reason=row.reason or "")


def explain_job(ctx: Context, job: str) -> JobWhy:
    """Tell why a job waits, and what would let it run."""
    ctx.require("jobs.read")
    row = find_job(ctx, job)
    shown = as_job(ctx, row)
    state = JobState(row.state)
    told: dict[str, Any] = {
        "job_id": row.id,
        "state": state,
        "waits": state is JobState.QUEUED,
        "waiting": None,
        "remedies": [],
    }
    if state is not JobState.QUEUED:
        return JobWhy.model_validate({**told, "reasons": [shown.reason or f"It does not wait: it is {state}."]})
    if row.queue is None:
        remedies = ["It begins when a job ends; the setting `max_running_jobs` says how many run at once."]
        return JobWhy.model_validate({**told, "reasons": [shown.reason or ""], "remedies": remedies})
    waiting = compute.explain(ctx, row.id)
    reasons = [row.reason] if row.reason else []
    if waiting is not None:
        place = (
            f"It is number {waiting.position} in the cluster queue '{waiting.cluster_queue}', by the project's queue "
        )
        reasons += [f"{place}'{waiting.queue}'."] if waiting.position else []
        reasons += [wait.sentence for wait in waiting.waits]
        told["remedies"] = waiting.remedies
    return JobWhy.model_validate({**told, "reasons": reasons or ["It starts in a moment."], "waiting": waiting})

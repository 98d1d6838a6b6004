"""The figures of a replica, for who decides how many there should be."""

from collections.abc import Sequence

from modelops.domains.monitoring.schemas import LATENCY_BOUNDS_S
from modelops.domains.serving.schemas import ProcessStats, ReplicaStats, VariantStats
from modelops.runtime.serving.counting.metrics import (
    EXPLANATION_PATH,
    PREDICTION_PATHS,
    Counts,
    ProcessCounts,
    added_up,
)


def stats_of(processes: Sequence[ProcessCounts]) -> ReplicaStats:
    """Return what processes counted together, revisions added up."""
    by_name: dict[str, Counts] = {}
    for key, counts in added_up(processes).items():
        by_name.setdefault(key.variant, Counts()).add(counts)
    return ReplicaStats(
        bounds_s=list(LATENCY_BOUNDS_S),
        explanations=sum(sum(counts.answers.get(EXPLANATION_PATH, {}).values()) for counts in by_name.values()),
        processes=[
            ProcessStats(
                pid=process.pid,
                inflight=sum(counts.inflight for _, counts in process.variants),
                queue_depth=sum(counts.queue_depth for _, counts in process.variants),
            )
            for process in processes
        ],
        variants={name: _variant(counts) for name, counts in by_name.items()},
    )


def _variant(counts: Counts) -> VariantStats:
    answered = [status for path in PREDICTION_PATHS for status in counts.answers.get(path, {}).items()]
    timed = counts.timed()
    return VariantStats(
        requests=sum(count for _, count in answered),
        errors=sum(count for status, count in answered if status.startswith("5") and status != "503"),
        rejected=counts.rejected,
        shadow_dropped=counts.shadow_dropped,
        latencies=timed.counts,
        latency_sum_s=timed.total,
        waits=counts.waits.counts,
        wait_sum_s=counts.waits.total,
    )

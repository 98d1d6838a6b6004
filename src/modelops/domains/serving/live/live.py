"""What a deployment does at this moment, as it reads."""

from modelops.contracts.schemas import Schema, UtcTime
from modelops.domains.serving.policies.clusterscaling import ScalingPolicy


class LiveVariant(Schema):
    """What one variant answered. Null where nothing was asked; `errors_percent` are answers that failed on the model's or the
    platform's side."""

    name: str
    requests_per_s: float
    errors_percent: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    queue_wait_p95_ms: float | None


class LiveReplica(Schema):
    """What one replica does. `inflight` are requests at a model, `queue_depth` those that wait; null where it does not
    tell."""

    revision: int
    index: int
    phase: str
    ready: bool
    restarts: int
    inflight: int | None
    queue_depth: int | None


class LiveStats(Schema):
    """What a deployment does now: rates and quantiles over the last `window_s` seconds, of all replicas that answer.

    Quantiles are told from histograms, so they are as exact as their buckets. `held` requests wait at the platform for a
    deployment that wakes; `rejected_per_s` were refused because replicas were full.
    """

    deployment_id: str
    deployment: str
    state: str
    reason: str | None
    model: str
    model_version: int
    active_revision: int | None
    wanted_revision: int
    replicas: int
    ready_replicas: int
    restarts: int
    autoscaling: ScalingPolicy | None
    scaled_at: UtcTime | None
    remark: str | None
    window_s: float
    requests_per_s: float
    errors_percent: float | None
    rejected_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    queue_wait_p95_ms: float | None
    inflight: int
    queue_depth: int
    held: int
    variants: list[LiveVariant]
    replica_stats: list[LiveReplica]

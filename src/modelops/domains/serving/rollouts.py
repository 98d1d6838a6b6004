"""Payloads of rollouts."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelops.contracts.schemas import Schema, Slug, UtcTime
from modelops.domains.serving.courses.courses import Hold, Outcome, RolloutState
from modelops.domains.serving.courses.strategies import RolloutStrategy
from modelops.domains.serving.schemas import VariantName

Figure = Annotated[float, Field(allow_inf_nan=False, ge=-1e60, le=1e60)]


class MetricResult(Schema):
    """What was found of one metric. `effect` is in the metric's own unit; `p_value` is one-sided, that the candidate is no
    worse than allowed, and is compared with `significance`, which is the step's divided over its looks."""

    metric: str
    outcome: Outcome
    why: str
    champion: float | None
    candidate: float | None
    champion_size: int
    candidate_size: int
    effect: float | None
    p_value: float | None
    significance: float


class AnalysisResult(Schema):
    """One analysis of a step: failed where any metric is, passed where all are."""

    outcome: Outcome
    look: int
    made_at: UtcTime
    since: UtcTime
    metrics: list[MetricResult]


class RolloutEvent(StrEnum):
    """What a line of a rollout's history tells."""

    STARTED = "started"
    STEP = "step"
    EXTENDED = "extended"
    PAUSED = "paused"
    RESUMED = "resumed"
    PROMOTED = "promoted"
    SUCCEEDED = "succeeded"
    ABORTED = "aborted"
    FAILED = "failed"
    SUPERSEDED = "superseded"


class RolloutEntry(Schema):
    """A line of a rollout's history. `step` counts from 1; null in the last stretch, where the candidate takes over."""

    at: UtcTime
    event: RolloutEvent
    step: int | None
    share: float
    reason: str | None
    by: str | None
    analysis: AnalysisResult | None


class Rollout(Schema):
    """How a revision takes over. `share` is the percentage of the callers that it shall answer now; `step_began_at` is
    when every replica was first seen at this step."""

    id: str
    deployment_id: str
    revision: int
    from_revision: int
    strategy: RolloutStrategy
    state: RolloutState
    hold: Hold | None
    reason: str | None
    step: int | None
    steps: int
    share: float
    step_began_at: UtcTime | None
    step_ends_at: UtcTime | None
    extensions: int
    analysis: AnalysisResult | None
    history: list[RolloutEntry]
    created_at: UtcTime
    created_by: str
    finished_at: UtcTime | None


class AbortRequest(Schema):
    """Why a rollout is given up."""

    reason: Annotated[str, Field(max_length=1_000, pattern=r"^[^\x00]*$")] = ""


class BusinessValues(Schema):
    """Values of a business metric, such as one per order or session that a variant's answers led to."""

    metric: Slug
    variant: VariantName
    values: Annotated[list[Figure], Field(min_length=1, max_length=100_000)]


class RecordedValues(Schema):
    """What was posted: how many values, and their mean."""

    deployment_id: str
    revision: int
    metric: str
    variant: str
    count: int
    mean: float
    recorded_at: UtcTime

"""Payloads of monitoring."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelops.contracts.schemas import Schema, UtcTime


class ColumnKind(StrEnum):
    """How a column is compared."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"


class ColumnReference(Schema):
    """What a column looked like in the reference data.

    Numeric: `edges` are the bins' inner boundaries (reference quantiles, ascending; bin i holds edges[i-1] < x <=
    edges[i]), `counts` has len(edges) + 1 entries. Categorical: `categories` in descending frequency, `counts` one entry
    each and a last one for every other value.
    """

    name: str
    kind: ColumnKind
    edges: list[float] | None
    categories: list[str] | None
    counts: list[int]
    count: int
    missing: int
    mean: float | None
    std: float | None
    min: float | None
    max: float | None


class Reference(Schema):
    """The profile of a model's training data and of its predictions on it; lies in the package as `reference.json`."""

    rows: int
    inputs: list[ColumnReference]
    outputs: list[ColumnReference]


class ColumnSketch(Schema):
    """Live counts over the reference's bins; sketches of equal reference add up. `low`, `high`: least and greatest value
    seen; `sum`, `sum_squares` over the values that are not missing."""

    name: str
    counts: list[int]
    missing: int
    sum: float
    sum_squares: float
    low: float | None
    high: float | None


LATENCY_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the bins that answers' durations are counted in; a last bin holds those above."""


class SketchBatch(Schema):
    """What one variant of one replica saw in one stretch of time. A batch is counted once, by (`source`, `sequence`).

    `latencies` counts its answers over `LATENCY_BOUNDS_S`, from the request's first byte to the reply.
    """

    source: Annotated[str, Field(min_length=1, max_length=200)]
    sequence: Annotated[int, Field(ge=0)]
    deployment_id: str
    revision: int
    model_version_id: str
    started_at: UtcTime
    ended_at: UtcTime
    rows: Annotated[int, Field(ge=0)]
    requests: Annotated[int, Field(ge=0)]
    errors: Annotated[int, Field(ge=0)]
    dropped_rows: Annotated[int, Field(ge=0)]
    inputs: list[ColumnSketch]
    outputs: list[ColumnSketch]
    variant: Annotated[str, Field(min_length=1, max_length=63)] = "champion"
    latencies: Annotated[list[int], Field(max_length=len(LATENCY_BOUNDS_S) + 1)] = []
    latency_sum_s: Annotated[float, Field(ge=0)] = 0.0


class SketchBatches(Schema):
    """Several batches at once."""

    batches: Annotated[list[SketchBatch], Field(min_length=1, max_length=1_000)]


class Accepted(Schema):
    """How many batches were new, and how many had been counted before."""

    accepted: int
    duplicates: int


class Traffic(Schema):
    """What a deployment answered in a stretch of time. `errors` failed on the model's or the platform's side."""

    deployment_id: str
    since: UtcTime
    until: UtcTime
    rows: int
    requests: int
    errors: int
    dropped_rows: int
    batches: int


class DriftRequest(Schema):
    """Compares a deployment's traffic of a window with its model's reference."""

    deployment_id: Annotated[str, Field(min_length=1, max_length=250, description="A deployment, by name or id.")]
    since: UtcTime | None = None
    until: UtcTime | None = None
    false_alarm_rate: Annotated[float, Field(gt=0, lt=0.5, description="For the whole report, over all columns.")] = (
        0.01
    )
    minimum_effect: Annotated[
        float, Field(ge=0, le=1, description="Smaller differences are no drift, however significant.")
    ] = 0.1


class ColumnDrift(Schema):
    """How far a column moved.

    `effect` is the test's distance between the distributions (Kolmogorov-Smirnov D or total variation, 0 to 1);
    `shift` is the first Wasserstein distance in reference standard deviations (numeric columns); `adjusted_p_value` is
    Holm's, over all columns of the report.
    """

    name: str
    role: Annotated[str, Field(description="`input` or `output`")]
    kind: ColumnKind
    test: str
    statistic: float
    p_value: float
    adjusted_p_value: float
    effect: float
    shift: float | None
    reference_mean: float | None
    current_mean: float | None
    missing_reference: float
    missing_current: float
    drifted: bool


class DriftReport(Schema):
    """Drift of one window. `drifted_columns` names the columns that moved, greatest effect first."""

    id: str
    deployment_id: str
    model_version_id: str
    since: UtcTime
    until: UtcTime
    rows: int
    reference_rows: int
    false_alarm_rate: float
    minimum_effect: float
    drifted: bool
    drifted_columns: list[str]
    columns: list[ColumnDrift]
    created_at: UtcTime
    created_by: str

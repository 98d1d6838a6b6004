"""Payloads of what is made of runs: comparisons, buckets of a metric, groups, and the best."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from modelops.contracts.schemas import Json, Schema, UtcTime
from modelops.domains.experiments.schemas import Run


class Direction(StrEnum):
    """Whether more of a metric is better, or less."""

    MAX = "max"
    MIN = "min"


class RunSelection(Schema):
    """Which runs are meant: those named, or those of an experiment, a filter or a saved view, best or newest first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: Annotated[list[str], Field(max_length=200, description="Ids of runs; repeat it.")] = []
    experiment: Annotated[str | None, Field(max_length=250, description="Only of this experiment.")] = None
    view: Annotated[str | None, Field(max_length=250, description="The runs of this saved view.")] = None
    filter: Annotated[str | None, Field(max_length=4_000, description="As in the listing of runs.")] = None
    order_by: Annotated[str | None, Field(max_length=300, description="As in the listing of runs.")] = None
    limit: Annotated[int, Field(ge=1, le=1_000, description="How many at most.")] = 100


Objectives = Annotated[
    list[str],
    Field(
        max_length=8, description="A metric and its direction, such as `accuracy:max`, the chief one first; repeat it."
    ),
]


class ComparisonQuery(RunSelection):
    """Which runs are compared, and by what."""

    objective: Objectives = []
    baseline: Annotated[
        str | None, Field(max_length=40, description="The run that others are tested against; by default the best.")
    ] = None


class ReportQuery(ComparisonQuery):
    """What a report is made of."""

    curve: Annotated[
        list[str], Field(max_length=12, description="Metrics drawn over their steps; by default those with a history.")
    ] = []
    title: Annotated[str | None, Field(max_length=200, description="The report's heading.")] = None


class GroupQuery(RunSelection):
    """How runs are grouped."""

    by: Annotated[
        str | None,
        Field(max_length=300, description="`parameters.<key>` or `tags.<key>`; by default what the view groups by."),
    ] = None
    metric: Annotated[
        list[str], Field(max_length=20, description="`<key>:max` or `<key>:min`, the best of which is told; repeat it.")
    ] = []


class BestQuery(Schema):
    """Which run is the best."""

    metric: Annotated[str, Field(min_length=1, max_length=250, description="What is compared.")]
    direction: Annotated[Direction, Field(description="Whether more of it is better, or less.")] = Direction.MAX
    constraint: Annotated[
        list[str], Field(max_length=20, description="What it must keep, such as `latency_ms <= 20`; repeat it.")
    ] = []
    experiment: Annotated[str | None, Field(max_length=250, description="Only of this experiment.")] = None
    filter: Annotated[str | None, Field(max_length=4_000, description="As in the listing of runs.")] = None
    any_status: Annotated[bool, Field(description="Runs that go on or failed, too.")] = False


class Axis(StrEnum):
    """What a metric is drawn over."""

    STEP = "step"
    TIME = "time"


class BucketsQuery(Schema):
    """How finely a metric is read."""

    buckets: Annotated[int, Field(ge=4, le=2_000, description="How many at most.")] = 200
    axis: Annotated[Axis | None, Field(description="By default the steps, or the time where there is one step.")] = None


class MetricBucket(Schema):
    """Some successive points of a metric. `minimum` and `maximum` are of its numbers; null where all are NaN."""

    first_step: int
    last_step: int
    first_time: UtcTime
    last_time: UtcTime
    count: int
    nan_count: int
    minimum: float | None
    maximum: float | None
    last: float


class MetricBuckets(Schema):
    """A metric's history in equal stretches of its axis; stretches without points are left out."""

    run_id: str
    key: str
    axis: Axis
    total: int
    buckets: list[MetricBucket]


class Difference(Schema):
    """Something in which runs differ: what each run has, by its id. A run that lacks it is left out."""

    key: str
    values: dict[str, Json]


class MetricDifference(Schema):
    """A metric in which runs differ: its latest value by the run's id."""

    key: str
    values: dict[str, float]


class Alike(Schema):
    """How many things all of the runs have in common."""

    parameters: int
    metrics: int
    tags: int
    data: int
    code: int
    files: int


class Objective(Schema):
    """A metric, and which way is better."""

    metric: str
    direction: Direction


class ImportanceOf(Schema):
    """How much of a metric a parameter explains, with the interval that holds it in 95 of 100 cases."""

    parameter: str
    importance: float
    lower: float
    upper: float
    p_value: Annotated[
        float | None,
        Field(description="Of no relation at all, corrected for the number of parameters, where the method gives one."),
    ]


class ParameterImportance(Schema):
    """Which parameters a metric depends on, by what method; or, in `message`, why that cannot be told.

    `explained` is the share of the metric's variance that the method predicts in runs it has not seen, where it does.
    """

    metric: str
    method: str | None
    runs: int
    explained: float | None
    parameters: list[ImportanceOf]
    message: str


class ParetoFront(Schema):
    """The runs that no other run beats in every objective at once. Those without all of the metrics are left out."""

    objectives: list[Objective]
    front: list[str]
    dominated: list[str]
    left_out: list[str]


class PairedTest(Schema):
    """Whether a run differs from the baseline on the folds that both were measured on.

    `difference` is the run's mean less the baseline's. `p_value` is of the corrected resampled t-test and `adjusted` is that
    p-value after Holm's correction for all of the runs tested. Where the runs share no folds, `message` says why and the
    numbers are null.
    """

    run_id: str
    folds: int
    difference: float | None
    lower: float | None
    upper: float | None
    p_value: float | None
    adjusted: float | None
    wilcoxon_p_value: float | None
    message: str


class Significance(Schema):
    """Runs tested against a baseline on one metric, or in `message` why none could be."""

    metric: str
    baseline: str | None
    tests: list[PairedTest]
    message: str


class RunComparison(Schema):
    """Runs beside each other: what differs alone, and what follows from it for the objectives that were named."""

    runs: list[Run]
    total: int
    alike: Alike
    parameters: list[Difference]
    metrics: list[MetricDifference]
    tags: list[Difference]
    data: list[Difference]
    code: list[Difference]
    files: list[Difference]
    objectives: list[Objective]
    importance: ParameterImportance | None
    pareto: ParetoFront | None
    significance: Significance | None


class MetricSummary(Schema):
    """A metric over the runs of a group that have it as a number. `deviation` is the sample's, null of fewer than two runs."""

    metric: str
    direction: Direction
    count: int
    mean: float | None
    deviation: float | None
    minimum: float | None
    maximum: float | None
    best_run: str | None


class RunGroup(Schema):
    """Runs that share a value; `value` is a parameter's text as filters see it, null where runs lack it."""

    value: str | None
    runs: int
    metrics: list[MetricSummary]


class RunGroups(Schema):
    """Runs grouped by a parameter or tag: the groups with the best first metric first, or else the largest."""

    by: str
    runs: int
    groups: int
    items: list[RunGroup]


class BestRun(Schema):
    """The best run, and what it was the best of."""

    run: Run
    metric: str
    direction: Direction
    value: float
    candidates: Annotated[int, Field(description="How many runs kept the constraints.")]


def dump(query: RunSelection | BestQuery | BucketsQuery) -> dict[str, Any]:
    """Return a query as a client sends it: what was named alone."""
    return query.model_dump(mode="json", exclude_defaults=True)

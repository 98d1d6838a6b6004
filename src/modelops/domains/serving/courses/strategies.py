"""How a new revision takes over from the one that serves: strategies, their steps, and what is measured at each."""

from typing import Annotated, Literal

from pydantic import Field

from modelops.contracts.schemas import Schema, Slug

Significance = Annotated[
    float, Field(gt=0, lt=0.5, description="The chance that a candidate as good as the champion is found worse.")
]
Pause = Annotated[
    float | None,
    Field(ge=0, le=30 * 86_400, description="Seconds to stay at this step; null stays until somebody resumes it."),
]


class ErrorRate(Schema):
    """Fails where the candidate's share of failed requests is more than `minimum_effect` above the champion's."""

    kind: Literal["error_rate"] = "error_rate"
    min_requests: Annotated[int, Field(ge=1, le=10**9)] = 100
    minimum_effect: Annotated[float, Field(ge=0, le=1)] = 0.01


class Latency(Schema):
    """Fails where the candidate's latency is more than `max_ratio` times the champion's, and slower by more than
    `minimum_effect_s` seconds."""

    kind: Literal["latency"] = "latency"
    statistic: Literal["p95", "mean"] = "p95"
    max_ratio: Annotated[float, Field(ge=1, le=1_000)] = 1.5
    minimum_effect_s: Annotated[float, Field(ge=0, le=3_600)] = 0.005
    min_requests: Annotated[int, Field(ge=1, le=10**9)] = 100


class PredictionShift(Schema):
    """Fails where the candidate's predictions are distributed otherwise than the champion's: a distance (total variation of
    classes, Kolmogorov-Smirnov of numbers) above `minimum_effect`."""

    kind: Literal["prediction_shift"] = "prediction_shift"
    minimum_effect: Annotated[float, Field(ge=0, le=1)] = 0.2
    min_rows: Annotated[int, Field(ge=1, le=10**9)] = 100


class BusinessMetric(Schema):
    """Fails where the mean of the values posted for the candidate is worse than the champion's by more than
    `minimum_effect`; `direction` tells which way is better."""

    kind: Literal["business"] = "business"
    metric: Slug
    direction: Literal["higher", "lower"] = "higher"
    minimum_effect: Annotated[float, Field(ge=0)] = 0.0
    min_values: Annotated[int, Field(ge=2, le=10**9)] = 30


Metric = Annotated[ErrorRate | Latency | PredictionShift | BusinessMetric, Field(discriminator="kind")]


class Analysis(Schema):
    """What is measured at each step of a canary, over what candidate and champion answered since the step began.

    It is looked at every `interval_s`: a failed metric aborts at once. At the step's end what is inconclusive extends the
    step by its pause, at most `max_extensions` times, and then waits for a person.
    """

    metrics: Annotated[list[Metric], Field(min_length=1, max_length=20)] = [ErrorRate(), Latency()]
    significance: Significance = 0.01
    interval_s: Annotated[float, Field(ge=0.5, le=86_400)] = 10.0
    max_extensions: Annotated[int, Field(ge=0, le=1_000)] = 3


class CanaryStep(Schema):
    """A share of the callers, in percent, and how long the candidate answers it."""

    share: Annotated[float, Field(gt=0, le=100)]
    pause_s: Pause = 300.0


class AllAtOnce(Schema):
    """Every replica goes over at once, without a failed request."""

    kind: Literal["all_at_once"] = "all_at_once"


class Rolling(Schema):
    """At most `max_unavailable` replicas go over at a time, and the next ones once those were seen serving."""

    kind: Literal["rolling"] = "rolling"
    max_unavailable: Annotated[int, Field(ge=1, le=64)] = 1


class Canary(Schema):
    """The candidate answers a share that grows step by step, and the whole after the last one."""

    kind: Literal["canary"] = "canary"
    steps: Annotated[list[CanaryStep], Field(min_length=1, max_length=50)] = [
        CanaryStep(share=5),
        CanaryStep(share=25),
        CanaryStep(share=50),
    ]
    analysis: Analysis | None = Analysis()


class BlueGreen(Schema):
    """The candidate comes up in processes of its own, and takes over at once: when it is ready, or with `auto_promote`
    false when somebody promotes it. What served before is kept for `keep_s` seconds, to return to at once."""

    kind: Literal["blue_green"] = "blue_green"
    auto_promote: bool = True
    keep_s: Annotated[float, Field(ge=0, le=30 * 86_400)] = 300.0


RolloutStrategy = Annotated[AllAtOnce | Rolling | Canary | BlueGreen, Field(discriminator="kind")]


def stages(strategy: AllAtOnce | Rolling | Canary | BlueGreen) -> tuple[CanaryStep | None, ...]:
    """Return what comes before the candidate serves all: a canary's steps, or the one wait of a blue/green that is
    promoted by hand (None: it has no traffic yet)."""
    if isinstance(strategy, Canary):
        return tuple(strategy.steps)
    if isinstance(strategy, BlueGreen) and not strategy.auto_promote:
        return (None,)
    return ()

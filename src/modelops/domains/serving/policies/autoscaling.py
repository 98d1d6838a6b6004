"""How many replicas a deployment may have, and what decides how many it has."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelops.contracts.schemas import Schema

MAX_REPLICAS = 64

Off = Literal["off"]
"""In place of a policy: the number of replicas is fixed again."""

SHORT_NAMES = {"min": "min_replicas", "max": "max_replicas"}
"""What people may write on the command line."""


class Autoscaling(Schema):
    """What the number of replicas follows: as many as keep each at `target_inflight` requests, waiting ones included, and
    the 95th percentile of the time that requests wait for the model at `target_queue_wait_ms`.

    Load is averaged over `scale_up_window_s`. Fewer replicas run only once that would have been enough throughout
    `scale_down_window_s`. With `min_replicas` 0 the last one ends after `idle_s` without a request; a request that comes
    then is held for up to `hold_timeout_s`, until a replica is ready.
    """

    by: Literal["requests"] = "requests"
    min_replicas: Annotated[int, Field(ge=0, le=MAX_REPLICAS)] = 1
    max_replicas: Annotated[int, Field(ge=1, le=MAX_REPLICAS)] = 4
    target_inflight: Annotated[float, Field(gt=0, le=10_000, description="Requests at once of each replica.")] = 8.0
    target_queue_wait_ms: Annotated[
        float | None, Field(gt=0, le=3_600_000, description="Null: waiting decides nothing.")
    ] = 50.0
    scale_up_window_s: Annotated[float, Field(ge=0, le=3_600)] = 3.0
    scale_down_window_s: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    idle_s: Annotated[float, Field(ge=0.5, le=30 * 86_400)] = 300.0
    hold_timeout_s: Annotated[float, Field(gt=0, le=3_600)] = 25.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas ({self.min_replicas}) is above max_replicas ({self.max_replicas})")
        return self

    @property
    def sleeps(self) -> bool:
        """Tell whether a deployment that nobody asks has no replica."""
        return self.min_replicas == 0

    def bound(self, replicas: int) -> int:
        """Return the number of replicas nearest to `replicas` that a deployment in use may have, at least 1."""
        return max(1, self.min_replicas, min(replicas, self.max_replicas))

"""Scaling by the cluster that replicas run in: what it goes by, and within which bounds."""

from datetime import UTC
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from modelops.contracts.ports import ClusterScaling, ScalingTrigger
from modelops.contracts.schemas import Schema
from modelops.domains.serving.policies.autoscaling import MAX_REPLICAS, Autoscaling

Least = Annotated[int, Field(ge=1, le=MAX_REPLICAS)]
Percent = Annotated[
    int, Field(ge=1, le=1_000, description="CPUs in use, in percent of those that replicas have reserved.")
]
Plain = Annotated[str, Field(min_length=1, max_length=2_000, pattern=r"^[^\x00-\x1f]+$")]
CronText = Annotated[str, Field(pattern=r"^\S+ \S+ \S+ \S+ \S+$", max_length=100)]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, KeyError, OSError) as wrong:
        raise ValueError(f"there is no time zone '{name}'") from wrong
    return name


class _Bounded(Schema):
    min_replicas: Least = 1
    max_replicas: Least = 4

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas ({self.min_replicas}) is above max_replicas ({self.max_replicas})")
        return self

    def bound(self, replicas: int) -> int:
        """Return the number of replicas nearest to `replicas` within the bounds."""
        return max(self.min_replicas, min(replicas, self.max_replicas))


class HpaScaling(_Bounded):
    """A HorizontalPodAutoscaler keeps the CPUs in use at `cpu_percent` of those reserved. It needs a metrics server."""

    by: Literal["hpa"] = "hpa"
    cpu_percent: Percent = 70

    def port(self) -> ClusterScaling:
        """Return it as deployers take it."""
        return ClusterScaling("hpa", self.min_replicas, self.max_replicas, self.cpu_percent)


class PrometheusTrigger(Schema):
    """A replica for each `threshold` that a query of a Prometheus server yields."""

    kind: Literal["prometheus"] = "prometheus"
    server: Annotated[str, Field(max_length=500, pattern=r"^https?://[^\s\x00]+$")]
    query: Plain
    threshold: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    def port(self) -> ScalingTrigger:
        """Return it as deployers take it."""
        settings = {"serverAddress": self.server, "query": self.query, "threshold": f"{self.threshold:.15g}"}
        return ScalingTrigger("prometheus", settings)


class CronTrigger(Schema):
    """At least `replicas` from `start` to `end`, two times in the form of cron (minute, hour, day, month, day of the week)."""

    kind: Literal["cron"] = "cron"
    start: CronText
    end: CronText
    replicas: Least
    timezone: Annotated[str, Field(max_length=100), AfterValidator(_zone)] = str(UTC)

    def port(self) -> ScalingTrigger:
        """Return it as deployers take it."""
        times = {"timezone": self.timezone, "start": self.start, "end": self.end}
        return ScalingTrigger("cron", {**times, "desiredReplicas": str(self.replicas)})


class KedaScaling(_Bounded):
    """KEDA, which the cluster must have, goes by the CPUs in use, by `triggers`, or by both: the highest number holds."""

    by: Literal["keda"] = "keda"
    cpu_percent: Percent | None = None
    triggers: Annotated[
        list[Annotated[PrometheusTrigger | CronTrigger, Field(discriminator="kind")]], Field(max_length=20)
    ] = []

    @model_validator(mode="after")
    def _goes_by_something(self) -> Self:
        if self.cpu_percent is None and not self.triggers:
            raise ValueError("KEDA needs something to go by: `cpu_percent`, or `triggers`")
        return self

    def port(self) -> ClusterScaling:
        """Return it as deployers take it."""
        triggers = tuple(one.port() for one in self.triggers)
        return ClusterScaling("keda", self.min_replicas, self.max_replicas, self.cpu_percent, triggers)


def _who(given: Any) -> str:
    found = given.get("by", "requests") if isinstance(given, dict) else getattr(given, "by", "requests")
    return str(found)


ScalingPolicy = Annotated[
    Annotated[Autoscaling, Tag("requests")] | Annotated[HpaScaling, Tag("hpa")] | Annotated[KedaScaling, Tag("keda")],
    Discriminator(
        _who,
        custom_error_type="unknown_scaler",
        custom_error_message="`by` is 'requests' (the platform), 'hpa' or 'keda'",
    ),
]
"""What the number of replicas follows. Without `by`, the platform's own policy, by requests."""

POLICIES: dict[str, type[Autoscaling] | type[HpaScaling] | type[KedaScaling]] = {
    "requests": Autoscaling,
    "hpa": HpaScaling,
    "keda": KedaScaling,
}
"""The policies by who scales."""

"""A deployment's limits as one replica goes by them."""

from modelops.domains.serving.schemas import RevisionDocument, ServingLimits
from modelops.runtime.serving.config import ReplicaConfig
from modelops.runtime.serving.rates import Rates


def limits_of(config: ReplicaConfig, document: RevisionDocument) -> ServingLimits:
    """Return the limits of a document, but for what stands above them in the environment."""
    if config.max_concurrency is None:
        return document.limits
    return document.limits.model_copy(update={"max_concurrency": config.max_concurrency})


def deadline_of(limits: ServingLimits, timeout_ms: int | None, began: float) -> float | None:
    """Return when a request's time is over, by its own word or the limits', whichever is sooner; None for never.

    Args:
        began: When it came, in seconds; the answer is on the same clock.
    """
    given = [each for each in (timeout_ms, limits.request_timeout_ms) if each is not None]
    return began + min(given) / 1000 if given else None


def rates_of(config: ReplicaConfig, document: RevisionDocument) -> Rates:
    """Return one process's share of a rate: a caller's connections spread over the processes."""
    limits, share = document.limits, 1 if config.worker is None else config.worker.count
    rate = None if limits.rate_per_s is None else limits.rate_per_s / share
    return Rates(rate, max(1, limits.rate_burst // share))

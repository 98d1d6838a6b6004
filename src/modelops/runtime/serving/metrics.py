"""Prometheus metrics of one replica, in a registry of its own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.process_collector import ProcessCollector

from modelops.domains.serving.schemas import RevisionDocument

_LABELS = ("tenant", "project", "deployment", "revision")
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """What a replica counts. Every series carries tenant, project, deployment and revision."""

    def __init__(self, document: RevisionDocument) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._own = (document.tenant_id, document.project_id, document.deployment, str(document.revision))
        self._requests = Counter(
            "serving_http_requests",
            "Requests answered, by path and status.",
            (*_LABELS, "path", "status"),
            registry=self._registry,
        )
        self._latency = Histogram(
            "serving_http_request_latency_seconds",
            "From the request's head to the end of its answer.",
            (*_LABELS, "path"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._counts: dict[tuple[str, int], Counter] = {}
        self._latencies: dict[str, Histogram] = {}
        self.inflight = self._gauge("serving_inflight_requests", "Requests that a model is working on.")
        self.queue_depth = self._gauge("serving_queue_depth", "Requests admitted that wait for a thread.")
        self.queue_wait: Histogram = Histogram(
            "serving_queue_wait_seconds",
            "How long an admitted request waited for a thread.",
            _LABELS,
            buckets=_BUCKETS,
            registry=self._registry,
        ).labels(*self._own)
        self.rejected = self._counter("serving_rejected_requests", "Requests refused because the replica was full.")
        self.tap_dropped = self._counter("serving_tap_dropped_rows", "Rows that monitoring did not see.")
        self.batches_lost = self._counter(
            "serving_telemetry_lost_batches", "Telemetry batches given up for lack of room."
        )

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        count = self._counts.get((path, status))
        if count is None:
            count = self._counts[path, status] = self._requests.labels(*self._own, path, str(status))
        count.inc()
        latency = self._latencies.get(path)
        if latency is None:
            latency = self._latencies[path] = self._latency.labels(*self._own, path)
        latency.observe(seconds)

    def render(self) -> bytes:
        """Return the exposition in Prometheus' text format."""
        return generate_latest(self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, _LABELS, registry=self._registry).labels(*self._own)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, _LABELS, registry=self._registry).labels(*self._own)

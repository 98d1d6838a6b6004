"""What a replica counts: plain integers while it works, Prometheus' families when somebody asks."""

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import partial
from operator import add
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from modelops.domains.serving.schemas import RevisionDocument

_LABELS = ("tenant", "project", "deployment", "revision", "variant")
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BOUNDS = (*(str(bound) for bound in _BUCKETS), "+Inf")

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Durations(msgspec.Struct):
    """How many durations fell below each bound but not the one before, and their sum in seconds."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * len(_BOUNDS))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(_BUCKETS, seconds)] += 1
        self.total += seconds

    def add(self, other: "Durations") -> None:
        """Count all that another counted."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class Counts(msgspec.Struct):
    """What one process counted. `answers` are by path and status, `latencies` by path."""

    pid: int = 0
    answers: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    latencies: dict[str, Durations] = msgspec.field(default_factory=dict)
    waits: Durations = msgspec.field(default_factory=Durations)
    rejected: int = 0
    tap_dropped: int = 0
    batches_lost: int = 0
    inflight: int = 0
    queue_depth: int = 0

    def add(self, other: "Counts") -> None:
        """Add what another process counted."""
        for path, statuses in other.answers.items():
            mine = self.answers.setdefault(path, {})
            for status, count in statuses.items():
                mine[status] = mine.get(status, 0) + count
        for path, latency in other.latencies.items():
            self.latencies.setdefault(path, Durations()).add(latency)
        self.waits.add(other.waits)
        self.rejected += other.rejected
        self.tap_dropped += other.tap_dropped
        self.batches_lost += other.batches_lost
        self.inflight += other.inflight
        self.queue_depth += other.queue_depth


class Metrics:
    """What a replica's process counts. The event loop writes without a lock; `drop` and `lose` are for any thread.

    Args:
        counts: Where to go on; None for zero.
    """

    def __init__(self, document: RevisionDocument, counts: Counts | None = None) -> None:
        self._own = [
            document.tenant_id,
            document.project_id,
            document.deployment,
            str(document.revision),
            document.variant,
        ]
        self._lock = threading.Lock()
        self.counts = counts or Counts()

    def tally(self, path: str) -> "Tally":
        """Return what counts the answers of one path."""
        return Tally(
            self.counts.answers.setdefault(path, {"200": 0}), self.counts.latencies.setdefault(path, Durations())
        )

    def waited(self, seconds: Iterable[float]) -> None:
        """Count how long requests waited for the model."""
        for each in seconds:
            self.counts.waits.observe(each)

    def drop(self, rows: int) -> None:
        """Count rows that monitoring did not see."""
        with self._lock:
            self.counts.tap_dropped += rows

    def lose(self, batches: int) -> None:
        """Count telemetry batches given up."""
        with self._lock:
            self.counts.batches_lost += batches

    def render(self, processes: Sequence[Counts]) -> bytes:
        """Return what the replica's processes counted together, in Prometheus' text format."""
        total = Counts()
        for counts in processes:
            total.add(counts)
        registry = CollectorRegistry()
        registry.register(_Families(self._own, total, [counts.pid for counts in processes]))
        return generate_latest(registry)


class Tally:
    """The answers of one path, by status, and how long they took."""

    __slots__ = ("_latency", "_statuses")

    def __init__(self, statuses: dict[str, int], latency: Durations) -> None:
        self._statuses, self._latency = statuses, latency

    def answered(self, status: str, seconds: float) -> None:
        """Count an answer."""
        self._statuses[status] = self._statuses.get(status, 0) + 1
        self._latency.observe(seconds)


class _Families(Collector):
    """Counts as Prometheus' families, for one exposition."""

    def __init__(self, own: list[str], counts: Counts, pids: list[int]) -> None:
        self._own, self._counts, self._pids = own, counts, pids

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        counts = self._counts
        requests = CounterMetricFamily(
            "serving_http_requests", "Requests answered, by path and status.", labels=(*_LABELS, "path", "status")
        )
        for path, statuses in counts.answers.items():
            for status, count in statuses.items():
                requests.add_metric([*self._own, path, status], count)
        latency = HistogramMetricFamily(
            "serving_http_request_latency_seconds",
            "From the request's head to the end of its answer.",
            labels=(*_LABELS, "path"),
        )
        for path, durations in counts.latencies.items():
            latency.add_metric([*self._own, path], _cumulated(durations), durations.total)
        waits = HistogramMetricFamily(
            "serving_queue_wait_seconds", "How long an admitted request waited for the model.", labels=_LABELS
        )
        waits.add_metric(self._own, _cumulated(counts.waits), counts.waits.total)
        yield from (requests, latency, waits)
        yield self._gauge("serving_inflight_requests", "Requests that a model is working on.", counts.inflight)
        yield self._gauge("serving_queue_depth", "Requests admitted that wait for the model.", counts.queue_depth)
        yield self._counter(
            "serving_rejected_requests", "Requests refused because the replica was full.", counts.rejected
        )
        yield self._counter("serving_tap_dropped_rows", "Rows that monitoring did not see.", counts.tap_dropped)
        yield self._counter(
            "serving_telemetry_lost_batches", "Telemetry batches given up for lack of room.", counts.batches_lost
        )
        yield from _processes(self._pids)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=_LABELS)
        family.add_metric(self._own, value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(name, text, labels=_LABELS)
        family.add_metric(self._own, value)
        return family


def _cumulated(durations: Durations) -> list[Any]:
    total, found = 0, []
    for bound, count in zip(_BOUNDS, durations.counts, strict=True):
        total += count
        found.append([bound, total])
    return found


def _processes(pids: list[int]) -> Iterable[Metric]:
    """Return the operating system's figures of processes, each summed; the start is that of the first."""
    summed: dict[str, Metric] = {}
    for pid in pids:
        for family in ProcessCollector(pid=partial(int, pid), registry=None).collect():
            known = summed.get(family.name)
            if known is None:
                summed[family.name] = family
                continue
            both = zip(known.samples, family.samples, strict=True)
            combine = min if family.name == "process_start_time_seconds" else add
            known.samples = [mine._replace(value=combine(mine.value, theirs.value)) for mine, theirs in both]
    return summed.values()

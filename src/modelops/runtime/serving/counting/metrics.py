"""What a replica counts: plain integers while it works, Prometheus' families when somebody asks."""

import os
import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from operator import add
from typing import Any, NamedTuple

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from modelops.domains.monitoring.schemas import LATENCY_BOUNDS_S
from modelops.domains.serving.schemas import RevisionDocument
from modelops.runtime.serving.counting.gpus import Gpus

_LABELS = ("tenant", "project", "deployment", "revision", "variant")
_BOUNDS = (*(str(bound) for bound in LATENCY_BOUNDS_S), "+Inf")

CONTENT_TYPE = CONTENT_TYPE_LATEST
PREDICTION_PATHS = ("/predict", "/v2/models/infer")
EXPLANATION_PATH = "/explain"

_MOST_TOLD_APART = 48
_NOTHING: Mapping[str, str] = {}
_OF_VARIANTS = (
    (GaugeMetricFamily, "serving_inflight_requests", "Requests that a model is working on.", "inflight"),
    (GaugeMetricFamily, "serving_queue_depth", "Requests admitted that wait for the model.", "queue_depth"),
    (
        CounterMetricFamily,
        "serving_rejected_requests",
        "Requests refused because too much waited for the model.",
        "rejected",
    ),
    (CounterMetricFamily, "serving_tap_dropped_rows", "Rows that monitoring did not see.", "tap_dropped"),
    (
        CounterMetricFamily,
        "serving_prediction_log_dropped_rows",
        "Rows that were to be logged and are not.",
        "log_dropped",
    ),
    (
        CounterMetricFamily,
        "serving_shadow_dropped_requests",
        "Copies of requests that a shadow was not asked because too much waited for it.",
        "shadow_dropped",
    ),
)


class Durations(msgspec.Struct):
    """How many durations fell below each bound but not the one before, and their sum in seconds."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * len(_BOUNDS))
    total: float = 0.0

    def observe(self, seconds: Sequence[float]) -> None:
        """Count some; those of one batch mostly fall between the same bounds."""
        lowest = bisect_left(LATENCY_BOUNDS_S, min(seconds, default=0.0))
        if lowest == bisect_left(LATENCY_BOUNDS_S, max(seconds, default=0.0)):
            self.counts[lowest] += len(seconds)
        else:
            for each in seconds:
                self.counts[bisect_left(LATENCY_BOUNDS_S, each)] += 1
        self.total += sum(seconds)

    def add(self, other: "Durations") -> None:
        """Count all that another counted."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class Counts(msgspec.Struct):
    """What one process counted of a variant in a revision. `answers` are by path and status, `latencies` by path."""

    answers: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    latencies: dict[str, Durations] = msgspec.field(default_factory=dict)
    waits: Durations = msgspec.field(default_factory=Durations)
    rejected: int = 0
    tap_dropped: int = 0
    log_dropped: int = 0
    shadow_dropped: int = 0
    inflight: int = 0
    queue_depth: int = 0

    def tally(self, path: str) -> "Tally":
        """Return what counts the answers of one path."""
        return Tally(self.answers.setdefault(path, {"200": 0}), self.latencies.setdefault(path, Durations()))

    def waited(self, seconds: Sequence[float]) -> None:
        """Count how long requests waited for the model."""
        self.waits.observe(seconds)

    def timed(self) -> Durations:
        """Return how long predictions took, on whichever path."""
        found = Durations()
        for path in PREDICTION_PATHS:
            if path in self.latencies:
                found.add(self.latencies[path])
        return found

    def add(self, other: "Counts") -> None:
        """Add what another process, or another revision, counted."""
        for path, statuses in other.answers.items():
            mine = self.answers.setdefault(path, {})
            for status, count in statuses.items():
                mine[status] = mine.get(status, 0) + count
        for path, latency in other.latencies.items():
            self.latencies.setdefault(path, Durations()).add(latency)
        self.waits.add(other.waits)
        self.rejected += other.rejected
        self.tap_dropped += other.tap_dropped
        self.log_dropped += other.log_dropped
        self.shadow_dropped += other.shadow_dropped
        self.inflight += other.inflight
        self.queue_depth += other.queue_depth


class Key(NamedTuple):
    """Whose counts they are. `revision` is None for those of revisions that went long ago."""

    revision: int | None
    variant: str


class ProcessCounts(msgspec.Struct):
    """What one process counted."""

    pid: int = 0
    batches_lost: int = 0
    variants: list[tuple[Key, Counts]] = msgspec.field(default_factory=list)


class Metrics:
    """What a replica's process counts. The event loop writes without a lock; `drop` and `lose` are for any thread.

    Args:
        before: Where to go on; None for zero.
        environ: What says by which names the replica goes, where the document does not.
    """

    def __init__(
        self,
        document: RevisionDocument,
        before: ProcessCounts | None = None,
        environ: Mapping[str, str] = _NOTHING,
        gpus: Gpus | None = None,
    ) -> None:
        self._own, self._gpus = _own_labels(document, environ), gpus
        self._lock = threading.Lock()
        before = before or ProcessCounts()
        self._variants = dict(before.variants)
        self._batches_lost = before.batches_lost

    def of(self, revision: int, variant: str) -> Counts:
        """Return the counts of a variant in a revision, which nobody sees until they are adopted."""
        return self._variants.get(Key(revision, variant)) or Counts()

    def adopt(self, revision: int, variant: str, counts: Counts) -> None:
        """Tell these counts from now on. What was adopted long ago is added up by then, and told apart no more."""
        key = Key(revision, variant)
        self._variants.pop(key, None)
        self._variants[key] = counts
        told_apart = [known for known in self._variants if known.revision is not None]
        for old in told_apart[:-_MOST_TOLD_APART]:
            self._variants.setdefault(Key(None, old.variant), Counts()).add(self._variants.pop(old))

    def drop(self, counts: Counts, rows: int) -> None:
        """Count rows that monitoring did not see."""
        with self._lock:
            counts.tap_dropped += rows

    def drop_logged(self, counts: Counts, rows: int) -> None:
        """Count rows that were to be logged and are not."""
        with self._lock:
            counts.log_dropped += rows

    def lose(self, batches: int) -> None:
        """Count telemetry batches given up."""
        with self._lock:
            self._batches_lost += batches

    def counted(self) -> ProcessCounts:
        """Return what this process counted until now."""
        return ProcessCounts(os.getpid(), self._batches_lost, list(self._variants.items()))

    def render(self, processes: Sequence[ProcessCounts]) -> bytes:
        """Return what the replica's processes counted together, in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(_Families(self._own, processes, self._gpus))
        return generate_latest(registry)


class Tally:
    """The answers of one path, by status, and how long they took."""

    __slots__ = ("_latency", "_statuses")

    def __init__(self, statuses: dict[str, int], latency: Durations) -> None:
        self._statuses, self._latency = statuses, latency

    def answered(self, status: str, seconds: float) -> None:
        """Count an answer."""
        self._statuses[status] = self._statuses.get(status, 0) + 1
        latency = self._latency
        latency.counts[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        latency.total += seconds


def added_up(processes: Iterable[ProcessCounts]) -> dict[Key, Counts]:
    """Return what processes counted together."""
    total: dict[Key, Counts] = {}
    for process in processes:
        for key, counts in process.variants:
            total.setdefault(key, Counts()).add(counts)
    return total


class _Families(Collector):
    """Counts as Prometheus' families, for one exposition."""

    def __init__(self, own: list[str], processes: Sequence[ProcessCounts], gpus: Gpus | None) -> None:
        self._own, self._processes, self._gpus = own, processes, gpus
        found = added_up(processes).items()
        self._counts = [
            ([*own, str(key.revision), key.variant], counts) for key, counts in found if key.revision is not None
        ]

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        requests = CounterMetricFamily(
            "serving_http_requests", "Requests answered, by path and status.", labels=(*_LABELS, "path", "status")
        )
        latency = HistogramMetricFamily(
            "serving_http_request_latency_seconds",
            "From the request's head to the end of its answer.",
            labels=(*_LABELS, "path"),
        )
        waits = HistogramMetricFamily(
            "serving_queue_wait_seconds", "How long an admitted request waited for the model.", labels=_LABELS
        )
        for labels, counts in self._counts:
            for path, statuses in counts.answers.items():
                for status, count in statuses.items():
                    requests.add_metric([*labels, path, status], count)
            for path, durations in counts.latencies.items():
                latency.add_metric([*labels, path], _cumulated(durations), durations.total)
            waits.add_metric(labels, _cumulated(counts.waits), counts.waits.total)
        yield from (requests, latency, waits)
        yield from (self._family(*told) for told in _OF_VARIANTS)
        lost = CounterMetricFamily(
            "serving_telemetry_lost_batches", "Telemetry batches given up for lack of room.", labels=_LABELS[:3]
        )
        lost.add_metric(self._own, sum(process.batches_lost for process in self._processes))
        yield lost
        if self._gpus is not None:
            yield from self._gpus.families(_LABELS[:3], self._own)
        yield from _processes([process.pid for process in self._processes])

    def _family(self, kind: type[Metric], name: str, text: str, member: str) -> Metric:
        family: Any = kind(name, text, labels=_LABELS)  # type: ignore[call-arg]
        for labels, counts in self._counts:
            family.add_metric(labels, getattr(counts, member))
        found: Metric = family
        return found


def _own_labels(document: RevisionDocument, environ: Mapping[str, str]) -> list[str]:
    """Return tenant, project and deployment. The environment stands above the document, but a deployment goes by its name
    where both mean the same."""
    deployment = environ.get("DEPLOYMENT_ID")
    return [
        environ.get("TENANT_ID") or document.tenant_id,
        environ.get("PROJECT_ID") or document.project_id,
        document.deployment if deployment in (None, "", document.deployment_id) else deployment,
    ]


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

"""What replicas tell of themselves, read over HTTP: their metrics, in Prometheus' text format."""

import math
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from modelops.domains.serving.figures import Counted, Reading, Spread, Told
from modelops.domains.serving.gateway import Gateway

_TIMEOUT_S = 1.0
_AT_ONCE = 16
_PREDICTIONS = re.compile(r"/predict|/explain|.*/infer")
_LINE = re.compile(r"(\w+)\{(.*)\} (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_WANTED = (
    "serving_http_requests_total{",
    "serving_http_request_latency_seconds_",
    "serving_queue_wait_seconds_",
    "serving_rejected_requests_total{",
    "serving_inflight_requests{",
    "serving_queue_depth{",
)


def read_replicas(gateway: Gateway, endpoints: Sequence[str], token: str, at: float) -> Reading:
    """Ask replicas what they do, all at once, and within a second.

    Args:
        token: The platform's, for calls to replicas.
        at: The present on a monotonic clock.
    """
    read = partial(_read, gateway, token)
    if len(endpoints) < 2:
        return Reading(at, {endpoint: read(endpoint) for endpoint in endpoints})
    with ThreadPoolExecutor(min(len(endpoints), _AT_ONCE)) as pool:
        return Reading(at, dict(zip(endpoints, pool.map(read, endpoints), strict=True)))


def parse_metrics(text: str) -> Told:
    """Read what a replica tells at `/metrics`.

    Raises:
        ValueError: a value is no number.
    """
    inflight = waiting = 0.0
    variants: dict[str, _Gathered] = {}
    for name, labels, value in _lines(text):
        of = variants.setdefault(labels.get("variant", ""), _Gathered())
        path = labels.get("path")
        if name == "serving_inflight_requests":
            inflight += value
        elif name == "serving_queue_depth":
            waiting += value
        elif name == "serving_rejected_requests_total":
            of.rejected += value
        elif name.startswith("serving_queue_wait_seconds"):
            of.waits.add(name, labels, value)
        elif path is None or _PREDICTIONS.fullmatch(path) is None:
            continue
        elif name == "serving_http_requests_total":
            of.requests += value
            of.errors += value if labels.get("status", "").startswith("5") else 0
        else:
            of.latencies.add(name, labels, value)
    return Told(int(inflight), int(waiting), {name: gathered.counted() for name, gathered in variants.items()})


@dataclass
class _Durations:
    """A histogram of Prometheus, whose buckets are cumulative, added up over what else its lines name."""

    buckets: dict[float, float] = field(default_factory=dict)
    total_s: float = 0.0

    def add(self, name: str, labels: dict[str, str], value: float) -> None:
        if name.endswith("_bucket"):
            bound = float(labels["le"])
            self.buckets[bound] = self.buckets.get(bound, 0) + value
        elif name.endswith("_sum"):
            self.total_s += value

    def spread(self) -> Spread:
        bounds = sorted(self.buckets)
        cumulated = [self.buckets[bound] for bound in bounds]
        counts = tuple(int(now - then) for now, then in zip(cumulated, [0.0, *cumulated], strict=False))
        return Spread(tuple(bound for bound in bounds if math.isfinite(bound)), counts, self.total_s)


@dataclass
class _Gathered:
    requests: float = 0
    errors: float = 0
    rejected: float = 0
    latencies: _Durations = field(default_factory=_Durations)
    waits: _Durations = field(default_factory=_Durations)

    def counted(self) -> Counted:
        return Counted(
            int(self.requests), int(self.errors), int(self.rejected), self.latencies.spread(), self.waits.spread()
        )


def _lines(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        if line.startswith(_WANTED) and (match := _LINE.match(line)) is not None:
            yield match[1], dict(_LABEL.findall(match[2])), float(match[3])


def _read(gateway: Gateway, token: str, endpoint: str) -> Told | None:
    answer = gateway.read(endpoint, "/metrics", {"authorization": f"Bearer {token}"}, _TIMEOUT_S)
    if answer is None or answer.status != 200:
        return None
    try:
        return parse_metrics(answer.body.decode())
    except (ValueError, KeyError):
        return None

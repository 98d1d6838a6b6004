"""What the native protocol sends to be logged, read fast: by msgspec, and each distinct key checked once."""

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from modelops.contracts.errors import InvalidInput
from modelops.domains.experiments.ingest import Batch, parameter_entry, point
from modelops.domains.experiments.keys import number_keys
from modelops.domains.experiments.rules import to_microseconds
from modelops.domains.experiments.schemas import check_storable
from modelops.kernel.bodies import decode
from modelops.kernel.scope import Scope

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_KEY = 250
_FLOAT_FROM, _FLOAT_UNTIL = datetime(1970, 1, 1, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC)
"""Between these, a float of seconds tells the microsecond exactly, and is found much faster."""


class _Point(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    key: str
    value: float | str
    step: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] = 0
    timestamp: datetime | None = None


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    metrics: Annotated[list[_Point], Meta(max_length=10_000)] = []
    parameters: Annotated[dict[str, msgspec.Raw], Meta(max_length=2_000)] = {}
    tags: Annotated[dict[str, Annotated[str, Meta(max_length=5_000)]], Meta(max_length=200)] = {}


_decoder = msgspec.json.Decoder(_Batch)


async def read_batch(scope: Scope, body: bytes) -> Batch:
    """Return the batch that a request carries. A point without a time gets the present one.

    Raises:
        InvalidInput: it has not the form of `LogBatch`.
    """
    try:
        sent = decode(_decoder, body)
        parameters = [parameter_entry(_key(key), _parameter(raw)) for key, raw in sent.parameters.items()]
        tags = [(_key(key), check_storable(value)) for key, value in sent.tags.items()]
        keys = {sent_point.key for sent_point in sent.metrics}
        for key in keys:
            _metric_key(key)
        now = to_microseconds(scope.place.clock.now())
        times = _times(sent.metrics, now)
        special: dict[float | str, float] = {p.value: float(p.value) for p in sent.metrics if isinstance(p.value, str)}
    except (msgspec.MsgspecError, ValueError, RecursionError) as wrong:
        raise InvalidInput(f"What is to be logged cannot be read: {wrong}.") from wrong
    numbers = await number_keys(scope, keys)
    points = [
        (numbers[p.key], time_us, p.step, p.value + 0.0, False)
        if p.value.__class__ is float  # JSON has no NaN: that comes as a text
        else point(numbers[p.key], time_us, p.step, special[p.value])
        for p, time_us in zip(sent.metrics, times, strict=True)
    ]
    return Batch(points, parameters, tags)


def _times(points: list[_Point], now: int) -> list[int]:
    """Return when each point was made, in microseconds since 1970; one without a time zone is in UTC."""
    stamps = [p.timestamp for p in points if p.timestamp is not None]
    try:
        near = not stamps or (min(stamps) >= _FLOAT_FROM and max(stamps) < _FLOAT_UNTIL)
    except TypeError:  # some have a time zone and some have none
        near = False
    if near:
        return [now if p.timestamp is None else round(p.timestamp.timestamp() * 1e6) for p in points]
    return [now if p.timestamp is None else _exactly(p.timestamp) for p in points]


def _exactly(moment: datetime) -> int:
    return to_microseconds(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


def _parameter(raw: msgspec.Raw) -> Any:
    return check_storable(json.loads(bytes(raw)))


def _key(key: str) -> str:
    if not 1 <= len(key) <= _KEY or "\x00" in key:
        raise ValueError(f"the key '{key[:40]}' has not 1 to {_KEY} characters, or has a NUL character")
    return key


def _metric_key(key: str) -> None:
    _key(key)
    if _CONTROL.search(key):
        raise ValueError("the key of a metric stands in a path, so it has no control characters")

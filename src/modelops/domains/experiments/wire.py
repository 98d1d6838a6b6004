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


class _Point(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    key: str
    value: float | str
    step: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] = 0
    timestamp: str | None = None


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
        times = _times({p.timestamp for p in sent.metrics}, scope.place.clock.now())
        special: dict[float | str, float] = {p.value: float(p.value) for p in sent.metrics if isinstance(p.value, str)}
    except (msgspec.MsgspecError, ValueError, RecursionError) as wrong:
        raise InvalidInput(f"What is to be logged cannot be read: {wrong}.") from wrong
    numbers = await number_keys(scope, keys)
    points = [
        (numbers[p.key], times[p.timestamp], p.step, p.value + 0.0, False)
        if p.value.__class__ is float  # JSON has no NaN: that comes as a text
        else point(numbers[p.key], times[p.timestamp], p.step, special[p.value])
        for p in sent.metrics
    ]
    return Batch(points, parameters, tags)


def _times(stamps: set[str | None], now: datetime) -> dict[str | None, int]:
    """Return the microseconds since 1970 of each time that points name; points of one step share theirs.

    A time without a zone is in UTC, and no time at all is now.

    Raises:
        msgspec.ValidationError: one is no time.
    """
    written = [stamp for stamp in stamps if stamp is not None]
    times: dict[str | None, int] = {None: to_microseconds(now)}
    for stamp, moment in zip(written, msgspec.convert(written, list[datetime]), strict=True):
        times[stamp] = to_microseconds(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))
    return times


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

"""What people hand to `log_*` as what the spool keeps: checked at once, where its author can still mend it."""

import json
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from modelops.sdk.spool.records import number
from modelops.sdk.spool.segments import BATCH

_KEY = re.compile(r"[^\x00-\x1f\x7f]{1,250}")
_STEPS = range(-(2**63), 2**63)


class MetricKeys(dict[str, str]):
    """The JSON of each metric's key; a key is checked when it is first seen."""

    def __missing__(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise ValueError(
                f"{key!r} is no key of a metric: a text of 1 to 250 characters, none of them a control character"
            )
        key.encode()  # half of a surrogate pair cannot be stored
        self[key] = json.dumps(key)
        return self[key]


def metric_pairs(keys: MetricKeys, metrics: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield metrics as members of JSON objects, with their number; all are checked before the first is yielded.

    Raises:
        TypeError, ValueError: a key or a value is none.
    """
    members = [f"{keys[key]}:{number(float(value))}" for key, value in metrics.items()]
    if len(members) <= BATCH:
        yield ",".join(members), len(members)
        return
    for start in range(0, len(members), BATCH):
        part = members[start : start + BATCH]
        yield ",".join(part), len(part)


def check_step(step: int) -> int:
    """Return a step. Raises `ValueError` where it needs more than 64 bits."""
    if step not in _STEPS:
        raise ValueError(f"the step {step} needs more than 64 bits")
    return step


def plain(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return parameters as JSON has them: NumPy's numbers as Python's, what JSON lacks as text."""
    return {key: _json(value) for key, value in (parameters or {}).items()}


def _json(value: Any) -> Any:
    if isinstance(value, Enum):
        return _json(value.value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if value - value == 0 else str(float(value))
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return _json(value.item()) if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else str(value)

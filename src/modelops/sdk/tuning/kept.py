"""What samplers and pruners keep on a trial, as JSON, which has no infinities and no tuples."""

import math
from collections.abc import Mapping
from typing import Any


def read_system(system: Mapping[str, Any]) -> dict[str, Any]:
    """Return what samplers keep from its JSON."""
    return {key: _read(value) for key, value in system.items()}


def write_system(system: Mapping[str, Any]) -> dict[str, Any]:
    """Return what samplers keep as JSON, which has no infinities."""
    return {key: _write(value) for key, value in system.items()}


def _write(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(float(value))}
    if isinstance(value, Mapping):
        return {str(key): _write(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_write(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        return float(value["$float"]) if value.keys() == {"$float"} else {key: _read(one) for key, one in value.items()}
    return [_read(item) for item in value] if isinstance(value, list) else value

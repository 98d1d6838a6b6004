"""How long a model takes for a batch, plain and compiled."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from modelops.domains.models.schemas import ServingSpeed

BATCHES = (1, 8, 32, 128)

_ROUNDS, _ROUND_S = 5, 0.004


def measure(plain: Callable[[Any], Any], compiled: Callable[[Any], Any], rows: Any) -> list[ServingSpeed]:
    """Time both for batches of some sizes, on this machine as it is now.

    Args:
        rows: Rows to take the batches from, shape (rows, features); they are repeated where they are too few.
    """
    found = []
    for size in BATCHES:
        batch = np.ascontiguousarray(np.resize(rows, (size, rows.shape[1])))
        found.append(
            ServingSpeed(rows=size, plain_us=_microseconds(plain, batch), compiled_us=_microseconds(compiled, batch))
        )
    return found


def _microseconds(ask: Callable[[Any], Any], batch: Any) -> float:
    """Return the best of some rounds, in microseconds a call: what else the machine does only ever adds."""
    begun = time.perf_counter()
    ask(batch)
    calls = max(1, min(200, int(_ROUND_S / max(time.perf_counter() - begun, 1e-7))))
    best = float("inf")
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        for _ in range(calls):
            ask(batch)
        best = min(best, (time.perf_counter() - begun) / calls)
    return round(best * 1e6, 2)

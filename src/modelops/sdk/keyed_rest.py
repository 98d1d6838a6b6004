"""A connection whose creates can be made twice: a program that is run again is given what its first run made."""

import hashlib
import itertools
import threading
from typing import Any

import httpx

from modelops.contracts.rest import Rest


class KeyedRest(Rest):
    """A connection that derives the idempotency keys of its creates from one key and from their order.

    The n-th create at a path has the same key in every process with the same base. One that asks for something else than
    before at its place is refused with `IdempotencyMismatch`, and not made a second time.

    Args:
        http: The transport.
        base: What all keys are derived from.
        retry_for_s: As of `Rest`.
    """

    def __init__(self, http: httpx.Client, base: str, *, retry_for_s: float = 10.0) -> None:
        super().__init__(http, retry_for_s=retry_for_s)
        self._base = base
        self._lock = threading.Lock()
        self._counts: dict[str, itertools.count[int]] = {}

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request, as `Rest.request` does. A content that is no JSON is an artifact's, which its digest names."""
        if method == "POST" and options.get("content") is None:
            with self._lock:
                number = next(self._counts.setdefault(path, itertools.count()))
            key = hashlib.sha256(f"{self._base}:{path}:{number}".encode()).hexdigest()
            options["headers"] = {"Idempotency-Key": key, **(options.get("headers") or {})}
        return super().request(method, path, **options)

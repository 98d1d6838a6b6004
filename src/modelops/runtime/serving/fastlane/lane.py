"""One replica's fast lane: heads known by their bytes, and a request's way from there into the engine."""

import time
from collections.abc import Callable
from typing import Any

from modelops.contracts.errors import MLOpsError
from modelops.runtime.serving.access import LEEWAY_S, require_permission
from modelops.runtime.serving.engine.asks import Ask, Outcome
from modelops.runtime.serving.fastlane.heads import MOST_BYTES, Head, read_head
from modelops.runtime.serving.metrics import Tally
from modelops.runtime.serving.replica import Replica

_MOST_HEADS = 512
_MOST_BODY_BYTES = 64 * 1024
"""Reading a longer body would keep others waiting; it takes the ordinary lane, which reads it on a thread."""

Done = Callable[[Outcome], None]


class FastLane:
    """What the connections of one event loop share.

    Heads are kept only once their token was verified: strangers cannot fill the memory, or push others out of it.
    """

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._forms = {path.encode(): form for path, form in replica.forms.items()}
        self._tallies = {form.label: replica.metrics.tally(form.label) for form in replica.forms.values()}
        self._longest = min(_MOST_BODY_BYTES, replica.document.limits.max_body_bytes)
        self._heads: dict[bytes, Head] = {}

    @property
    def draining(self) -> bool:
        """Return whether the replica was asked to end."""
        return self._replica.draining

    def tally(self, head: Head) -> Tally:
        """Return what counts the answers to such requests."""
        return self._tallies[head.form.label]

    def head_of(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return the head and body of a request that is whole, plain and by a verified caller; else None."""
        end = data.find(b"\r\n\r\n", 0, MOST_BYTES) + 4
        if end < 4:
            return None
        raw = data[:end]
        head = self._heads.get(raw) or read_head(raw, self._forms)
        if head is None or len(data) - end != head.length or head.length > self._longest:
            return None
        if (head.expires <= time.time() or head.generation != self._replica.gate.generation) and not self._verify(
            raw, head
        ):
            return None
        return head, data[end:]

    def ask(self, head: Head, body: bytes, began: float, done: Done) -> Ask:
        """Hand a request to the engine.

        Raises:
            MLOpsError: it is refused, as in the ordinary lane.
        """
        replica = self._replica
        replica.asked_at = time.monotonic()
        replica.rates.check(head.caller)
        ask = replica.ask(head.form, body, head.json_length, head.timeout_ms, began, done)
        replica.engine.submit(ask)
        return ask

    def _verify(self, raw: bytes, head: Head) -> bool:
        """Note what is known of the head's token; tell whether it holds and permits predictions."""
        replica = self._replica
        try:
            claims: dict[str, Any] | None = replica.gate.known(head.authorization)
            if claims is None:
                return False
            require_permission(claims, replica.document.deployment_id)
        except MLOpsError:
            return False
        head.caller, head.generation = str(claims["sub"]), replica.gate.generation
        head.expires = claims["exp"] + LEEWAY_S
        if len(self._heads) >= _MOST_HEADS:
            self._heads.clear()
        self._heads[raw] = head
        return True

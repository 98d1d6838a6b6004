"""One replica's fast lane: heads known by their bytes, and a request's way from there into the engine."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from modelops.contracts.errors import MLOpsError
from modelops.runtime.serving.access import LEEWAY_S, require_permission
from modelops.runtime.serving.answers import reply_headers
from modelops.runtime.serving.engine.asks import Ask, Outcome
from modelops.runtime.serving.fastlane.gathering import MOST_BYTES as GATHERED_BYTES
from modelops.runtime.serving.fastlane.heads import MOST_BYTES, Head, read_head
from modelops.runtime.serving.forms import QUICK_BYTES, Body
from modelops.runtime.serving.replica import Replica
from modelops.runtime.serving.variants.served import Served
from modelops.runtime.serving.variants.shadows import follow
from modelops.runtime.serving.variants.variant import Way

_MOST_HEADS = 512
Done = Callable[[Outcome], None]
Headers = list[tuple[bytes, bytes]]


class FastLane:
    """What the connections of one event loop share.

    Heads are kept only once their token was verified: strangers cannot fill the memory, or push others out of it.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica, self._gate, self._tracing = replica, replica.gate, replica.tracing
        self.is_picked = False
        """Whether the request that was just turned away is to be traced: the ordinary lane must not draw again."""
        self._heads: dict[bytes, Head] = {}
        self.usual: tuple[Headers | None, bytes] = (None, b"")
        self._renew(replica.current)
        replica.followers.append(self._renew)

    def _renew(self, served: Served) -> None:
        """Go by what is served now; what heads mean is found out anew."""
        self._served, self._shadows = served, served.shadows
        self._longest = min(QUICK_BYTES, served.document.limits.max_body_bytes)
        self._longest_binary = min(GATHERED_BYTES, served.document.limits.max_body_bytes)
        self._choosing = [name for name in (served.override, served.sticky) if name is not None]
        self._forget_heads()

    def usual_head(self, defaults: Headers) -> bytes:
        """Return the head of a prediction's reply, but for the length.

        Args:
            defaults: The headers of every reply; a new list takes the old one's place when they change.
        """
        known, head = self.usual
        if known is not defaults:
            head = reply_head(200, defaults, reply_headers(b"")[1])
            self.usual = defaults, head
        return head

    def head_of(self, data: bytes, began: float, last: Head | None) -> Head | None:
        """Return the head of a request that is plain, by a verified caller, and whole; else None.

        Of a request that has tensors behind JSON it is returned, too, where all that came is a part of it.

        Args:
            data: What was read, from where a request begins.
            began: The present, in seconds of `time.perf_counter`.
            last: The head before it on this connection, which most requests have again, byte for byte.
        """
        if last is not None and data.startswith(last.raw) and last.expires > began:
            head: Head | None = last
        else:
            raw = data[: data.find(b"\r\n\r\n", 0, MOST_BYTES) + 4]
            head = self._heads.get(raw) or read_head(raw, self._served.doors, self._choosing)
        if head is None:
            return None
        if head.brings_tensors:
            fits = len(data) <= head.whole and head.length <= self._longest_binary
        else:
            fits = len(data) == head.whole and head.length <= self._longest
        if not fits:
            return None
        if (head.expires <= began or head.generation != self._gate.generation) and not self._verify(head, began):
            return None
        if self._tracing is not None and self._tracing.wants(head.sampled):
            self.is_picked = True
            return None
        return head

    def ask(self, head: Head, way: Way, body: Body, began: float, done: Done) -> Ask:
        """Hand a request to a variant's engine.

        Raises:
            MLOpsError: it is refused, as in the ordinary lane.
        """
        replica = self.replica
        replica.asked_at = began
        if replica.rates.hold:
            replica.rates.check(head.caller)
        request_id = head.request_id
        if self._shadows:
            request_id = request_id or (None if way.log is None else uuid4().hex)
            body = bytes(body)  # a model may write into what it is given
            done = follow(self._shadows, way, body, head.json_length, request_id, done)
        ask = way.ask(body, head.json_length, head.timeout_ms, began, done)
        if way.log is not None:
            ask.logged = way.log.pick(request_id)
        way.variant.engine.submit(ask)
        return ask

    def _verify(self, head: Head, began: float) -> bool:
        """Note what is known of the head's token; tell whether it holds and permits predictions."""
        replica = self.replica
        try:
            claims: dict[str, Any] | None = replica.gate.known(head.authorization)
            if claims is None:
                return False
            require_permission(claims, replica.document.deployment_id)
            found = self._served.way(head.door, head.naming)
        except MLOpsError:
            return False
        head.way, head.draw = (found, None) if isinstance(found, Way) else (None, found)
        head.caller, head.generation = str(claims["sub"]), replica.gate.generation
        head.expires = claims["exp"] + LEEWAY_S - time.time() + began
        if len(self._heads) >= _MOST_HEADS:
            self._forget_heads()
        self._heads[head.raw] = head
        return True

    def _forget_heads(self) -> None:
        """Know no head any more; connections that hold one have to ask for it again."""
        for head in self._heads.values():
            head.expires = -math.inf
        self._heads.clear()


def reply_head(status: int, defaults: Headers, headers: Mapping[str, str]) -> bytes:
    """Return a reply's head up to where the body's length comes."""
    lines = [STATUS_LINE[status]]
    lines += [b"%b: %b\r\n" % line for line in defaults]
    lines += [f"{name}: {value}\r\n".encode("latin-1") for name, value in headers.items()]
    return b"".join([*lines, b"content-length: "])

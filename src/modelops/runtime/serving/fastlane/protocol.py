"""Connections: uvicorn's protocol, with the fast lane before it."""

import asyncio
import logging
import time
from collections.abc import Collection
from typing import Any, ClassVar

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from modelops.contracts.errors import MLOpsError
from modelops.runtime.serving.answers import problem_body, problem_headers, reply_headers
from modelops.runtime.serving.connections import Room
from modelops.runtime.serving.engine.asks import Ask, Outcome
from modelops.runtime.serving.fastlane.gathering import Gathering
from modelops.runtime.serving.fastlane.heads import Head
from modelops.runtime.serving.fastlane.lane import FastLane, reply_head
from modelops.runtime.serving.forms import Body
from modelops.runtime.serving.tracing import PICKED
from modelops.runtime.serving.variants.variant import Way

_log = logging.getLogger(__name__)

_CHECK_S = 5.0
_HEAD_S = 20.0
"""How long a request's head may take to arrive."""

_READ_S = 120.0
"""How long a request may take to arrive whole, and a reply to be taken."""

_LENGTHS = tuple(b"%d\r\n\r\n" % size for size in range(4096))
"""What stands at the end of a reply's head, by the body's length."""


class _Flow(FlowControl):
    """Reads nothing more while requests that came in one read wait for their turn: whoever sends many and takes no reply would
    fill the memory."""

    def __init__(self, transport: asyncio.Transport, waiting: Collection[object]) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class LaneProtocol(HttpToolsProtocol):
    """Answers a whole, plain request for a prediction itself, and leaves every other byte to uvicorn.

    A read from the socket is such a request if it begins where a request may begin, is nothing but one head and one body
    of the head's length, and nothing on the connection is unanswered. A body of tensors, which are large, may come in
    several reads; where it then turns out to be none for this lane, uvicorn gets all of it. So uvicorn's parser never sees
    a part of what was answered here, and nothing that it saw a part of is answered here.
    """

    lane: ClassVar[FastLane]
    room: ClassVar[Room]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._inside = False
        """Whether uvicorn's parser is inside a request."""
        self._in_head = False
        self._ask: Ask | None = None
        self._head: Head | None = None
        self._last: Head | None = None
        self._way: Way | None = None
        self._began = 0.0
        self._held: list[bytes] = []
        self._gathering: Gathering | None = None
        self._active_at = 0.0
        self._check: asyncio.TimerHandle | None = None
        self._ending = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to watch the connection."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self.flow = _Flow(self.transport, self.pipeline)
        self._active_at = time.perf_counter()
        self._check = self.loop.call_later(_CHECK_S, self._look_after)
        if not self.room.has_place(self.connections):
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was asked for by who is gone."""
        if self._check is not None:
            self._check.cancel()
        if self._ask is not None:
            self._ask.gone = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Answer a whole, plain request; pass all else on."""
        if self._head is not None:  # it waits for its answer; what follows has its turn afterwards
            self._held.append(data)
            self.transport.pause_reading()
            return
        if self._gathering is not None:
            self._gather(self._gathering, data)
            return
        cycle: RequestResponseCycle | None = self.cycle
        is_free = not self._inside and (cycle is None or cycle.response_complete)
        if is_free and not (self.lane.replica.draining or self.flow.write_paused):
            began = time.perf_counter()
            head = self.lane.head_of(data, began, self._last)
            if head is not None:
                self._last = head
                if not head.brings_tensors:
                    self._answer(head, data[len(data) - head.length :], began)
                else:
                    self._begin_to_gather(head, data, began)
                return
        super().data_received(data)

    def _begin_to_gather(self, head: Head, data: bytes, began: float) -> None:
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._active_at = began
        self._gathering = gathering = Gathering(head, began)
        self._gather(gathering, memoryview(data)[len(head.raw) :])

    def _gather(self, gathering: Gathering, data: bytes | memoryview) -> None:
        """Take a part of a body, and answer when it is whole."""
        head = gathering.head
        if not gathering.take(data):  # the next request is in it, too
            self._gathering = None
            super().data_received(gathering.raw() + bytes(data))
        elif (body := gathering.body) is not None:
            self._gathering = None
            way = head.way or head.draw.draw()  # type: ignore[union-attr]  # one of both is there
            if way.form.is_quick(body, head.json_length):
                self._answer(head, body, gathering.began, way)
            else:
                super().data_received(gathering.raw())

    def on_message_begin(self) -> None:
        """Note that the parser is inside a request."""
        self._inside = self._in_head = True
        self._active_at = time.perf_counter()
        super().on_message_begin()
        if self.lane.is_picked:
            self.lane.is_picked = False
            self.scope[PICKED] = True  # type: ignore[literal-required]

    def on_headers_complete(self) -> None:
        """Note that the head is there."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that it is through."""
        self._inside = False
        super().on_message_complete()

    def quiet_since(self) -> float | None:
        """Return when the caller last began a request or got an answer; None while an answer is owed."""
        return None if self._head is not None or self._is_answering() else self._active_at

    def end(self) -> None:
        """Close the connection."""
        self.transport.close()

    def shutdown(self) -> None:
        """End after what is being answered."""
        self._ending = True
        if self._head is None and self._gathering is None:
            super().shutdown()

    def _is_answering(self) -> bool:
        """Tell whether the ordinary lane owes a reply."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _answer(self, head: Head, body: Body, began: float, way: Way | None = None) -> None:
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._head, self._began = head, began
        self._way = way = way or head.way or head.draw.draw()  # type: ignore[union-attr]  # one of both is there
        try:
            self._ask = self.lane.ask(head, way, body, began, self._done)
        except MLOpsError as wrong:
            self._done(wrong)
        except Exception:
            _log.exception("a request failed")
            self._done(MLOpsError("The runtime failed.", hint="The replica's log has the traceback."))

    def _done(self, outcome: Outcome) -> None:
        head, way, lane = self._head, self._way, self.lane
        self._head = self._way = self._ask = None
        if head is None or way is None:
            return
        closing = self._ending or not head.keep_alive or lane.replica.draining
        if type(outcome) is bytes and not closing:
            status, size, defaults = "200", len(outcome), self.server_state.default_headers
            known, usual = lane.usual
            if known is not defaults:
                usual = lane.usual_head(defaults)
            length = _LENGTHS[size] if size < len(_LENGTHS) else b"%d\r\n\r\n" % size
            self.transport.write(b"".join((usual, length, outcome)))
        else:
            status = self._write(outcome, head, way.form.label, closing=closing)
        now = self._active_at = time.perf_counter()
        way.tally.answered(status, now - self._began)
        if closing:
            self.transport.close()
        elif self._held:
            held, self._held = b"".join(self._held), []
            self.transport.resume_reading()
            self.data_received(held)

    def _write(self, outcome: Outcome, head: Head, path: str, *, closing: bool) -> str:
        """Write a reply that is not of the usual kind, and return its status."""
        if isinstance(outcome, MLOpsError):
            status, headers = outcome.status, problem_headers(outcome)
            content = problem_body(outcome, path, head.request_id)
        else:
            status = 200
            content, headers = reply_headers(outcome)
        if closing:
            headers = headers | {"connection": "close"}
        lines = reply_head(status, self.server_state.default_headers, headers)
        self.transport.write(b"%b%d\r\n\r\n%b" % (lines, len(content), content))
        return str(status)

    def _look_after(self) -> None:
        """Close a connection that says nothing for long, does not come to the end of its request, or takes no reply."""
        self._check = self.loop.call_later(_CHECK_S, self._look_after)
        waited = time.perf_counter() - self._active_at
        if self.flow.write_paused and waited >= _READ_S:
            self.transport.abort()  # what is written and not taken would never let it close
            return
        answering = self._head is not None or self._is_answering()
        inside = self._inside or self._gathering is not None
        idle = not inside and not answering and waited >= max(self.timeout_keep_alive, _CHECK_S)
        if idle or (inside and waited >= (_HEAD_S if self._in_head else _READ_S)):
            self.transport.close()


def protocol_of(lane: FastLane, room: Room) -> type[LaneProtocol]:
    """Return the protocol for the connections of one fast lane."""
    return type("BoundLaneProtocol", (LaneProtocol,), {"lane": lane, "room": room})

"""Connections: uvicorn's protocol, with the fast lane before it."""

import asyncio
import logging
import time
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from modelops.contracts.errors import MLOpsError
from modelops.runtime.serving.answers import problem_body, problem_headers, reply_headers
from modelops.runtime.serving.engine.asks import Ask, Outcome
from modelops.runtime.serving.fastlane.heads import Head
from modelops.runtime.serving.fastlane.lane import FastLane, reply_head
from modelops.runtime.serving.tracing import PICKED
from modelops.runtime.serving.variant import Way

_log = logging.getLogger(__name__)

_CHECK_S = 5.0
_READ_S = 120.0
"""How long a request may take to arrive whole."""


class LaneProtocol(HttpToolsProtocol):
    """Answers a whole, plain request for a prediction itself, and leaves every other byte to uvicorn.

    A read from the socket is such a request if it begins where a request may begin, is nothing but one head and one body
    of the head's length, and nothing on the connection is unanswered. So uvicorn's parser never sees a part of what was
    answered here, and nothing that it saw a part of is answered here.
    """

    lane: ClassVar[FastLane]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._inside = False
        """Whether uvicorn's parser is inside a request."""
        self._ask: Ask | None = None
        self._head: Head | None = None
        self._way: Way | None = None
        self._began = 0.0
        self._held: list[bytes] = []
        self._active_at = 0.0
        self._check: asyncio.TimerHandle | None = None
        self._ending = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to watch the connection."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._active_at = time.perf_counter()
        self._check = self.loop.call_later(_CHECK_S, self._look_after)

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
        if data[:5] == b"POST " and self._is_free():
            found = self.lane.head_of(data)
            if found is not None:
                self._answer(*found)
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Note that the parser is inside a request."""
        self._inside = True
        self._active_at = time.perf_counter()
        super().on_message_begin()
        if self.lane.is_picked:
            self.lane.is_picked = False
            self.scope[PICKED] = True  # type: ignore[literal-required]

    def on_message_complete(self) -> None:
        """Note that it is through."""
        self._inside = False
        super().on_message_complete()

    def shutdown(self) -> None:
        """End after what is being answered."""
        self._ending = True
        if self._head is None:
            super().shutdown()

    def _is_free(self) -> bool:
        """Tell whether a request may begin here, and its reply be written at once."""
        return not (
            self._inside
            or self._is_answering()
            or self.lane.draining
            or self.flow.write_paused
            or self.transport.is_closing()
        )

    def _is_answering(self) -> bool:
        """Tell whether the ordinary lane owes a reply."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _answer(self, head: Head, body: bytes) -> None:
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._head, self._began = head, time.perf_counter()
        self._way = way = head.way or head.draw.draw()  # type: ignore[union-attr]  # one of both is there
        try:
            self._ask = self.lane.ask(head, way, body, self._began, self._done)
        except MLOpsError as wrong:
            self._done(wrong)
        except Exception:
            _log.exception("a request failed")
            self._done(MLOpsError("The runtime failed.", hint="The replica's log has the traceback."))

    def _done(self, outcome: Outcome) -> None:
        head, way, lane = self._head, self._way, self.lane
        self._head = self._way = self._ask = None
        if head is None or way is None or self.transport.is_closing():
            return
        closing = self._ending or not head.keep_alive or lane.draining
        if type(outcome) is bytes and not closing:
            status = "200"
            self.transport.write(
                b"%b%d\r\n\r\n%b" % (lane.usual_head(self.server_state.default_headers), len(outcome), outcome)
            )
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
        """Close a connection that says nothing for long, or does not come to the end of its request."""
        self._check = self.loop.call_later(_CHECK_S, self._look_after)
        waited = time.perf_counter() - self._active_at
        answering = self._head is not None or self._is_answering()
        idle = not self._inside and not answering and waited >= max(self.timeout_keep_alive, _CHECK_S)
        if idle or (self._inside and waited >= _READ_S):
            self.transport.close()


def protocol_of(lane: FastLane) -> type[LaneProtocol]:
    """Return the protocol for the connections of one fast lane."""
    return type("BoundLaneProtocol", (LaneProtocol,), {"lane": lane})

"""How answers are written: their head with the first of their body, in one packet where they are short."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_SHORT = 64 * 1024


class Protocol(HttpToolsProtocol):
    """Uvicorn's HTTP/1.1, which writes an answer's head before its body is there."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to read from a connection."""
        super().connection_made(_Gathering(transport, self.loop))  # type: ignore[arg-type]


class _Gathering:
    """A transport that holds a first piece until the next comes, at most to the end of the event loop's tick."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held: bytes = b""
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info
        self.pause_reading, self.resume_reading = transport.pause_reading, transport.resume_reading

    def write(self, piece: bytes) -> None:
        held = self._held
        if held:
            self._held = b""
            if len(piece) > _SHORT:
                self._transport.write(held)
                self._transport.write(piece)
            else:
                self._transport.write(held + piece)
        elif len(piece) < _SHORT:
            self._held = piece
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(piece)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held, self._held = self._held, b""
        if held:
            self._transport.write(held)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

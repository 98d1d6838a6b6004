"""Listening: the application on a socket, in this thread or in one of its own."""

import socket
import threading
from pathlib import Path

import uvicorn

from modelops.contracts.errors import Conflict, InvalidInput
from modelops.server.platform import Platform
from modelops.server.protocol import Protocol

_BACKLOG = 1024
_KEEP_ALIVE_S = 75
"""Longer than clients keep an idle connection: one that is ended here may take a request on its way with it."""


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket.

    Raises:
        Conflict: the port is taken.
        InvalidInput: the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except PermissionError as wrong:
        sock.close()
        raise InvalidInput(f"Port {port} may not be used by this user.", hint="Choose one above 1023.") from wrong
    except OSError as wrong:
        sock.close()
        if wrong.errno in (98, 48):
            raise Conflict(
                f"Port {port} on {host} is taken by another program.",
                hint="Choose another with `mops up --port N`, or 0 for a free one.",
            ) from wrong
        raise InvalidInput(
            f"Cannot listen on {host}: {wrong.strerror}.", hint="Name an address of this machine."
        ) from wrong
    return sock


def url_of(sock: socket.socket, host: str) -> str:
    """Return the address under which this machine reaches a bound socket."""
    port = sock.getsockname()[1]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{reachable}:{port}"


def build_server(platform: Platform) -> uvicorn.Server:
    """Return the HTTP server of a platform, still to be run on a socket."""
    config = uvicorn.Config(
        platform.app,
        http=Protocol,
        log_config=None,
        access_log=platform.settings.debug,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=_KEEP_ALIVE_S,
        h11_max_incomplete_event_size=64 * 1024,
    )
    return uvicorn.Server(config)


class Listener:
    """Serves a platform from a thread, on a loopback port that is taken again the next time where it is free.

    Args:
        platform: What to serve.
        remembered: The file that keeps the port: jobs of an earlier process of this home still call it.
    """

    def __init__(self, platform: Platform, remembered: Path) -> None:
        self.platform = platform
        self.remembered = remembered
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Listen, and return the address."""
        sock = self._bind()
        self._server = build_server(self.platform)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [sock]}, name="embedded-listener", daemon=True
        )
        self._thread.start()
        return url_of(sock, "127.0.0.1")

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=10)

    def _bind(self) -> socket.socket:
        try:
            sock = bind("127.0.0.1", int(self.remembered.read_text()))
        except (OSError, ValueError, Conflict):
            sock = bind("127.0.0.1", 0)
        self.remembered.write_text(str(sock.getsockname()[1]))
        return sock

"""A small port for what does not serve the API: its health, and an agent's output."""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from modelops.contracts.errors import MLOpsError
from modelops.contracts.platform import HealthCheck
from modelops.server.listener import bind

log = logging.getLogger(__name__)

Answer = Callable[[str | None], bytes]
"""What answers a path: given the `Authorization` header, it returns the body or raises an error of the platform's."""

LIVE, READY = "/health/live", "/health/ready"


class Probes:
    """Answers on a port, from threads, until it is closed.

    Args:
        host: The address to listen on.
        port: The port; 0 takes a free one.
        kind: What this process is, as it is told.
        check_ready: Raises where this process is not ready to do its work.
        answers: Further paths.
    """

    def __init__(
        self,
        host: str,
        port: int,
        kind: str,
        check_ready: Callable[[], None],
        answers: Mapping[str, Answer] | None = None,
    ) -> None:
        def live(_: str | None) -> bytes:
            return _told(kind, "The process answers.")

        def ready(_: str | None) -> bytes:
            check_ready()
            return _told(kind, "It does its work.")

        paths = {LIVE: live, READY: ready, "/healthz": live, "/readyz": ready, **(answers or {})}
        sock = bind(host, port)
        self.port = int(sock.getsockname()[1])
        self._server = ThreadingHTTPServer(sock.getsockname()[:2], _handler(paths), bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = sock
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="probes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


def _told(kind: str, detail: str) -> bytes:
    return HealthCheck(name=kind, healthy=True, detail=detail).model_dump_json().encode()


def _handler(paths: Mapping[str, Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            """Answer one request."""
            found = paths.get(self.path.partition("?")[0])
            if found is None:
                self._send(404, b"")
                return
            try:
                self._send(200, found(self.headers.get("Authorization")))
            except MLOpsError as refused:
                body = {"code": refused.code, "detail": str(refused)}
                self._send(refused.status, json.dumps(body).encode())
            except Exception:
                log.exception("a probe failed", extra={"path": self.path})
                self._send(500, b"")

        def log_message(self, *_: Any) -> None:
            """Probes are many: they are not logged."""

        def _send(self, status: int, body: bytes) -> None:
            with suppress(OSError):  # who asked may have left
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

    return Handler

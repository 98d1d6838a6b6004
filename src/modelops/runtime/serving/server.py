"""Listening, and ending without dropping a request."""

import asyncio
import contextlib
import json
import logging
import math
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from modelops.runtime.serving.app import build_app
from modelops.runtime.serving.fastlane.lane import FastLane
from modelops.runtime.serving.fastlane.protocol import protocol_of
from modelops.runtime.serving.files import write_atomically
from modelops.runtime.serving.replica import Replica

_QUIET_S = 0.25
"""A replica that ends goes on listening until no request has come for so long, since balancers learn of it with delay."""

_REQUESTS_SHARE = 0.8
"""How much of the draining time is for requests; the rest is for telemetry."""

_BACKLOG = 2048

_log = logging.getLogger(__name__)


def serve(replica: Replica) -> None:
    """Listen on a free port, write `endpoint.json`, and answer until SIGTERM or SIGINT; then drain."""
    listener = socket.create_server((replica.config.host, 0), family=_family(replica.config.host), backlog=_BACKLOG)
    config = uvicorn.Config(
        build_app(replica),
        http=protocol_of(FastLane(replica)),
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
    )
    server = _Server(config, replica, listener)
    with contextlib.closing(listener):
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Uvicorn, with our way to start and to end."""

    def __init__(self, config: uvicorn.Config, replica: Replica, listener: socket.socket) -> None:
        super().__init__(config)
        self._replica, self._listener = replica, listener
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and then tell where."""
        await super().startup(sockets=sockets)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._begin_to_end)
        _announce(self._replica.config.workdir, self._listener)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: Uvicorn would raise them again after draining, and the exit code would not be 0."""
        yield

    def _begin_to_end(self) -> None:
        if self._draining is None:
            _log.info("asked to end; draining")
            self._replica.draining = True
            self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        began, budget = time.monotonic(), self._replica.config.drain_s * _REQUESTS_SHARE
        while time.monotonic() - began < budget / 2:
            quiet = time.monotonic() - max(began, self._replica.asked_at)
            if quiet >= _QUIET_S:
                break
            await asyncio.sleep(_QUIET_S - quiet)
        self.config.timeout_graceful_shutdown = max(1, math.ceil(began + budget - time.monotonic()))
        self.should_exit = True


def _announce(workdir: Path, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - it is compared, not bound
        host = socket.gethostname()
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    write_atomically(workdir / "endpoint.json", json.dumps({"url": url}).encode())
    _log.info("listening on %s", url)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET

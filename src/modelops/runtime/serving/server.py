"""Listening, and ending without dropping a request."""

import asyncio
import contextlib
import gc
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import uvicorn

from modelops.contracts.errors import MissingExtra
from modelops.runtime.serving.app import build_app
from modelops.runtime.serving.connections import Room, raise_file_limit
from modelops.runtime.serving.counting.sharing import SHARE_S
from modelops.runtime.serving.fastlane.lane import FastLane
from modelops.runtime.serving.fastlane.protocol import protocol_of
from modelops.runtime.serving.listening import BACKLOG, announce, listen, reserve_port
from modelops.runtime.serving.replica import Replica
from modelops.runtime.serving.steering import Steering
from modelops.runtime.serving.swaps.swaps import Swapper

if TYPE_CHECKING:
    from modelops.runtime.serving.rpc.port import RpcPort

_QUIET_S = 0.25
"""A replica that ends goes on listening until no request has come for so long, since balancers learn of it with delay."""

_KEEP_ALIVE_S = 75
"""Longer than callers keep an idle connection: who ends it first must be the caller, or a request may be lost on its way."""

_REQUESTS_SHARE = 0.8
"""How much of the draining time is for requests; the rest is for telemetry."""

_log = logging.getLogger(__name__)

_COLLECTED_AFTER = (20_000, 20, 20)
"""Requests of a batch are let go together, and leave no circles: by default they would be looked through on the way."""


def serve(replica: Replica) -> None:
    """Listen on a free port, write `endpoint.json`, and answer until SIGTERM or SIGINT; then drain.

    A worker listens on its parent's socket instead, and tells its parent; it also ends when its parent does.
    """
    worker = replica.config.worker
    listener = (
        listen(replica.config.host, replica.config.port) if worker is None else socket.socket(fileno=worker.listener)
    )
    steering = Steering()
    config = uvicorn.Config(
        build_app(replica, steering),
        http=protocol_of(FastLane(replica), Room(raise_file_limit())),
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    server = _Server(config, replica, steering, listener)
    gc.collect()
    gc.freeze()  # what was loaded stays; looking through it again and again would hold up requests
    gc.set_threshold(*_COLLECTED_AFTER)
    with contextlib.closing(listener):
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Uvicorn, with our way to start and to end."""

    def __init__(self, config: uvicorn.Config, replica: Replica, steering: Steering, listener: socket.socket) -> None:
        super().__init__(config)
        self._replica, self._steering, self._listener = replica, steering, listener
        self._draining: asyncio.Task[None] | None = None
        self._rpc: RpcPort | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and then tell where."""
        self._steering.swapper = Swapper(self._replica)
        await self._steering.swapper.start()
        await super().startup(sockets=sockets)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._begin_to_end)
        worker, grpc = self._replica.config.worker, await self._open_rpc()
        if worker is None:
            announce(self._replica.config.workdir, self._listener, grpc)
            return
        asyncio.get_running_loop().add_reader(worker.life, self._begin_to_end)
        self._share()
        os.write(worker.ready, b"1")
        os.close(worker.ready)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, and with the requests what loads."""
        if self._rpc is not None:
            await self._rpc.close(float(self.config.timeout_graceful_shutdown or 0))
        await super().shutdown(sockets=sockets)
        await self._steering.swapper.close()

    async def _open_rpc(self) -> str | None:
        """Open the port for gRPC where the deployment asks for one, and return its address.

        Raises:
            MissingExtra: the library it needs is not installed.
        """
        replica = self._replica
        if not replica.document.limits.grpc:
            return None
        try:
            from modelops.runtime.serving.rpc.port import RpcPort
        except ModuleNotFoundError as missing:
            raise MissingExtra(
                f"The port for gRPC needs '{missing.name}', which is not installed.", hint="pip install modelops[grpc]"
            ) from missing
        worker, host = replica.config.worker, replica.config.host
        given = None if worker is None else worker.grpc
        held = reserve_port(host, replica.config.grpc_port) if given is None else socket.socket(fileno=given)
        with contextlib.closing(held):
            self._rpc = RpcPort(replica, held)
            return await self._rpc.open()

    def _share(self) -> None:
        """Show the other workers what this one counted, now and then."""
        self._replica.share_counts()
        asyncio.get_running_loop().call_later(SHARE_S, self._share)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: Uvicorn would raise them again after draining, and the exit code would not be 0."""
        yield

    def _begin_to_end(self) -> None:
        worker = self._replica.config.worker
        if worker is not None:
            asyncio.get_running_loop().remove_reader(worker.life)
        if self._draining is None:
            _log.info("asked to end; draining")
            self._replica.draining = True
            self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        began, budget = time.perf_counter(), self._replica.config.drain_s * _REQUESTS_SHARE
        while time.perf_counter() - began < budget / 2:
            quiet = time.perf_counter() - max(began, self._replica.asked_at)
            if quiet >= _QUIET_S:
                break
            await asyncio.sleep(_QUIET_S - quiet)
        self.config.timeout_graceful_shutdown = max(1, math.ceil(began + budget - time.perf_counter()))
        self.should_exit = True

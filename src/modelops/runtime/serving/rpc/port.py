"""The port: opened beside that of HTTP, closed with it."""

import logging
import socket
from typing import Any

import grpc

from modelops.contracts.errors import DeploymentError
from modelops.runtime.serving.listening import address_of
from modelops.runtime.serving.replica import Replica
from modelops.runtime.serving.rpc.calls import handlers

_KEEP_ALIVE_MS = 75_000

_log = logging.getLogger(__name__)


class RpcPort:
    """A replica's port for gRPC, on the event loop that it is opened on.

    Args:
        held: A socket that holds the port. Each of a replica's processes listens on it by itself, and the system spreads
            connections over them.
    """

    def __init__(self, replica: Replica, held: socket.socket) -> None:
        limits = replica.document.limits
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", limits.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 1),
            ("grpc.max_concurrent_streams", limits.max_concurrency),
            ("grpc.keepalive_time_ms", _KEEP_ALIVE_MS),
        ]
        self._address = address_of(held)
        host = replica.config.host
        self._bound = f"[{host}]:{held.getsockname()[1]}" if ":" in host else f"{host}:{held.getsockname()[1]}"
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((handlers(replica),))

    async def open(self) -> str:
        """Listen, and return the address, `host:port`.

        Raises:
            DeploymentError: it cannot.
        """
        try:
            self._server.add_insecure_port(self._bound)
        except RuntimeError as wrong:
            raise DeploymentError(f"The port {self._bound} for gRPC cannot be opened: {wrong}.") from wrong
        await self._server.start()
        _log.info("listening for gRPC on %s", self._address)
        return self._address

    async def close(self, grace_s: float) -> None:
        """Take no more calls, and end once those under way are answered, or the grace is over."""
        await self._server.stop(grace_s)

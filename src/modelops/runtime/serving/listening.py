"""The socket that a replica listens on, and the file that tells where."""

import json
import logging
import socket
from pathlib import Path

from modelops.runtime.serving.files import write_atomically

BACKLOG = 2048

_log = logging.getLogger(__name__)


def listen(host: str, port: int = 0) -> socket.socket:
    """Return a socket on a port; 0 means a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def reserve_port(host: str, port: int = 0) -> socket.socket:
    """Return a socket that holds a port (0 means a free one), on which several processes then listen, each by itself."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((host, port))
    return held


def address_of(held: socket.socket) -> str:
    """Return where a socket is reached, `host:port`."""
    host, port = held.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - it is compared, not bound
        host = socket.gethostname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def announce(workdir: Path, listener: socket.socket, grpc: str | None = None) -> None:
    """Write `endpoint.json`; `grpc` is the address of the port for gRPC, where there is one."""
    url = f"http://{address_of(listener)}"
    told = {"url": url} if grpc is None else {"url": url, "grpc": grpc}
    write_atomically(workdir / "endpoint.json", json.dumps(told).encode())
    _log.info("listening on %s", url)

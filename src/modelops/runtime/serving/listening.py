"""The socket that a replica listens on, and the file that tells where."""

import json
import logging
import socket
from pathlib import Path

from modelops.runtime.serving.files import write_atomically

BACKLOG = 2048

_log = logging.getLogger(__name__)


def listen(host: str) -> socket.socket:
    """Return a socket on a free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, 0), family=family, backlog=BACKLOG)


def announce(workdir: Path, listener: socket.socket) -> None:
    """Write `endpoint.json`."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - it is compared, not bound
        host = socket.gethostname()
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    write_atomically(workdir / "endpoint.json", json.dumps({"url": url}).encode())
    _log.info("listening on %s", url)

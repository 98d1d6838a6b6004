"""A platform that listens, and whose reconcilers run: for what works over a client, and starts processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelops.sdk.client import Client
from modelops.server.listener import Listener
from modelops.testing.platform import running_platform


@contextmanager
def live_client(folder: Path) -> Iterator[Client]:
    """Yield the administrator's client."""
    with running_platform(folder / "home") as platform:
        listener = Listener(platform.platform, folder / "port")
        platform.platform.url.set(listener.start())
        platform.platform.start_controller()
        try:
            yield platform.client()
        finally:
            listener.stop()

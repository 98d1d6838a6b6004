"""A platform behind a real port, for the unmodified MLflow client: in a thread, or as a process of its own.

As a script it serves on a free port until it is ended, and prints its address and the administrator's key in JSON.
"""

import json
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from modelops.testing.platform import running_platform


@contextmanager
def listening(app):
    """Serve an application from a thread; yields its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    started = threading.Event()
    startup = server.startup

    async def tell(sockets=None):
        await startup(sockets)
        started.set()

    server.startup = tell
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert started.wait(30)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def main(home):
    with running_platform(Path(home)) as platform, listening(platform.app) as url:
        print(json.dumps({"url": url, "key": platform.admin_key}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])

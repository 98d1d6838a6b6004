"""A replica's life: read, verify, load, listen, drain."""

import contextlib
import logging
import os
import shutil
import signal
import sys
from types import FrameType

from modelops.contracts.errors import MLOpsError
from modelops.runtime.serving.config import read_config, read_document
from modelops.runtime.serving.replica import Replica
from modelops.runtime.serving.server import serve
from modelops.runtime.serving.swaps.progress import catch_up
from modelops.runtime.serving.swaps.quietly import is_at_work
from modelops.runtime.serving.workers import run_workers


def main() -> int:
    """Run one replica, and return the process's exit code: 0 after draining, 1 where the package cannot be served."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, _leave)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        code = _run()
    except MLOpsError as wrong:
        sys.stderr.write(f"modelops-runtime: {wrong}\n")
        return 1
    if is_at_work():  # a thread within a library's code does not survive the interpreter's end
        logging.shutdown()
        os._exit(code)
    return code


def _run() -> int:
    config = read_config()
    if config.worker is None:
        with contextlib.suppress(OSError, ValueError):  # then it starts with what it served before, and swaps
            catch_up(config.workdir)
    document = read_document(config)
    if config.worker is None:
        (config.workdir / "endpoint.json").unlink(missing_ok=True)
        if (document.limits.cpus or 1) > 1:
            return run_workers(config, document.limits.cpus or 1, grpc=document.limits.grpc)
    shutil.rmtree(config.packages, ignore_errors=True)
    replica = Replica(config, document)
    replica.start()
    try:
        serve(replica)
    finally:
        replica.close()
    return 0


def _leave(_number: int, _frame: FrameType | None) -> None:
    # Until the server listens there is nothing to drain; from then on it has a handler of its own.
    sys.exit(0)

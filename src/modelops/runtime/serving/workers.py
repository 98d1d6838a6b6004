"""A replica of several processes: one listens for all, each answers by itself, and who dies is started again.

The parent binds the socket and never reads from it. Connections that wait in it outlive any one worker.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, closing
from dataclasses import dataclass
from types import FrameType

from modelops.runtime.serving.config import ReplicaConfig
from modelops.runtime.serving.counting.sharing import forget_counts
from modelops.runtime.serving.listening import address_of, announce, listen, reserve_port
from modelops.runtime.serving.swaps.progress import forget_progress

_PATIENCE_S = 5.0
"""How long a worker may take to end beyond the time for its requests."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0

_log = logging.getLogger(__name__)


def run_workers(config: ReplicaConfig, count: int, *, grpc: bool = False) -> int:
    """Run a replica as so many processes until SIGTERM or SIGINT; then let all of them drain.

    Args:
        grpc: Whether they have a port for gRPC, too.

    Returns:
        The exit code: 0 after draining; a worker's own where it could not begin to serve.
    """
    forget_counts(config.workdir)
    forget_progress(config.workdir)
    with ExitStack() as stack:
        listener = stack.enter_context(closing(listen(config.host, config.port)))
        held = stack.enter_context(closing(reserve_port(config.host, config.grpc_port))) if grpc else None
        return _Workers(config, listener, held, count).run()


@dataclass
class _Pipes:
    """`ready` is written to by a worker that listens; `life` ends when the parent does, however that comes."""

    ready: int
    life: int


class _Workers:
    """The parent: a thread for each worker, which waits for it and starts it again."""

    def __init__(self, config: ReplicaConfig, listener: socket.socket, held: socket.socket | None, count: int) -> None:
        self._config, self._listener, self._held, self._count = config, listener, held, count
        self._lock = threading.Lock()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._ready: set[int] = set()
        self._ending = threading.Event()
        self._code = 0

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        life, held = os.pipe()
        try:
            threads = [threading.Thread(target=self._tend, args=(index, life)) for index in range(self._count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            os.close(life)
            os.close(held)
        return self._code

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        # A handler runs between two steps of the main thread, which takes no lock of ours: it only waits for threads.
        self._end(0)

    def _end(self, code: int) -> None:
        with self._lock:
            self._code = self._code or code
            if self._ending.is_set():
                return
            self._ending.set()
            for process in self._processes.values():
                process.terminate()
        killer = threading.Timer(self._config.drain_s + _PATIENCE_S, self._kill)
        killer.daemon = True
        killer.start()

    def _kill(self) -> None:
        """End workers that a model keeps from ending."""
        for process in list(self._processes.values()):
            process.kill()

    def _tend(self, index: int, life: int) -> None:
        pause = _FIRST_PAUSE_S
        while not self._ending.is_set():
            ready, told = os.pipe()
            try:
                process = self._start(index, _Pipes(told, life))
            finally:
                os.close(told)
            with os.fdopen(ready, "rb") as said:
                began = bool(said.read(1))
            if began:
                pause = _FIRST_PAUSE_S
                self._note(index)
            code = process.wait()
            if self._ending.is_set():
                self._code = self._code or max(code, 0)
                return
            if index not in self._ready:
                self._end(code or 1)
                return
            _log.error("worker %d ended with %d; starting it again", index, code)
            self._ending.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _start(self, index: int, pipes: _Pipes) -> subprocess.Popen[bytes]:
        given = [self._listener.fileno(), pipes.ready, pipes.life]
        if self._held is not None:
            given.append(self._held.fileno())
        environ = {
            **os.environ,
            "MODELOPS_WORKER": str(index),
            "MODELOPS_WORKERS": str(self._count),
            "MODELOPS_WORKER_FDS": ",".join(map(str, given)),
            "MODELOPS_REPLICA": self._config.replica,
        }
        with self._lock:
            process = subprocess.Popen([sys.executable, "-m", "modelops.runtime", "serve"], env=environ, pass_fds=given)
            self._processes[index] = process
            if self._ending.is_set():
                process.terminate()
        return process

    def _note(self, index: int) -> None:
        """Note that a worker listens; once all do, the replica does."""
        with self._lock:
            was_complete = len(self._ready) == self._count
            self._ready.add(index)
            is_complete = len(self._ready) == self._count
        if is_complete and not was_complete:
            grpc = None if self._held is None else address_of(self._held)
            announce(self._config.workdir, self._listener, grpc)

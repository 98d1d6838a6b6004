"""The output of several processes in one log, each line with the rank of the process that wrote it."""

import os
import selectors
import threading
import time
from pathlib import Path
from typing import Self

_READ_BYTES = 65_536
_LONGEST_LINE = 16_384
_LOOK_S = 0.1
_LAST_WORDS_S = 2.0


class PrefixedLines:
    """Named pipes for the output of `count` processes, in a folder; what arrives goes to this process's own output, line by
    line with `[rank]` before it. The pipes outlive whoever writes: what was written before a process was killed is told.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count
        self._over = threading.Event()
        self._begun: dict[int, bytes] = {}
        self._pump = threading.Thread(target=self._copy, name="output-of-ranks", daemon=True)
        self._open = selectors.DefaultSelector()

    def place(self, rank: int) -> Path:
        """Return where a process writes."""
        return self.folder / f"output-{rank}"

    def __enter__(self) -> Self:
        for rank in range(self.count):
            os.mkfifo(self.place(rank), 0o600)
            # Opened for both, it has no end before this process says so.
            self._open.register(os.open(self.place(rank), os.O_RDWR | os.O_NONBLOCK), selectors.EVENT_READ, rank)
        self._pump.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pump.join()
        for key in list(self._open.get_map().values()):
            os.close(key.fd)
        self._open.close()
        for rank in range(self.count):
            self.place(rank).unlink()

    def _copy(self) -> None:
        """Copy until everybody has ended and nothing is left; what a process left behind goes on writing is not waited for."""
        ends_at = 0.0
        while True:
            ready = self._open.select(_LOOK_S)
            for key, _ in ready:
                self._take(key.data, os.read(key.fd, _READ_BYTES))
            if self._over.is_set():
                ends_at = ends_at or time.monotonic() + _LAST_WORDS_S
                if not ready or time.monotonic() > ends_at:
                    break
        for rank, rest in self._begun.items():
            if rest:
                _write(b"[%d] %s\n" % (rank, rest))

    def _take(self, rank: int, data: bytes) -> None:
        *lines, rest = (self._begun.get(rank, b"") + data).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        self._begun[rank] = rest
        if lines:
            _write(b"".join(b"[%d] %s\n" % (rank, line) for line in lines))


def _write(data: bytes) -> None:
    """Write to this process's output, beside Python's own buffers."""
    while data:
        data = data[os.write(1, data) :]

"""The courier: two threads of the program that makes a run.

One sends its spool; the other brings it to the disk and tells the platform that the program lives, however long sending takes.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Callable

from modelops.contracts.errors import MLOpsError, Unavailable
from modelops.sdk.spool.records import End, write
from modelops.sdk.spool.segments import Writer
from modelops.sdk.spool.sender import Sender, passes, sentence

log = logging.getLogger(__name__)

_FLUSH_S = 1.0
_SYNC_S = 1.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 30.0
_LONGEST_ASKED_S = 300.0
_HURRY_S = 0.2


class Courier:
    """Sends what a live program logs, about once a second and again after failures, until the run's end is sent.

    Args:
        sender: Sends the spool; from here on only the courier uses it.
        writer: What the program appends to; brought to the disk about once a second.
        heartbeat_s: How often the platform hears that the program lives.
        on_done: Called when nothing more will be sent.
    """

    def __init__(self, sender: Sender, writer: Writer, heartbeat_s: float, on_done: Callable[[], None]) -> None:
        self.sender, self._writer = sender, writer
        self._heartbeat_s, self._on_done = heartbeat_s, on_done
        self._final: End | None = None
        self._is_closed = False
        self.failure: Exception | None = None
        """Why the last attempt failed, while it may pass."""
        self.over: Exception | None = None
        """Why nothing more can be sent from this program."""
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._news = threading.Condition()
        self._hurried = 0
        self._heard_at = time.monotonic()
        name = sender.header.spool_id
        self._threads = [
            threading.Thread(target=self._carry, name=f"tracker-{name}", daemon=True),
            threading.Thread(target=self._beat, name=f"heartbeat-{name}", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_done(self) -> bool:
        """Tell whether nothing more will be sent: the end was, or there is a reason why it cannot be."""
        return self._stopped.is_set()

    def wake(self) -> None:
        """Have what waits sent now."""
        self._wake.set()

    def wait(self, within_s: float) -> None:
        """Wait until what was logged before this call was sent.

        Raises:
            Unavailable: it was not in time; it is sent later.
            MLOpsError: nothing more can be sent from this program.
        """
        goal = self._writer.position
        self._wait(lambda: self.sender.progress.position >= goal, within_s)

    def end(self, end: End) -> None:
        """Have the run end when all was sent. On a full disk that is kept in memory alone."""
        if not self._writer.append(write(end), anyway=True):
            self._final = end
        self._is_closed = True
        self._wake.set()
        if self.over is not None:
            self._release()

    def wait_for_end(self, within_s: float, away_s: float) -> None:
        """Wait until the end of the run was sent, or no longer than `away_s` for a platform that is away. Raises as `wait`."""
        self._wait(lambda: self.sender.progress.ended and self.is_done, within_s, away_s)

    def _wait(self, is_reached: Callable[[], bool], within_s: float, away_s: float = math.inf) -> None:
        began = time.monotonic()
        with self._news:
            self._hurried += 1
            try:
                self._wake.set()
                while not is_reached():
                    if self.over is not None and self.is_done:
                        raise self.over
                    left = min(within_s, math.inf if self.failure is None else away_s) - (time.monotonic() - began)
                    if left <= 0:
                        raise self._late()
                    self._news.wait(min(_HURRY_S, left))
            finally:
                self._hurried -= 1

    def _carry(self) -> None:
        failures = 0
        while not self.sender.progress.ended:
            pause = _FLUSH_S
            try:
                self._send_all()
                failures, self.failure = 0, None
            except Exception as failure:  # a thread that sends must outlive whatever a transport raises
                if not passes(failure):
                    self.over = failure
                    break
                failures, self.failure = failures + (not self._hurried), failure
                pause = self._pause_after(failures, failure)
            self._tell()
            self._rest(pause)
        self._leave()

    def _send_all(self) -> None:
        while not self.sender.progress.ended and self.sender.step():
            self._heard_at = time.monotonic()
            self._tell()
        if self._final is not None and not self.sender.progress.ended:
            self.sender.end(self._final)

    def _pause_after(self, failures: int, failure: Exception) -> float:
        if isinstance(failure, MLOpsError) and failure.retry_after_s:
            time.sleep(min(failure.retry_after_s, _LONGEST_ASKED_S))  # whoever waits does not wait less than was asked
        longest = min(_FIRST_PAUSE_S * 2.0 ** min(failures, 10), _LONGEST_PAUSE_S)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret

    def _rest(self, pause: float) -> None:
        """Wait until there is something to do; after a failure that is only its time, or somebody who waits."""
        deadline = time.monotonic() + pause
        while (left := deadline - time.monotonic()) > 0 and not self.sender.progress.ended:
            if self.failure is None:
                self._wake.wait(left)
                self._wake.clear()
                return
            time.sleep(min(left, _HURRY_S))
            if self._hurried:
                return

    def _leave(self) -> None:
        """Give the spool up: nothing is left of one that was sent whole; the rest is for `mops runs sync`."""
        progress = self.sender.progress
        if progress.ended:
            self._release()
            if progress.gaps:
                log.warning("Of the run %s, %s. See: mops runs pending", progress.run_id, progress.gaps)
        elif self.over is not None:
            log.warning("What is logged stays in %s: %s", self.sender.spool.path, sentence(self.over))
            if self._is_closed:
                self._release()
        self._stopped.set()
        self._on_done()
        self._tell()

    def _release(self) -> None:
        self._writer.close()
        if self.sender.progress.ended and not self.sender.progress.refused:
            self.sender.spool.remove()
        else:
            self.sender.spool.unlock()

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()

    def _beat(self) -> None:
        while not self._stopped.wait(min(_SYNC_S, self._heartbeat_s / 2)):
            self._writer.sync()
            run = self.sender.progress.run_id
            if run is None or time.monotonic() - self._heard_at < self._heartbeat_s:
                continue
            try:
                self.sender.runs.heartbeat(run)
            except Exception as failure:  # the next one may be heard
                log.debug("the heartbeat of run %s was not heard: %s", run, failure)
            else:
                self._heard_at = time.monotonic()

    def _late(self) -> MLOpsError:
        count = self._writer.kept - self.sender.handled
        reason = self.failure or "the platform is still taking what was logged before"
        error = Unavailable(
            f"{count:,} logged entries could not be delivered yet: {reason}",
            hint=f"They lie in {self.sender.spool.path}, and are sent when the platform is back, or by: mops runs sync",
        )
        error.__cause__ = self.failure
        return error

"""What a worker has in hand: the steps it claimed, between the thread that has them run and those that speak of them."""

import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelops.domains.pipelines.schemas import StepTask
from modelops.runtime.steps.pace import Pace


@dataclass
class Held:
    """A step that this worker claimed. `references` is where its inputs lie, `said` how it ended: what the runner told."""

    task: StepTask
    folder: Path
    references: dict[str, Any] = field(default_factory=dict)
    said: dict[str, Any] | None = None

    @property
    def attempt(self) -> tuple[str, int]:
        """Return what the platform knows it by."""
        return self.task.id, self.task.attempt

    @property
    def is_heavy(self) -> bool:
        """Tell whether what it returned takes its time to be sent."""
        return any("path" in one for one in self._outputs)

    @property
    def characters(self) -> int:
        """Return how long what it returned is, of what comes along with its report."""
        return sum(len(one.get("content", "")) for one in self._outputs)

    @property
    def _outputs(self) -> list[dict[str, Any]]:
        return list((self.said or {}).get("outputs", {}).values())


MOST_REPORTS = 64
"""In one message."""

_LINGER_S = 0.1
"""For so long the end of a quick step may wait for those of others, to be told with them."""

_MOST_CHARACTERS = 1024**2
"""Of what comes along with one report."""


class Desk:
    """The steps in hand, and what is to be done with each. Thread-safe.

    Args:
        folder: Each attempt gets a folder of its own in it.
    """

    def __init__(self, folder: Path) -> None:
        self.pace = Pace()
        self.alarm, self._bell = socket.socketpair()
        self.failure: BaseException | None = None
        self._folder = folder
        self._changed = threading.Condition()
        self._held: dict[str, Held] = {}  # all that was claimed and not yet reported
        self._waiting: deque[Held] = deque()  # of these, what may begin
        self._ended: deque[Held] = deque()  # of these, what has ended
        self._running: Held | None = None
        self._returned: list[tuple[str, int]] = []
        self._stopped: set[tuple[str, int]] = set()
        self._over = False
        self._asking = False  # a report is on its way that asks for more
        self._number = 0
        for end in (self.alarm, self._bell):
            end.setblocking(False)

    @property
    def bell(self) -> int:
        """Return the file that wakes the main thread."""
        return self._bell.fileno()

    @property
    def is_done(self) -> bool:
        """Tell whether the run wants no worker any more, and all is reported."""
        with self._changed:
            return self._over and not self._held

    @property
    def claimed(self) -> int:
        """Return how many steps were claimed in all."""
        return self._number

    # What is claimed.

    def wait_for_hunger(self) -> tuple[int, bool]:
        """Wait until more is to be claimed that no report asks for; return how many, and whether nothing else is in hand."""
        with self._changed:
            while not self._is_hungry or self._asking or any(not held.is_heavy for held in self._ended):
                self._changed.wait()
            return self.pace.most, not self._held

    @property
    def _is_hungry(self) -> bool:
        return not self._waiting and (self._running is None or self.pace.is_quick)

    def take(self, task: StepTask) -> Held:
        """Hold a step that was claimed."""
        with self._changed:
            self._number += 1
            held = self._held[task.id] = Held(task, self._folder / f"step-{self._number}")
            return held

    def offer(self, held: Held) -> None:
        """Let a step begin whose inputs are here."""
        with self._changed:
            self._waiting.append(held)
        self.ring()

    def end(self) -> None:
        """Note that the run wants no worker any more."""
        with self._changed:
            self._over = True
        self.ring()

    # What runs.

    def begin(self) -> Held | None:
        """Return the next step to be run, or None."""
        with self._changed:
            for held in [one for one in self._waiting if one.attempt in self._stopped]:
                self._waiting.remove(held)
                del self._held[held.task.id]
            if self._running is not None or not self._waiting:
                return None
            self._running = self._waiting.popleft()
            if not self._waiting:
                self._changed.notify_all()
            return self._running

    def is_stopped(self, held: Held) -> bool:
        """Tell whether a step that runs is to be ended."""
        return held.attempt in self._stopped

    def finish(self, held: Held, said: dict[str, Any]) -> None:
        """Note how a step ended."""
        held.said = said
        with self._changed:
            if self._running is held:
                self._running = None
            self._ended.append(held)
            if len(self._ended) == 1 or self._is_due:
                self._changed.notify_all()

    def give_back(self) -> None:
        """Let others have what was claimed here and has not begun."""
        with self._changed:
            if not self._waiting:
                return
            while self._waiting:
                held = self._waiting.popleft()
                del self._held[held.task.id]
                self._returned.append(held.attempt)
            self.pace.reset()

    # What is told.

    def wait_for_ended(self) -> tuple[list[Held], int]:
        """Wait for steps that have ended, quick ones for others to be told with them; what takes its time to be sent comes
        alone. Returns them, and how many more are to be asked for with the report: `asked` is called when these are here."""
        with self._changed:
            until = None
            while not self._ended or not (self._is_due or (until is not None and time.monotonic() >= until)):
                until = (until or time.monotonic() + _LINGER_S) if self._ended else None
                self._changed.wait(None if until is None else max(0.0, until - time.monotonic()))
            batch = [self._ended.popleft()]
            characters = batch[0].characters
            while self._ended and len(batch) < MOST_REPORTS and not (batch[0].is_heavy or self._ended[0].is_heavy):
                characters += self._ended[0].characters
                if characters > _MOST_CHARACTERS:
                    break
                batch.append(self._ended.popleft())
            if batch[0].is_heavy or not self._is_hungry or self._asking or self._over:
                return batch, 0
            self._asking = True
            return batch, self.pace.most

    @property
    def _is_due(self) -> bool:
        """Tell whether what has ended is to be told now: nothing is left to begin, or it is much, or takes its time."""
        return not (self.pace.is_quick and self._waiting) or len(self._ended) >= MOST_REPORTS or self._ended[0].is_heavy

    def asked(self) -> None:
        """Note that what was asked for with a report is here, or that there was none."""
        with self._changed:
            self._asking = False
            self._changed.notify_all()

    def settle(self, batch: list[Held]) -> list[StepTask]:
        """Let go of steps that were reported, and return the tasks in hand still."""
        with self._changed:
            for held in batch:
                if self._held.get(held.task.id) is held:
                    del self._held[held.task.id]
            self._changed.notify_all()
            left = [one.task for one in self._held.values()]
        self.ring()
        return left

    def roll(self) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """Return the attempts in hand, and those that were given back since this was asked last."""
        with self._changed:
            returned, self._returned = self._returned, []
            return [held.attempt for held in self._held.values()], returned

    def roll_call(self) -> list[tuple[str, int]]:
        """Return the attempts in hand."""
        with self._changed:
            return [held.attempt for held in self._held.values()]

    def stop(self, attempts: list[tuple[str, int]]) -> None:
        """Note the attempts that are wanted no more. A later attempt at the same step may be in hand by now, and stays."""
        with self._changed:
            self._stopped &= {held.attempt for held in self._held.values()}
            self._stopped |= set(attempts)
        self.ring()

    def fail(self, failure: BaseException) -> None:
        """Note what keeps this worker from speaking with the platform."""
        self.failure = failure
        self.ring()

    def ring(self) -> None:
        """Wake the main thread, if it is there still."""
        with suppress(OSError):
            self._bell.send(b"\0")

    def hush(self) -> None:
        """Take in that the main thread was woken."""
        with suppress(BlockingIOError):
            while self.alarm.recv(4096):
                pass

    def close(self) -> None:
        """Let go of what wakes the main thread."""
        self.alarm.close()
        self._bell.close()

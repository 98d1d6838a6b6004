"""The keeper: what a worker is to the platform. It gives its runner one step at a time and answers for all it claimed.

Its main thread watches the runner. Three others speak with the platform, which may take its time or be away: one claims and
fetches what the claimed steps take, one sends what they return and reports, one says that all of them are alive.
"""

import selectors
import signal
import socket
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from modelops.contracts.errors import MLOpsError, NotFound, Unauthenticated
from modelops.domains.pipelines.schemas import (
    StepBeat,
    StepClaim,
    StepReport,
    StepReports,
    StepTask,
    ValueRef,
    WorkerTask,
)
from modelops.runtime.steps.child import Child
from modelops.runtime.steps.output import Outputs
from modelops.runtime.steps.pace import Pace
from modelops.runtime.steps.store import Store, remove_folder
from modelops.runtime.steps.wire import Wire

GRACE_S = 5.0
"""From SIGTERM to SIGKILL."""

_TICK_S = 0.2
_DYING_S = 0.5
_CLAIM_S = 10.0
_MOST_REPORTS = 64
_MOST_READS = 64
_MIB = 1024 * 1024
_REASON = 4_000


@dataclass
class Held:
    """A step that this worker claimed. `references` is where its inputs lie, `said` what the runner told at its end."""

    task: StepTask
    folder: Path
    references: dict[str, Any] = field(default_factory=dict)
    said: dict[str, Any] | None = None
    began: float = 0.0
    cause: str | None = None
    kill_at: float | None = None
    deaf_at: float | None = None
    peak: int = 0

    @property
    def attempt(self) -> tuple[str, int]:
        """Return what the platform knows it by."""
        return self.task.id, self.task.attempt


class Keeper:
    """Carries the steps of a run out until the run wants no worker any more.

    Args:
        worker: What this worker is for.
        wire: To the platform.
        store: For values.
        folder: For what the steps leave.
        path: Where the code lies.
    """

    def __init__(self, worker: WorkerTask, wire: Wire, store: Store, folder: Path, path: list[Path]) -> None:
        self._worker = worker
        self._wire = wire
        self._store = store
        self._folder = folder
        self._path = path
        self._python = worker.python or sys.executable
        self._lock = threading.Condition()
        self._held: dict[str, Held] = {}  # all that was claimed and not yet reported
        self._waiting: deque[Held] = deque()  # of these, what may begin
        self._ended: deque[tuple[Held, StepReport | None]] = (
            deque()
        )  # of these, what has ended; with the report if it is made
        self._current: Held | None = None
        self._returned: list[tuple[str, int]] = []
        self._stop: set[str] = set()
        self._over = self._told_to_end = False
        self._failure: BaseException | None = None
        self._outputs = Outputs()
        self._pace = Pace()
        self._child: Child | None = None
        self._wake, self._waker = socket.socketpair()
        self._lease_s = 10.0
        self._number = 0
        self._said_before = (0.0, 0)

    def run(self) -> int:
        """Work until the run is over, and return the exit code."""
        for end in (self._wake, self._waker):
            end.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._end)
        self._renew()
        threads = [
            threading.Thread(target=self._guarded, args=(part,), daemon=True)
            for part in (self._claim, self._report, self._beat)
        ]
        for thread in threads:
            thread.start()
        try:
            self._watch()
            if self._told_to_end:
                self._leave()
        finally:
            if self._child is not None:
                self._child.close()
        if self._told_to_end:
            return 128 + signal.SIGTERM
        if self._failure is not None and not isinstance(self._failure, NotFound | Unauthenticated):
            sys.stderr.write(f"The worker ends: {self._failure}\n")
            return 1
        return 0

    # The main thread: the runner.

    def _watch(self) -> None:
        """Give the runner its steps, and see what comes of each, until there is nothing to do any more."""
        while not (self._told_to_end or self._failure):
            with self._lock:
                if self._over and not self._held:
                    return
                self._drop_stopped()
                if self._current is None and self._waiting:
                    self._begin(self._waiting.popleft())
            self._wait()
            self._hear()
            self._check()

    def _begin(self, held: Held) -> None:
        child = self._child
        if child is None or child.poll() is not None:
            child = self._renew()
        self._current, held.began = held, time.monotonic()
        self._lock.notify_all()
        task = held.task
        child.give(
            {
                "id": task.id,
                "run_id": self._worker.run_id,
                "key": task.key,
                "attempt": task.attempt,
                "function": task.function,
                "inputs": task.inputs,
                "references": held.references,
                "outputs": task.outputs,
                "idempotency_key": task.idempotency_key,
                "folder": str(held.folder),
            }
        )

    def _renew(self) -> Child:
        """Start a runner in the place of the one before."""
        if self._child is not None:
            self._child.close()
        self._child, self._said_before = Child(self._python, self._path, self._folder), (0.0, 0)
        return self._child

    def _wait(self) -> None:
        child = self._child
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            if child is not None and child.poll() is None:
                if child.listens:
                    selector.register(child.control, selectors.EVENT_READ)
                if child.writes:
                    selector.register(child.output, selectors.EVENT_READ)
            selector.select(_TICK_S)
        with suppress(BlockingIOError):
            while self._wake.recv(4096):
                pass

    def _hear(self) -> None:
        """Take what the runner wrote and said, in this order: what a step wrote lies in the pipe before its end is told."""
        child, held = self._child, self._current
        if child is None:
            return
        ending = child.poll()
        said = child.hear()
        for _ in range(_MOST_READS if said or ending else 1):  # what the step left running may go on writing
            raw = child.read()
            if not raw:
                break
            if held is not None:
                self._outputs.write(held.attempt, raw)
            else:
                sys.stderr.buffer.write(raw)
                sys.stderr.flush()
        if held is None:
            if ending is not None:
                self._child = None
            return
        for one in said:
            if one["ended"] == held.task.id and one["attempt"] == held.task.attempt:
                self._said(child, held, one)
                return
        if ending is not None:
            used = {
                "cpu_seconds": max(0.0, ending.cpu_seconds - self._said_before[0]),
                "peak_memory_bytes": max(held.peak, ending.peak_memory_bytes),
            }
            broken = not child.ready
            sentence = (
                ending.sentence if not broken else f"The interpreter '{self._python}' of the steps does not start."
            )
            self._child = None
            child.close()
            self._finish(held, {"failure": held.cause or sentence, "hopeless": broken, **used})

    def _said(self, child: Child, held: Held, said: dict[str, Any]) -> None:
        cpu, _ = self._said_before
        self._said_before = (cpu + said["cpu_seconds"], 0)
        if held.cause is not None:
            said = {**said, "failure": held.cause}
            # The signal may still be on its way, to the step or to what it started: nothing else runs in that process.
            child.close()
            self._child = None
        self._finish(held, said)

    def _finish(self, held: Held, said: dict[str, Any]) -> None:
        self._outputs.write(held.attempt, b"", last=True)
        self._pace.note(time.monotonic() - held.began)
        held.said = said
        with self._lock:
            self._current = None
            self._ended.append((held, None))
            self._lock.notify_all()

    def _check(self) -> None:
        """Hold the step that runs to its limits."""
        held, child = self._current, self._child
        if held is None or child is None:
            return
        now, task = time.monotonic(), held.task
        if not child.listens and held.cause is None:
            held.deaf_at = held.deaf_at or now
            if now - held.deaf_at > _DYING_S:  # it does not end, either
                self._halt(held, child, "The step closed the files of the process that runs it.")
        if held.cause is None and task.id in self._stop:
            self._halt(held, child, "The step was told to end.")
        if held.cause is None and task.timeout_s is not None and now - held.began > task.timeout_s:
            self._halt(held, child, f"The step took longer than its limit of {task.timeout_s:g} s.")
        if task.resources.memory_mb is not None:
            used = child.used_bytes()
            held.peak = max(held.peak, used)
            if used > task.resources.memory_mb * _MIB:
                limit = task.resources.memory_mb
                held.cause = f"The step used {used / _MIB:.0f} MiB of memory, more than its limit of {limit} MiB."
                child.kill()
        if held.kill_at is not None and now > held.kill_at:
            held.cause, held.kill_at = f"{held.cause} It was killed, {GRACE_S:g} s after it was asked to end.", None
            child.kill()
        if self._waiting and self._pace.is_long(now - held.began):
            with self._lock:  # others need not wait for this one
                self._give_back()

    def _halt(self, held: Held, child: Child, cause: str) -> None:
        held.cause, held.kill_at = cause, time.monotonic() + GRACE_S
        child.terminate()

    def _give_back(self) -> None:
        while self._waiting:
            held = self._waiting.popleft()
            del self._held[held.task.id]
            self._returned.append(held.attempt)
        self._pace.reset()

    def _drop_stopped(self) -> None:
        for held in [one for one in self._waiting if one.task.id in self._stop]:
            self._waiting.remove(held)
            del self._held[held.task.id]

    def _leave(self) -> None:
        """Let the step that runs end in its own way, and say that others may have what was claimed here."""
        child, until = self._child, time.monotonic() + GRACE_S
        if child is not None:
            child.terminate()
            while child.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
            child.close()
            self._child = None
        with self._lock:
            returned = [one.attempt for one in self._held.values()]
        if returned:
            self._wire.be_brief()
            with suppress(MLOpsError):
                self._wire.beat(
                    self._worker.run_id, StepBeat(worker=self._worker.worker, attempts=[], returned=returned)
                )

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._told_to_end = True

    # The threads that speak.

    def _guarded(self, part: Any) -> None:
        try:
            part()
        except (MLOpsError, OSError) as failure:
            self._failure = failure
            self._rouse()

    def _claim(self) -> None:
        """Claim when there is nothing to begin with, or soon nothing, and bring the inputs here."""
        while True:
            with self._lock:
                while self._waiting or (self._current is not None and not self._pace.is_quick):
                    self._lock.wait()
                most = self._pace.most
                idle = self._current is None and not self._held
            claim = StepClaim(worker=self._worker.worker, most=most, wait_s=_CLAIM_S if idle else 0.5)
            work = self._wire.claim(self._worker.run_id, claim)
            for task in work.tasks:
                self._take(task)
            if work.over and not work.tasks:
                with self._lock:
                    self._over = True
                self._rouse()
                return

    def _take(self, task: StepTask) -> None:
        self._number += 1
        held = Held(task, self._folder / f"step-{self._number}")
        with self._lock:
            self._held[task.id] = held
            self._stop.discard(task.id)
            self._lease_s = task.lease_s
            self._lock.notify_all()
        try:
            held.references = self._store.fetch(task)
        except (MLOpsError, OSError) as wrong:
            report = StepReport(
                step=task.id, attempt=task.attempt, failure=_told(f"An input is not to be had: {wrong}")
            )
            with self._lock:
                self._ended.append((held, report))
                self._lock.notify_all()
            return
        with self._lock:
            self._waiting.append(held)
        self._rouse()

    def _report(self) -> None:
        """Send what ended steps returned, and tell of them; of many at once, where they end quickly."""
        while True:
            with self._lock:
                while not self._ended:
                    self._lock.wait()
                batch = [self._ended.popleft() for _ in range(min(len(self._ended), _MOST_REPORTS))]
            ready: list[StepReport] = []
            for held, report in batch:
                ready.append(report or self._reported(held))
                if held.folder.exists():
                    remove_folder(held.folder)
            attempts = {(one.step, one.attempt) for one in ready}
            wrote = self._outputs.pending(attempts)
            self._wire.report(self._worker.run_id, StepReports(worker=self._worker.worker, reports=ready, wrote=wrote))
            with self._lock:
                for held, _ in batch:
                    self._outputs.forget(held.attempt)
                    if self._held.get(held.task.id) is held:
                        del self._held[held.task.id]
                held_now = [one.task for one in self._held.values()]
                self._lock.notify_all()
            self._store.trim(held_now)
            self._rouse()

    def _reported(self, held: Held) -> StepReport:
        said = held.said or {}
        outputs: dict[str, ValueRef] = {}
        failure, hopeless = said.get("failure"), bool(said.get("hopeless"))
        if failure is None:
            try:
                outputs = {name: self._store.send(one, held.folder) for name, one in said["outputs"].items()}
            except (NotFound, Unauthenticated):
                raise  # the run is over
            except (MLOpsError, OSError) as wrong:
                outputs, failure = {}, f"An output could not be stored: {wrong}"
        return StepReport(
            step=held.task.id,
            attempt=held.task.attempt,
            outputs=outputs,
            failure=None if failure is None else _told(failure),
            hopeless=hopeless,
            cpu_seconds=said.get("cpu_seconds"),
            peak_memory_bytes=said.get("peak_memory_bytes"),
        )

    def _beat(self) -> None:
        """Say a few times a lease that all that was claimed is alive, with what was written since."""
        while True:
            time.sleep(min(1.0, self._lease_s / 4))
            with self._lock:
                attempts, returned = [one.attempt for one in self._held.values()], self._returned
                self._returned = []
            if not attempts and not returned:
                continue
            wrote = self._outputs.pending()
            beat = StepBeat(worker=self._worker.worker, attempts=attempts, wrote=wrote, returned=returned)
            orders = self._wire.beat(self._worker.run_id, beat)
            self._outputs.sent(wrote)
            if orders.stop:
                with self._lock:
                    self._stop |= set(orders.stop) & self._held.keys()
                self._rouse()

    def _rouse(self) -> None:
        with suppress(BlockingIOError):
            self._waker.send(b"\0")


def _told(text: str) -> str:
    return text.replace("\0", "")[:_REASON]

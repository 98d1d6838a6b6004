"""The keeper: what a worker is to its runner. It gives it one step at a time, holds it to the step's limits, and replaces it
when a step has taken it along."""

import selectors
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from modelops.contracts.errors import NotFound, Unauthenticated
from modelops.domains.pipelines.schemas import WorkerTask
from modelops.runtime.steps.child import Child, Ending
from modelops.runtime.steps.desk import Desk, Held
from modelops.runtime.steps.output import Outputs
from modelops.runtime.steps.speaking import Speaker
from modelops.runtime.steps.store import Store
from modelops.runtime.steps.wire import Wire

GRACE_S = 5.0
"""From SIGTERM to SIGKILL."""

_TICK_S = 0.2
_DYING_S = 0.5
_LONG_S = 1.0
_IMPORT_S = 120.0
"""So much longer may the first step of a module take, which is imported for it."""

_MOST_READS = 64
_MOST_FALSE_STARTS = 3
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Steps:
    """In what the steps run: an interpreter, and folders that come before its own modules. `flaw` says why none can."""

    python: str
    path: list[Path]
    flaw: str | None = None


@dataclass
class _Run:
    """A step under way. Until its function is called, it may take `slack_s` more. `cause`: why it is ended before its time."""

    held: Held
    began: float
    slack_s: float = 0.0
    cause: str | None = None
    kill_at: float | None = None
    deaf_at: float | None = None
    peak: int = 0


class Keeper:
    """Carries the steps of a run out until the run wants no worker any more.

    Args:
        worker: What this worker is for.
        wire: To the platform.
        store: For values.
        folder: For what the steps leave.
        steps: In what the steps run.
        runner: The first runner, where it was started before.
    """

    def __init__(
        self, worker: WorkerTask, wire: Wire, store: Store, folder: Path, steps: Steps, runner: Child | None = None
    ) -> None:
        self._run_id = worker.run_id
        self._folder = folder
        self._steps = steps
        self._desk = Desk(folder)
        self._outputs = Outputs()
        self._speaker = Speaker(worker.worker, worker.run_id, wire, store, self._desk, self._outputs, steps.flaw)
        self._child = runner
        self._cpu_before = 0.0
        self._false_starts = 0
        self._current: _Run | None = None
        self._told_to_end = False

    def run(self) -> int:
        """Work until the run is over, and return the exit code."""
        signal.set_wakeup_fd(self._desk.bell, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._end)
        if self._child is None:
            self._renew()
        self._speaker.start()
        try:
            while not (self._told_to_end or self._desk.failure or self._desk.is_done):
                self._begin()
                self._wait()
                self._hear()
                self._check()
            if self._told_to_end:
                self._leave()
                return 128 + signal.SIGTERM
        finally:
            self._drop()
            signal.set_wakeup_fd(-1)
            self._desk.close()
        failure = self._desk.failure
        if failure is None or isinstance(failure, NotFound | Unauthenticated):
            return 0  # the run is over, and the worker's token with it
        sys.stderr.write(f"The worker ends: {failure}\n")
        return 1

    def _begin(self) -> None:
        if self._current is not None or (held := self._desk.begin()) is None:
            return
        child = self._child
        if child is None or child.poll() is not None:
            child = self._renew()
        self._current = _Run(held, time.monotonic(), _IMPORT_S)
        self._give(child, held)

    def _give(self, child: Child, held: Held) -> None:
        task = held.task
        child.give(
            {
                "id": task.id,
                "run_id": self._run_id,
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
        self._drop()
        self._child, self._cpu_before = Child(self._steps.python, self._steps.path, self._folder), 0.0
        return self._child

    def _drop(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def _wait(self) -> None:
        child = self._child
        with selectors.DefaultSelector() as selector:
            selector.register(self._desk.alarm, selectors.EVENT_READ)
            if child is not None and child.poll() is None:
                if child.listens:
                    selector.register(child.control, selectors.EVENT_READ)
                if child.writes:
                    selector.register(child.output, selectors.EVENT_READ)
            selector.select(_TICK_S)
        self._desk.hush()

    def _hear(self) -> None:
        """Take what the runner wrote and said, in this order: what a step wrote lies in the pipe before its end is told."""
        child, run = self._child, self._current
        if child is None:
            return
        ending = child.poll()
        said = child.hear()
        if child.ready:
            self._false_starts = 0
        for _ in range(_MOST_READS if said or ending else 1):  # what the step left running may go on writing
            raw = child.read()
            if not raw:
                break
            if run is not None:
                self._outputs.write(run.held.attempt, raw)
            else:
                sys.stderr.buffer.write(raw)
                sys.stderr.flush()
        if run is None:
            if ending is not None:
                self._drop()
            return
        for one in said:
            if one.get("began") == run.held.task.id:
                run.began, run.slack_s = time.monotonic(), 0.0
            elif (one.get("ended"), one.get("attempt")) == run.held.attempt:
                self._cpu_before += one["cpu_seconds"]
                if run.cause is not None:
                    one = {**one, "failure": run.cause, "hopeless": False}
                    # The signal may be on its way still, to the step or to what it started: nothing else runs there.
                    self._drop()
                self._finish(run, one)
                return
        if ending is not None:
            self._lost(child, run, ending)

    def _lost(self, child: Child, run: _Run, ending: Ending) -> None:
        """Take in that a step took its runner along. One that died before it came up is tried again, a few times."""
        sentence = ending.sentence
        if not child.ready:
            self._false_starts += 1
            if self._false_starts < _MOST_FALSE_STARTS and run.cause is None:
                self._give(self._renew(), run.held)  # it did not begin
                return
            sentence = f"The interpreter '{self._steps.python}' does not start: what it says is in the worker's output."
        self._drop()
        self._finish(
            run,
            {
                "failure": run.cause or sentence,
                "hopeless": not child.ready,
                "lost": child.ready and ending.killed and run.cause is None,
                "cpu_seconds": max(0.0, ending.cpu_seconds - self._cpu_before),
                "peak_memory_bytes": max(run.peak, ending.peak_memory_bytes),
            },
        )

    def _finish(self, run: _Run, said: dict[str, Any]) -> None:
        self._current = None
        self._outputs.write(run.held.attempt, b"", last=True)
        self._desk.pace.note(time.monotonic() - run.began)
        self._desk.finish(run.held, said)

    def _check(self) -> None:
        """Hold the step that runs to its limits."""
        run, child = self._current, self._child
        if run is None or child is None:
            return
        now, task = time.monotonic(), run.held.task
        if run.cause is None:
            if self._desk.is_stopped(run.held):
                self._halt(run, child, "The step was told to end.")
            elif task.timeout_s is not None and now - run.began > task.timeout_s + run.slack_s:
                self._halt(run, child, f"The step took longer than its limit of {task.timeout_s:g} s.")
            elif not child.listens:
                run.deaf_at = run.deaf_at or now
                if now - run.deaf_at > _DYING_S:  # it does not end, either
                    self._halt(run, child, "The step closed the files of the process that runs it.")
        if task.resources.memory_mb is not None:
            used, limit = child.used_bytes(), task.resources.memory_mb
            run.peak = max(run.peak, used)
            if used > limit * _MIB:
                run.cause = f"The step used {used / _MIB:.0f} MiB of memory, more than its limit of {limit} MiB."
                child.kill()
        if run.kill_at is not None and now > run.kill_at:
            run.cause, run.kill_at = f"{run.cause} It was killed, {GRACE_S:g} s after it was asked to end.", None
            child.kill()
        if now - run.began > _LONG_S:
            self._desk.give_back()  # nothing need wait for this one

    def _halt(self, run: _Run, child: Child, cause: str) -> None:
        run.cause, run.kill_at = cause, time.monotonic() + GRACE_S
        child.terminate()

    def _leave(self) -> None:
        """Let the step that runs end in its own way, and say that others may have what was claimed here."""
        child, until = self._child, time.monotonic() + GRACE_S
        if child is not None:
            child.terminate()
            while child.poll() is None and not child.hear() and time.monotonic() < until:
                time.sleep(0.02)
        self._drop()
        self._speaker.leave()

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._told_to_end = True

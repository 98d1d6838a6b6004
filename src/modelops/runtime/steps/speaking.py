"""What a worker and the platform say to each other, each kind in a thread of its own: the platform may take its time, or be
away."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from modelops.contracts.errors import MLOpsError, NotFound, Unauthenticated
from modelops.domains.pipelines.schemas import (
    StepBeat,
    StepClaim,
    StepReport,
    StepReports,
    StepTask,
    StepWork,
    ValueRef,
)
from modelops.runtime.steps.desk import Desk, Held
from modelops.runtime.steps.output import Outputs
from modelops.runtime.steps.store import Store, is_small, remove_folder
from modelops.runtime.steps.wire import Wire

_CLAIM_S = 10.0
_CLAIM_AHEAD_S = 0.5
_BEAT_S = 1.0
_IDLE_S = 60.0
"""A worker without work for so long ends: the run may wait for a person or a job, and others for its place."""

_FIRST_LEASE_S = 10.0
_REASON = 4_000


class Speaker:
    """Claims, fetches, sends, reports, and says that what is in hand is alive.

    Args:
        name: The worker's.
        run: The run's id.
        wire: To the platform.
        store: For values.
        desk: What is in hand.
        outputs: What the steps write.
        flaw: Why no step can run here.
    """

    def __init__(
        self, name: str, run: str, wire: Wire, store: Store, desk: Desk, outputs: Outputs, flaw: str | None
    ) -> None:
        self._name = name
        self._run = run
        self._wire = wire
        self._store = store
        self._desk = desk
        self._outputs = outputs
        self._flaw = flaw
        self._lease_s = _FIRST_LEASE_S

    def start(self) -> None:
        """Begin to speak. Two threads report, so that what is large keeps nothing small waiting."""
        for part in (self._claim, self._report, self._report, self._beat):
            threading.Thread(target=self._guarded, args=(part,), daemon=True).start()

    def leave(self) -> None:
        """Say that others may have what is in hand."""
        attempts, returned = self._desk.roll()
        self._wire.be_brief()
        with suppress(MLOpsError):
            self._wire.beat(self._run, StepBeat(worker=self._name, attempts=[], returned=attempts + returned))

    def _guarded(self, part: Callable[[], None]) -> None:
        try:
            part()
        except Exception as failure:  # without this thread the worker is of no use
            self._desk.fail(failure)

    def _claim(self) -> None:
        """Claim when there is nothing to begin with, or soon nothing, and bring the inputs here. None but this thread claims
        while nothing is in hand: so it can tell that the worker may end."""
        claimed, since = 0, time.monotonic()
        while True:
            most, idle = self._desk.wait_for_hunger()
            if claimed != self._desk.claimed:
                claimed, since = self._desk.claimed, time.monotonic()
            wait_s = _CLAIM_S if idle else _CLAIM_AHEAD_S
            work = self._wire.claim(self._run, StepClaim(worker=self._name, most=most, wait_s=wait_s))
            self._take(work)
            if not work.tasks and (work.over or (idle and time.monotonic() - since > _IDLE_S)):
                self._desk.end()
                return

    def _take(self, work: StepWork) -> None:
        for held in [self._desk.take(task) for task in work.tasks]:
            self._lease_s = held.task.lease_s
            self._fetch(held, work.contents)

    def _fetch(self, held: Held, contents: Mapping[str, str]) -> None:
        if self._flaw is not None:
            self._desk.finish(held, {"failure": self._flaw, "hopeless": True})
            return
        try:
            held.references = self._store.fetch(held.task, contents)
        except (MLOpsError, OSError) as wrong:
            self._desk.finish(held, {"failure": f"An input is not to be had: {wrong}"})
        else:
            self._desk.offer(held)

    def _report(self) -> None:
        """Send what ended steps returned, and tell of them; of many at once, where they end quickly. What is to be done next
        comes with the answer."""
        while True:
            batch, most = self._desk.wait_for_ended()
            reports = [self._reported(held) for held in batch]
            attempts = {held.attempt for held in batch}
            while len(wrote := self._outputs.pending(attempts)) > 1:
                self._wire.beat(self._run, StepBeat(worker=self._name, attempts=self._desk.roll_call(), wrote=wrote))
                self._outputs.sent(wrote)
            told = StepReports(worker=self._name, reports=reports, wrote=wrote, most=most)
            orders = self._wire.report(self._run, told)
            for held in batch:
                self._outputs.forget(held.attempt)
            self._trim(self._desk.settle(batch))
            self._take(orders.work)
            if most:
                self._desk.asked()

    def _trim(self, tasks: list[StepTask]) -> None:
        with suppress(OSError):  # the other thread may be at it, too
            self._store.trim(tasks)

    def _reported(self, held: Held) -> StepReport:
        said = held.said or {}
        outputs: dict[str, ValueRef] = {}
        contents: dict[str, str] = {}
        failure = said.get("failure")
        if failure is None:
            contents = {name: one["content"] for name, one in said["outputs"].items() if is_small(one)}
            try:
                outputs = {
                    name: self._store.send(one, held.folder)
                    for name, one in said["outputs"].items()
                    if name not in contents
                }
            except (NotFound, Unauthenticated):
                raise  # the run is over
            except (MLOpsError, OSError) as wrong:
                outputs, contents, failure = {}, {}, f"An output could not be stored: {wrong}"
        if held.folder.exists():
            remove_folder(held.folder)
        return StepReport(
            step=held.task.id,
            attempt=held.task.attempt,
            outputs=outputs,
            contents=contents,
            failure=None if failure is None else failure.replace("\0", "")[:_REASON],
            hopeless=bool(said.get("hopeless")),
            lost=bool(said.get("lost")),
            cpu_seconds=said.get("cpu_seconds"),
            peak_memory_bytes=said.get("peak_memory_bytes"),
        )

    def _beat(self) -> None:
        """Say a few times a lease that all that was claimed is alive, with what was written since."""
        while True:
            time.sleep(min(_BEAT_S, self._lease_s / 4))
            attempts, returned = self._desk.roll()
            if attempts or returned:
                wrote = self._outputs.pending()
                beat = StepBeat(worker=self._name, attempts=attempts, wrote=wrote, returned=returned)
                orders = self._wire.beat(self._run, beat)
                self._outputs.sent(wrote)
                self._desk.stop([attempt for attempt in attempts if attempt[0] in orders.stop])

"""The replicas of one workload on disk: `<workload>/<index>-<incarnation>`, a process folder for each start.

The incarnation counts up each time a replica is started again, so the folders' names are the restart counters, and two
callers that both want to restart a replica want to make the same folder: only one can.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelops.adapters.local.backoff import failures_in_a_row
from modelops.adapters.local.commands import Command
from modelops.adapters.local.processes import ProcessFolder, folders
from modelops.contracts.ports import Observation, Phase

KEPT = 3
"""How many ended incarnations of a replica are kept, for their logs."""

_NAME = re.compile(r"(\d+)-(\d+)")
_FAILURES = "failures"


@dataclass(frozen=True)
class Incarnation:
    """One start of a replica."""

    index: int
    number: int
    process: ProcessFolder

    def failures(self, seen: Observation) -> int:
        """Return how often in a row the replica was started again up to this incarnation, which has ended."""
        before = self.process.notes().get(_FAILURES, 0)
        if seen.started_at is None or seen.finished_at is None:
            return before
        return failures_in_a_row(before, (seen.finished_at - seen.started_at).total_seconds())


class Replicas:
    """The replicas of one workload."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def latest(self) -> dict[int, Incarnation]:
        """Return the last incarnation of every replica, by index."""
        found = {incarnation.index: incarnation for incarnation in self._all()}
        return dict(sorted(found.items()))

    def start_first(self, index: int, command: Command) -> None:
        """Start a replica that does not exist yet."""
        self._process(index, 0).start(command)

    def start_again(self, ended: Incarnation, command: Command, failures: int) -> None:
        """Start the next incarnation of a replica that has ended, and forget those long past."""
        noted = Command(command.argv, command.env, command.files, command.limits, notes={_FAILURES: failures + 1})
        self._process(ended.index, ended.number + 1).start(noted)
        for old in self._all():
            if old.index == ended.index and old.number <= ended.number - KEPT:
                old.process.remove()

    def remove(self, index: int) -> None:
        """Forget a replica that has ended."""
        for incarnation in self._all():
            if incarnation.index == index:
                incarnation.process.remove()

    def stop(self, grace_s: float, reason: str) -> bool:
        """Ask every replica to end; tell whether all have ended."""
        alive = [
            one for one in self.latest().values() if one.process.observe().phase in (Phase.STARTING, Phase.RUNNING)
        ]
        for incarnation in alive:
            incarnation.process.stop(grace_s, reason)
        return not alive

    def _process(self, index: int, number: int) -> ProcessFolder:
        return ProcessFolder(self._folder / f"{index}-{number}")

    def _all(self) -> Iterator[Incarnation]:
        """Yield every incarnation, those of a replica in the order of their starts."""
        found = [
            Incarnation(int(match[1]), int(match[2]), ProcessFolder(folder))
            for folder in folders(self._folder)
            if (match := _NAME.fullmatch(folder.name)) is not None
        ]
        yield from sorted(found, key=lambda incarnation: (incarnation.index, incarnation.number))

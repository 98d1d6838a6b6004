"""What is known of each step of a run, members of a fan-out taken together."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from modelops.domains.pipelines.schemas import StepRun, StepState

SIGNS = {
    StepState.WAITING: ("○", "dim"),
    StepState.READY: ("◌", "cyan"),
    StepState.RUNNING: ("▶", "bold cyan"),
    StepState.AWAITING: ("?", "bold magenta"),
    StepState.RETRYING: ("↻", "yellow"),
    StepState.SUCCEEDED: ("✓", "green"),
    StepState.CACHED: ("≈", "green"),
    StepState.FAILED: ("✗", "bold red"),
    StepState.SKIPPED: ("–", "dim"),
    StepState.CANCELED: ("■", "yellow"),
}
UNKNOWN = ("●", "")

_TELLING = (
    StepState.FAILED,
    StepState.AWAITING,
    StepState.RUNNING,
    StepState.RETRYING,
    StepState.READY,
    StepState.WAITING,
    StepState.CANCELED,
    StepState.SKIPPED,
    StepState.SUCCEEDED,
    StepState.CACHED,
)
"""Which state stands for several: the first of these that one of them is in."""


@dataclass
class Seen:
    """What is known of a step, or of several. `members` is whether it is a fan-out's."""

    states: Counter[StepState] = field(default_factory=Counter)
    members: bool = False
    began: datetime | None = None
    ended: datetime | None = None
    attempt: int = 0
    reason: str | None = None
    cached_from: str | None = None

    @property
    def state(self) -> StepState | None:
        """Return the state that tells most; None where nothing is known."""
        if StepState.WAITING in self.states and any(state.final for state in self.states) and len(self.states) > 1:
            begun = [state for state in _TELLING if state in self.states and state is not StepState.WAITING]
            if begun[0].final and begun[0] is not StepState.FAILED:
                return StepState.RUNNING  # some ended, some are to come
        return next((state for state in _TELLING if state in self.states), None)

    @property
    def total(self) -> int:
        """Return how many there are."""
        return self.states.total()

    @property
    def done(self) -> int:
        """Return how many have ended."""
        return sum(count for state, count in self.states.items() if state.final)

    @property
    def open(self) -> bool:
        """Tell whether something is under way or waits for somebody."""
        return any(not state.final and state is not StepState.WAITING for state in self.states)

    def seconds(self, now: datetime | None) -> float | None:
        """Return for how long it ran, or has been running."""
        until = now if self.open else self.ended
        return None if self.began is None or until is None else max(0.0, (until - self.began).total_seconds())

    def take(self, run: StepRun) -> None:
        """Take in a step, or a member."""
        self.states[run.state] += 1
        self.members = self.members or run.index is not None
        if run.started_at is not None:
            self.began = min(self.began or run.started_at, run.started_at)
        if run.ended_at is not None:
            self.ended = max(self.ended or run.ended_at, run.ended_at)
        self.attempt = max(self.attempt, run.attempt)
        if run.reason and (self.reason is None or run.state is StepState.FAILED):
            self.reason = run.reason if run.index is None else f"{run.key}: {run.reason}"
        self.cached_from = self.cached_from or run.cached_from


def seen_steps(runs: Iterable[StepRun]) -> dict[str, Seen]:
    """Return what is known of each step by its name: of a fan-out by its members, as soon as there are some."""
    told: dict[str, list[StepRun]] = {}
    for run in runs:
        told.setdefault(run.step, []).append(run)
    seen: dict[str, Seen] = {}
    for step, parts in told.items():
        known = seen[step] = Seen()
        for part in [one for one in parts if one.index is not None] or parts:
            known.take(part)
    return seen


def together(parts: Iterable[Seen]) -> Seen:
    """Return what is known of several steps as of one."""
    whole = Seen()
    for part in parts:
        whole.states += part.states
        if part.began is not None:
            whole.began = min(whole.began or part.began, part.began)
        if part.ended is not None:
            whole.ended = max(whole.ended or part.ended, part.ended)
        whole.reason = whole.reason or part.reason
    return whole

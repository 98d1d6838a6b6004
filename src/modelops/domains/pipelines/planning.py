"""What comes next in a run: a pure function of the document, the parameters, and how steps ended.

A step that failed does not stop what is independent of it: the run goes on until nothing can begin any more, and then it has
failed. So no finished work is thrown away, and a run that is begun again needs to do only what is left.

What a step needs must have ended before it is looked at. Then, by its `even_if`:

- `succeeded`: it runs if all it needs succeeded, and is skipped otherwise;
- `not_failed`: it runs unless something failed, or was skipped for a failure's sake: the place where branches meet again;
- `ended`: it runs in any case. An output of a step that did not succeed is null for it.

Its condition comes next, then its list. A fan-out has the members `name[0]`, `name[1]`, …; it has failed if one of them has,
and ends when all of them have. All costs together grow with the number of steps and edges, however the outcomes arrive.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from modelops.contracts.schemas import Json
from modelops.domains.pipelines.conditions import NotComparable, holds
from modelops.domains.pipelines.document import (
    Binding,
    FromOutput,
    FromParameter,
    FromValue,
    PipelineDocument,
    StepSpec,
)
from modelops.domains.pipelines.graph import condition_bindings, dependents_of, needs_of
from modelops.domains.pipelines.schemas import RunState, StepState

MOST_MEMBERS = 100_000
"""Of one fan-out."""


@dataclass(frozen=True)
class Outcome:
    """How a step, or a member of a fan-out, ended. `values` has its outputs that `Planner.wanted` names, if it succeeded."""

    key: str
    state: StepState
    values: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Beginning:
    """A step that may begin, or a member of a fan-out."""

    key: str
    step: str
    index: int | None = None


@dataclass(frozen=True)
class Settled:
    """A step that ended without being run: skipped, empty, or failed because its condition or list cannot be made out."""

    key: str
    state: StepState
    reason: str


@dataclass
class Turn:
    """What follows from what was told. `members` tells how many members each fan-out has that became known."""

    ready: list[Beginning] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    members: dict[str, int] = field(default_factory=dict)


_Due = deque[str | Outcome]


def member_key(step: str, index: int) -> str:
    """Return the key of a fan-out's member."""
    return f"{step}[{index}]"


def parse_key(key: str) -> tuple[str, int | None]:
    """Return the step of a key, and the index if it is a member's.

    Raises:
        ValueError: it is no step's key.
    """
    step, bracket, rest = key.partition("[")
    return (step, int(rest.removesuffix("]"))) if bracket else (step, None)


@dataclass
class _Step:
    spec: StepSpec
    missing: int
    state: StepState = StepState.WAITING
    for_failure: bool = False
    """Skipped because something failed."""
    members: int | None = None
    next_member: int = 0
    ended_members: int = 0
    worst: StepState = StepState.SUCCEEDED
    values: dict[str, Json] = field(default_factory=dict)


class Planner:
    """Plans one run. Not thread-safe; it holds no more than what is needed to go on.

    Outcomes may be told in any order, more than once, and before their step was ready, as when a run is taken over: the
    result is the same.

    Args:
        document: A document that passed `checking`.
        parameters: The run's, with the defaults filled in.
    """

    def __init__(self, document: PipelineDocument, parameters: Mapping[str, Json]) -> None:
        self._parameters = parameters
        self._behind = dependents_of(document.steps)
        self._steps = {name: _Step(spec, len(needs_of(spec))) for name, spec in document.steps.items()}
        self._wanted = _wanted(document)
        self._early: dict[str, Outcome] = {}
        self._begun: set[str] = set()
        self._open = len(self._steps)
        self._stopped = False
        self._failed: list[str] = []
        self._canceled = False

    def wanted(self, step: str) -> frozenset[str]:
        """Return the outputs of a step whose JSON values conditions and lists depend on; mostly none."""
        return self._wanted.get(step, frozenset())

    @property
    def ended(self) -> RunState | None:
        """Return how the run ended; None while a step is open."""
        if self._open:
            return None
        if self._stopped or self._canceled:
            return RunState.CANCELED
        return RunState.FAILED if self._failed else RunState.SUCCEEDED

    @property
    def failed(self) -> list[str]:
        """Return the keys that failed, in the order in which they were told."""
        return list(self._failed)

    def state(self, step: str) -> StepState:
        """Return a step's state as far as it is planned: `waiting`, `ready` (begun), or final."""
        return self._steps[step].state

    def begin(self) -> Turn:
        """Return what may begin at the start."""
        return self._work(_Due(name for name, step in self._steps.items() if not step.missing))

    def settle(self, outcomes: Iterable[Outcome]) -> Turn:
        """Take in how steps ended, and return what follows.

        Raises:
            KeyError: an outcome is of no step of the document, or lacks a value that is wanted.
            ValueError: an outcome's state is not final.
        """
        told = _Due()
        for outcome in outcomes:
            if not outcome.state.final:
                raise ValueError(f"'{outcome.key}' has not ended: {outcome.state}.")
            if outcome.key in self._begun:
                told.append(outcome)
            elif not self._is_past(outcome.key):
                self._early[outcome.key] = outcome
        return self._work(told)

    def stop(self) -> Turn:
        """Let nothing begin any more: what has not begun is cancelled. The run ends when those under way have."""
        self._stopped = True
        turn = Turn()
        for name, step in self._steps.items():
            if step.state is StepState.WAITING:
                self._close(name, StepState.CANCELED)
                turn.settled.append(Settled(name, StepState.CANCELED, "The run was cancelled."))
            elif step.members is not None and not step.state.final:
                for index in range(step.next_member, step.members):
                    turn.settled.append(Settled(member_key(name, index), StepState.CANCELED, "The run was cancelled."))
                    step.ended_members += 1
                    step.worst = _worse(step.worst, StepState.CANCELED)
                step.next_member = step.members
                if step.ended_members == step.members:
                    self._close(name, step.worst)
        return turn

    def _is_past(self, key: str) -> bool:
        name, index = parse_key(key)
        step = self._steps[name]
        return step.state is not StepState.WAITING and (index is None or index < step.next_member)

    def _work(self, due: _Due) -> Turn:
        """Take in outcomes and look at steps that nothing is missing for, until neither is left."""
        turn = Turn()
        while due:
            item = due.popleft()
            if isinstance(item, Outcome):
                if item.key in self._begun:  # else it was told twice
                    self._end(item, turn, due)
            elif self._steps[item].state is StepState.WAITING:
                self._consider(item, turn, due)
        return turn

    def _consider(self, name: str, turn: Turn, due: _Due) -> None:
        step = self._steps[name]
        obstacle, for_failure = self._obstacle(step.spec)
        if obstacle is not None:
            step.for_failure = for_failure
            self._settle(name, StepState.SKIPPED, obstacle, turn, due)
            return
        try:
            if step.spec.when is not None and not holds(step.spec.when, self._look):
                self._settle(name, StepState.SKIPPED, "Its condition is false.", turn, due)
                return
        except NotComparable as wrong:
            self._settle(name, StepState.FAILED, f"Its condition cannot be made out: {wrong}", turn, due)
            return
        if step.spec.foreach is None:
            step.state = StepState.READY
            self._begin(Beginning(name, name), turn, due)
        else:
            self._fan_out(name, step, step.spec.foreach, turn, due)

    def _obstacle(self, spec: StepSpec) -> tuple[str | None, bool]:
        """Return why a step must not run, and whether a failure is at the bottom of it."""
        if spec.even_if == "ended":
            return None, False
        obstacle, for_failure = None, False
        for need in needs_of(spec):
            other = self._steps[need]
            if other.state in (StepState.SUCCEEDED, StepState.CACHED):
                continue
            blamed = other.for_failure or other.state is not StepState.SKIPPED
            if blamed or spec.even_if == "succeeded":
                obstacle = obstacle or f"It needs '{need}', which {_said(other.state)}."
                for_failure = for_failure or blamed
        return obstacle, for_failure

    def _fan_out(self, name: str, step: _Step, source: Binding, turn: Turn, due: _Due) -> None:
        told = self._early.pop(name, None)
        if told is not None and told.state is StepState.CANCELED:
            self._settle(name, StepState.CANCELED, "It was cancelled before its list was known.", turn, due)
            return
        members = self._count(source)
        if members is None:
            self._settle(name, StepState.FAILED, "What it is to run for each of is no list.", turn, due)
            return
        if members > MOST_MEMBERS:
            reason = f"Its list has {members} items; a step runs for {MOST_MEMBERS} at most."
            self._settle(name, StepState.FAILED, reason, turn, due)
            return
        step.members = turn.members[name] = members
        if not members:
            self._settle(name, StepState.SUCCEEDED, "Its list is empty.", turn, due)
            return
        step.state = StepState.READY
        self._begin_members(name, step, turn, due)

    def _count(self, source: Binding) -> int | None:
        """Return how many items there are; none where the step that makes them did not succeed."""
        if isinstance(source, FromOutput):
            other = self._steps[source.step]
            if other.members is not None:
                return other.members
            if other.state not in (StepState.SUCCEEDED, StepState.CACHED):
                return 0
        items = self._look(source)
        return len(items) if isinstance(items, list) else None

    def _begin_members(self, name: str, step: _Step, turn: Turn, due: _Due) -> None:
        most = step.spec.most_at_once or MOST_MEMBERS
        while step.next_member < (step.members or 0) and step.next_member - step.ended_members < most:
            index = step.next_member
            step.next_member += 1
            self._begin(Beginning(member_key(name, index), name, index), turn, due)

    def _begin(self, beginning: Beginning, turn: Turn, due: _Due) -> None:
        self._begun.add(beginning.key)
        told = self._early.pop(beginning.key, None)
        if told is None:
            turn.ready.append(beginning)
        else:
            due.append(told)

    def _end(self, outcome: Outcome, turn: Turn, due: _Due) -> None:
        self._begun.discard(outcome.key)
        name, index = parse_key(outcome.key)
        step = self._steps[name]
        if outcome.state is StepState.FAILED:
            self._failed.append(outcome.key)
        succeeded = outcome.state in (StepState.SUCCEEDED, StepState.CACHED)
        for output in self.wanted(name):
            value = outcome.values[output] if succeeded else None
            if index is None:
                step.values[output] = value
            else:
                self._gather(step, output, index, value)
        if index is None:
            self._close(name, outcome.state)
            self._release(name, due)
            return
        step.ended_members += 1
        step.worst = _worse(step.worst, outcome.state)
        if step.ended_members == step.members:
            self._close(name, step.worst)
            self._release(name, due)
        elif not self._stopped:
            self._begin_members(name, step, turn, due)

    def _gather(self, step: _Step, output: str, index: int, value: Json) -> None:
        gathered = step.values.setdefault(output, [None] * (step.members or 0))
        if isinstance(gathered, list):
            gathered[index] = value

    def _settle(self, name: str, state: StepState, reason: str, turn: Turn, due: _Due) -> None:
        self._early.pop(name, None)
        turn.settled.append(Settled(name, state, reason))
        if state is StepState.FAILED:
            self._failed.append(name)
        self._close(name, state)
        self._release(name, due)

    def _close(self, name: str, state: StepState) -> None:
        self._steps[name].state = state
        self._open -= 1
        self._canceled = self._canceled or state is StepState.CANCELED

    def _release(self, name: str, due: _Due) -> None:
        for other in self._behind[name]:
            self._steps[other].missing -= 1
            if not self._steps[other].missing:
                due.append(other)

    def _look(self, binding: Binding) -> Json:
        if isinstance(binding, FromValue):
            return binding.value
        if isinstance(binding, FromParameter):
            return self._parameters[binding.parameter]
        if isinstance(binding, FromOutput):
            step = self._steps[binding.step]
            return step.values.get(binding.output, [] if step.members == 0 else None)
        raise NotComparable("there is no item outside of a member of a fan-out.")


def _wanted(document: PipelineDocument) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for spec in document.steps.values():
        looked_at = [binding for _, binding in condition_bindings(spec.when)] if spec.when is not None else []
        source = spec.foreach
        if isinstance(source, FromOutput) and document.steps[source.step].foreach is None:
            looked_at.append(source)  # of a fan-out the number of its members is enough: items pass by reference
        for binding in looked_at:
            if isinstance(binding, FromOutput):
                found.setdefault(binding.step, set()).add(binding.output)
    return {step: frozenset(outputs) for step, outputs in found.items()}


def _worse(one: StepState, other: StepState) -> StepState:
    """Return what a fan-out is, of whose members one is this and another that."""
    for state in (StepState.FAILED, StepState.CANCELED):
        if state in (one, other):
            return state
    return StepState.SUCCEEDED


def _said(state: StepState) -> str:
    return {StepState.FAILED: "failed", StepState.CANCELED: "was cancelled"}.get(state, "was skipped")

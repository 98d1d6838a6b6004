"""What the story is told on: a platform of its own, and a record of each step with its evidence."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from modelops.contracts.errors import MLOpsError
from modelops.contracts.terminal import say


class NotVerified(MLOpsError):
    """A step of the story did not turn out as it must."""

    code, status, title = "not_verified", 500, "The demonstration failed"


@dataclass
class Plot:
    """Bars: a label and a value each; `marked` ones are drawn in the accent colour."""

    title: str
    bars: Sequence[tuple[str, float]]
    marked: frozenset[str] = frozenset()
    unit: str = ""


@dataclass
class Step:
    """One step: what it was, what was seen, and how long it took in seconds."""

    title: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def fact(self, name: str, value: Any) -> None:
        """Record something seen."""
        self.facts.append((name, f"{value:.4g}" if isinstance(value, float) else str(value)))

    def link(self, name: str, url: str) -> None:
        """Record where it can be looked at."""
        self.links.append((name, url))

    def check(self, claim: str, holds: bool) -> None:
        """Verify a claim.

        Raises:
            NotVerified: it does not hold.
        """
        if not holds:
            raise NotVerified(
                f"Not true: {claim}.", hint="The platform's log lies beside its home; run with --keep to look."
            )
        self.checks.append(claim)


class Record:
    """The steps taken so far, printed as they end."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Take a step: print its title, and its facts and checks when it ends."""
        step = Step(title)
        self.steps.append(step)
        say(f"\n{len(self.steps):>2}. {title}")
        began = time.monotonic()
        try:
            yield step
        finally:
            step.seconds = time.monotonic() - began
        _print(step)


def wait_until(condition: Callable[[], Any], what: str, *, within_s: float = 60.0, every_s: float = 0.1) -> Any:
    """Return the first true result of `condition`.

    Raises:
        NotVerified: it did not become true in time.
    """
    deadline = time.monotonic() + within_s
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise NotVerified(f"Within {within_s:g} s it did not happen that {what}.")
        time.sleep(every_s)
    return result


def _print(step: Step) -> None:
    width = max((len(name) for name, _ in step.facts), default=0)
    for name, value in step.facts:
        say(f"      {name:<{width}}  {value}")
    for claim in step.checks:
        say(f"    ✓ {claim}")
    say(f"      {step.seconds:.1f} s")

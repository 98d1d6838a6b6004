"""What a step knows of itself: `modelops.step_context()`, inside of a pipeline's run and outside of one."""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from modelops.sdk.standing import let_stand

if TYPE_CHECKING:
    from modelops.sdk.client import Client


@dataclass
class StepContext:
    """A step's view of its run.

    Attributes:
        run_id: The pipeline's run; `local` where the function is called outside of one.
        step: The step's key: its name, or `name[3]` for a member of a fan-out.
        attempt: Which attempt at the step this is, from 1.
        idempotency_key: The same for every attempt at this step of this run, and of no other. What the step does to the
            world should carry it, so that a second attempt is known for what it is.
        folder: An empty folder that is removed after the step; its working directory in a run.
    """

    run_id: str
    step: str
    attempt: int
    idempotency_key: str
    folder: Path
    _connect: "Callable[[StepContext], Client]" = field(repr=False)

    @cached_property
    def client(self) -> "Client":
        """Return a client with the run's own permissions.

        What it creates carries keys derived from `idempotency_key`: an attempt that is made again, and asks for the same
        things in the same order, is given what the first one made.
        """
        return self._connect(self)

    def key(self, name: str) -> str:
        """Return an idempotency key for one of several effects of this step."""
        return f"{self.idempotency_key}:{name}"

    def log(self, text: str) -> None:
        """Write a line to the step's output, at once."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def progress(self, done: float, of: float = 1.0) -> None:
        """Say in the step's output how far it is."""
        self.log(f"progress: {100 * done / of if of else 100.0:.1f} %")


def step_context() -> StepContext:
    """Return the context of the step that runs in this process.

    Outside of a run, as in a unit test, it is that of a made-up one, with a key of its own and the default client.
    """
    global _current
    if _current is None:
        _current = StepContext(
            "local", "local", 1, uuid4().hex, Path(tempfile.mkdtemp(prefix="modelops-step-")), _local
        )
    return _current


def enter_step(context: StepContext | None) -> None:
    """Set the step that this process is at, or none (for the process that runs steps)."""
    global _current
    _current = context
    let_stand(None if context is None else lambda: context.client)


def _local(_context: StepContext) -> "Client":
    from modelops.sdk.client import Client

    return Client()


_current: StepContext | None = None

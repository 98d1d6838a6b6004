"""Durable stories: functions whose finished steps are never run again, whoever is killed when.

A workflow is an asynchronous function of a `Story` and a JSON argument. It must do the same when it is run again from its
beginning: whatever depends on the world, the clock or chance happens inside `story.step`, whose result is kept. The engine
behind it is an adapter; the contract suite in `modelops.testing` holds each to the same behaviour.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from modelops.contracts.errors import MLOpsError
from modelops.contracts.schemas import Json


class StoryState(StrEnum):
    """Where a story is."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Told:
    """What is known of a story. `failure` is a sentence; `executor` names the process that has it, or had it last."""

    state: StoryState
    executor: str
    result: Json = None
    failure: str | None = None


class StepFailed(MLOpsError):
    """A step of a story raised. It is the same whether the step was run just now or its failure was kept.

    Attributes:
        kind: The name of the exception's class.
        reason: Its code, where it was one of the platform's errors.
    """

    code, title = "step_failed", "A step of a workflow failed"

    def __init__(
        self,
        detail: str,
        *,
        hint: str | None = None,
        extra: Mapping[str, Any] | None = None,
        kind: str = "",
        reason: str | None = None,
    ) -> None:
        super().__init__(detail, hint=hint, extra=extra)
        self.kind = kind
        self.reason = reason


class Story(Protocol):
    """A workflow under way."""

    @property
    def id(self) -> str:
        """Return its id."""
        ...

    async def step(self, name: str, act: Callable[[], Awaitable[Json]]) -> Json:
        """Run `act` and keep what it returns; when the story is told again, what was kept is returned at once.

        A process that dies within `act` has it run again: what `act` does must be guarded by its own idempotency. `act` that
        raises `Unavailable` is tried again until the world answers. Nothing within `act` may hold the loop that it runs on: what
        blocks belongs in `asyncio.to_thread`.

        Raises:
            StepFailed: `act` raised anything else, now or when it was run; what is not JSON counts as that.
        """
        ...

    async def pause(self, seconds: float) -> None:
        """Wait until so much time has passed since this was reached first, restarts included."""
        ...


Workflow = Callable[[Story, Json], Awaitable[Json]]


@runtime_checkable
class Workflows(Protocol):
    """Tells stories, durably. Thread-safe."""

    def start(self, workflow: str, story: str, argument: Json = None) -> None:
        """Begin the story with this id; one that was begun before is left as it is.

        Raises:
            NotFound: no workflow of that name was given to `launch`.
            Unavailable: this process executes no workflows, or the database does not answer.
        """
        ...

    def tell(self, story: str) -> Told | None:
        """Return what is known of a story, or None where there is none."""
        ...

    def cancel(self, story: str) -> None:
        """End a story before its next step; one that has ended, or is not there, is left as it is."""
        ...

    def launch(self, workflows: Mapping[str, Workflow]) -> None:
        """Begin to execute: this process's stories, and those of executors whose lease has run out."""
        ...

    def close(self) -> None:
        """Stop executing and release the engine; stories under way go on at the next launch, or elsewhere."""
        ...

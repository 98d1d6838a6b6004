"""Durable stories: functions whose finished steps are never run again, whoever is killed when.

A workflow is an asynchronous function of a `Story` and a JSON argument. It must do the same when it is run again from its
beginning: whatever depends on the world, the clock or chance happens inside `story.step`, whose result is kept. The engine
behind it is an adapter; the contract suite in `modelops.testing` holds each to the same behaviour.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

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


class Story(Protocol):
    """A workflow under way."""

    @property
    def id(self) -> str:
        """Return its id."""
        ...

    async def step(self, name: str, act: Callable[[], Awaitable[Json]]) -> Json:
        """Run `act` and keep what it returns; when the story is told again, what was kept is returned at once.

        A process that dies within `act` has it run again: what `act` does must be guarded by its own idempotency.
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

"""What becomes of a run whose maker is gone, and of what was deleted long ago."""

from collections.abc import Mapping, Sequence
from typing import Any

from modelops.domains.experiments import service
from modelops.kernel.context import Context


class Heartbeats:
    """Fails the runs that nobody has been heard of for."""

    name = "experiments.heartbeats"
    rest_s = 2.0

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return the silent runs."""
        return service.silent_runs(ctx)

    def load(self, ctx: Context, key: str) -> str:
        """Return the run."""
        return key

    def act(self, ports: Mapping[type, Any], state: str) -> str:
        """There is nothing to do in the world: its program is gone."""
        return state

    def apply(self, ctx: Context, key: str, seen: str) -> None:
        """End the run, if it is still silent."""
        service.fail_silent_run(ctx, key)


class Removal:
    """Removes for good what was deleted longer ago than it can be restored."""

    name = "experiments.removal"
    rest_s = 5.0

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return what has expired."""
        return service.expired(ctx)

    def load(self, ctx: Context, key: str) -> str:
        """Return the key."""
        return key

    def act(self, ports: Mapping[type, Any], state: str) -> str:
        """There is nothing to do in the world: contents that nothing refers to any more are collected elsewhere."""
        return state

    def apply(self, ctx: Context, key: str, seen: str) -> None:
        """Remove it, if it still is deleted."""
        service.remove(ctx, key)

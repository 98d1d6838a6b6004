"""What becomes of a run whose maker is gone: it ends as failed, with the reason."""

from collections.abc import Mapping, Sequence
from typing import Any

from modelops.domains.experiments import service
from modelops.kernel.context import Context


class Heartbeats:
    """Fails the runs that nobody has been heard of for."""

    name = "experiments.heartbeats"

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

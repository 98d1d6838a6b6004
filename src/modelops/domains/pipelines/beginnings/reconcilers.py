"""Begins what waited for its time or its turn."""

from collections.abc import Mapping, Sequence
from typing import Any

from modelops.domains.pipelines.beginnings.beginning import can_move, due_causes, forget_old, settle_due
from modelops.kernel.context import Context

_OLD = "old"
_FORGET_EVERY_S = 300.0


class Beginner:
    """Looks at each cause of which something waits, oldest first; each cause is a transaction."""

    name = "pipelines.beginner"

    def __init__(self) -> None:
        self._forgot_at = float("-inf")

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return the causes of which something is due, and one key every few minutes to forget what is old."""
        keys = due_causes(ctx)
        if ctx.clock.monotonic() - self._forgot_at >= _FORGET_EVERY_S:
            self._forgot_at = ctx.clock.monotonic()
            keys.append(_OLD)
        return keys

    def load(self, ctx: Context, key: str) -> str | None:
        """Return the key, unless all that waits of it waits for the end of another."""
        return key if key == _OLD or can_move(ctx, key) else None

    def act(self, ports: Mapping[type, Any], state: str) -> str:
        """There is nothing to do in the world."""
        return state

    def apply(self, ctx: Context, key: str, seen: str) -> None:
        """Begin what can."""
        if key == _OLD:
            forget_old(ctx, ctx.settings.event_retention_s)
        else:
            settle_due(ctx, key)

"""Housekeeping: what the spine keeps only for a while is forgotten."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import delete

from modelops.kernel import outbox
from modelops.kernel.context import Context
from modelops.kernel.tables import IdempotencyRow

_EVERY_S = 300.0


class Housekeeping:
    """Forgets delivered events and answers to repeated creates once they are old."""

    name = "kernel.housekeeping"
    rest_s = 60.0

    def __init__(self) -> None:
        self._done_at = float("-inf")

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return one key, every few minutes."""
        now = ctx.clock.monotonic()
        if now - self._done_at < _EVERY_S:
            return ()
        self._done_at = now
        return ("old",)

    def load(self, ctx: Context, key: str) -> str:
        """Return the key."""
        return key

    def act(self, ports: Mapping[type, Any], state: str) -> str:
        """There is nothing to do in the world."""
        return state

    def apply(self, ctx: Context, key: str, seen: str) -> None:
        """Delete what is old."""
        outbox.forget(ctx.session, ctx.clock, ctx.settings.event_retention_s)
        before = ctx.clock.now() - timedelta(seconds=ctx.settings.idempotency_ttl_s)
        ctx.session.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at < before))

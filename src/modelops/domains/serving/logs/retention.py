"""Logged predictions are kept for their time, and no longer than their deployment."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, or_, select

from modelops.domains.serving.tables import DeploymentRow, PredictionLogRow
from modelops.kernel.context import Context

_EVERY_S = 60.0


def holds(ctx: Context, digests: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Tell which blobs are files of logged predictions."""
    query = select(PredictionLogRow.project_id, PredictionLogRow.digest).where(PredictionLogRow.digest.in_(digests))
    return [(project, digest) for project, digest in ctx.session.execute(query)]


class PredictionLogReconciler:
    """Forgets files that are due; their bytes are collected afterwards, as all that nothing refers to."""

    name = "serving.prediction_logs"
    rest_s = 5.0

    def __init__(self) -> None:
        self._looked_at = float("-inf")

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return one key, now and then, if any file is due."""
        now = ctx.clock.monotonic()
        if now - self._looked_at < _EVERY_S:
            return ()
        self._looked_at = now
        is_due = ctx.session.scalar(select(PredictionLogRow.id).where(_due(ctx)).limit(1))
        return () if is_due is None else ("due",)

    def load(self, ctx: Context, key: str) -> str:
        """Return the key."""
        return key

    def act(self, ports: Mapping[type, Any], state: str) -> str:
        """There is nothing to do in the world."""
        return state

    def apply(self, ctx: Context, key: str, seen: str) -> None:
        """Forget what is due."""
        ctx.session.execute(delete(PredictionLogRow).where(_due(ctx)).execution_options(synchronize_session=False))


def _due(ctx: Context) -> Any:
    return or_(
        PredictionLogRow.expires_at <= ctx.clock.now(),
        PredictionLogRow.deployment_id.not_in(select(DeploymentRow.id)),
    )

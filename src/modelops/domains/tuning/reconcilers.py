"""What becomes of trials whose workers are gone."""

from collections.abc import Mapping, Sequence
from typing import Any

from modelops.domains.tuning import service
from modelops.kernel.context import Context


class Leases:
    """Takes trials back whose workers fell silent, so that others take them up."""

    name = "tuning.leases"

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return the studies with silent trials."""
        return service.silent_studies(ctx)

    def load(self, ctx: Context, key: str) -> str:
        """Return the study."""
        return key

    def act(self, ports: Mapping[type, Any], state: str) -> str:
        """There is nothing to do in the world: the workers are gone."""
        return state

    def apply(self, ctx: Context, key: str, seen: str) -> None:
        """Take back those that still are silent."""
        service.take_back_trials(ctx, key)

"""What decides who is admitted, whenever something changed."""

from collections.abc import Mapping, Sequence
from typing import Any

from modelops.domains.compute.admission import is_due, run_cycle
from modelops.kernel.context import Context

CYCLE = "cycle"


class Admission:
    """Decides who is admitted and who gives way. Nothing outside of the database is touched: training starts and stops."""

    name = "compute.admission"

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return the one key there is, if anything changed since the last decision."""
        return [CYCLE] if is_due(ctx) else []

    def load(self, ctx: Context, key: str) -> str:
        """Return the key: what is decided on is read where it is held."""
        return key

    def act(self, ports: Mapping[type, Any], state: str) -> str:
        """Do nothing: there is no world to move."""
        return state

    def apply(self, ctx: Context, key: str, seen: str) -> None:
        """Decide, and write it."""
        run_cycle(ctx)

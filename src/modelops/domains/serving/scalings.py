"""What people write on the command line about scaling, read."""

from collections.abc import Callable

import typer

from modelops.contracts.terminal import values
from modelops.domains.serving.policies.autoscaling import SHORT_NAMES, Autoscaling, Off

_WHAT = "a part of a scaling policy"


def policy_of(given: list[str] | None) -> Autoscaling | None:
    """Return the policy that `min=0,max=4` and the like describe; None where nothing is given, or `off`."""
    change = change_of(given, lambda: None)
    return None if change == "off" else change


def change_of(given: list[str] | None, before: Callable[[], Autoscaling | None]) -> Autoscaling | Off | None:
    """Return what is to become of a policy, of which what is not given stays; None where nothing is given.

    Args:
        before: Gets the policy that holds now.
    """
    parts = [part.strip() for one in given or [] for part in one.split(",") if part.strip()]
    if not parts:
        return None
    if parts == ["off"]:
        return "off"
    if "off" in parts:
        raise typer.BadParameter("'off' stands alone: --autoscale off.")
    named = {SHORT_NAMES.get(name, name): value for name, value in values(parts, _WHAT).items()}
    kept = before()
    return Autoscaling.model_validate((kept.model_dump() if kept else {}) | named)

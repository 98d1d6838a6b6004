"""The client that stands for every one of this process that names no platform: in a step of a pipeline's run, the step's."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelops.sdk.client import Client


def standing_client() -> "Client | None":
    """Return the client that stands for others, if there is one."""
    return None if _find is None else _find()


def let_stand(find: "Callable[[], Client] | None") -> None:
    """Say which client stands for others from now on; `find` is asked when one is needed. None: no client does."""
    global _find
    _find = find


_find: "Callable[[], Client] | None" = None

"""ModelOps runs the whole life of a model: on a laptop with one command and no server, on a cluster with the same code.

The names below are loaded at their first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Client": "modelops.sdk.client",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'modelops' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__doc__", "__name__"]

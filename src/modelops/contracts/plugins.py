"""Discovery of plug-ins by entry point. What the product ships comes in through the same door.

| group | an entry point there loads |
|---|---|
| `modelops.domains` | a `Manifest`: a domain of the control plane |
| `modelops.commands` | a Typer app or a command function of `mops` |
| `modelops.flavours` | a `Flavour`: how a kind of model is saved, loaded and explained |
| `modelops.checks` | what makes a `Check`: one question to a candidate before its promotion |
| `modelops.recipes` | a `Recipe`: what a training job runs |
| `modelops.embedded` | the opener of a platform inside this process |
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from modelops.contracts.errors import MissingExtra, NotFound

GROUPS = (
    "modelops.domains",
    "modelops.commands",
    "modelops.flavours",
    "modelops.checks",
    "modelops.recipes",
    "modelops.embedded",
)


@cache
def discover(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of `group` by name, sorted by name, without loading any of them."""
    found = {point.name: point for point in entry_points(group=group)}
    return {name: found[name] for name in sorted(found)}


@cache
def load(group: str, name: str) -> Any:
    """Load one plug-in.

    Raises:
        NotFound: no plug-in of that name is installed.
        MissingExtra: it is installed, but something that it imports is not.
    """
    points = discover(group)
    if name not in points:
        raise NotFound(
            f"There is no plug-in '{name}' in the group '{group}'.",
            hint=f"Installed are: {', '.join(points) or 'none'}. `mops plugins` lists them.",
        )
    try:
        return points[name].load()
    except ModuleNotFoundError as missing:
        raise MissingExtra(
            f"The plug-in '{name}' needs the Python package '{missing.name}', which is not installed.",
            hint='Install the extra that brings it, for example `pip install "modelops[server,sklearn]"`.',
        ) from missing


def load_all(group: str) -> dict[str, Any]:
    """Load every plug-in of `group`, by name."""
    return {name: load(group, name) for name in discover(group)}

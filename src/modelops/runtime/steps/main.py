"""A worker's start: its runner comes up while the keeper's own modules are loaded, which take longer than all the rest."""

import json
import os
import sys
from pathlib import Path

from modelops.runtime.steps.child import Child
from modelops.runtime.steps.code import cached, unpack


def main() -> int:
    """Run the worker whose files lie in `MODELOPS_WORKDIR`, and return the exit code."""
    folder = Path(os.environ["MODELOPS_WORKDIR"]).absolute()
    archives = Path(os.environ.get("MODELOPS_CACHE") or folder / "cache").absolute() / "code"
    runner = _early(folder, archives)
    sys.modules["httpx._main"] = None  # type: ignore[assignment]  # httpx's own command, whose import takes as long again
    from modelops.runtime.steps.worker import work

    return work(folder, archives, runner)


def _early(folder: Path, archives: Path) -> Child | None:
    """Start the runner, where that needs nothing from the platform; None where it does, or is not to be had so."""
    try:
        code = json.loads((folder / "steps.json").read_bytes()).get("code")
        if code is None:
            return Child(sys.executable, [], folder)
        archive = cached(archives, code["digest"])
        if archive is None or code["requirements"] is not None:
            return None
        return Child(sys.executable, [unpack(archive, folder / "code")], folder)
    except Exception:  # whatever it is, it is met again, and told of, on the longer way
        return None

"""Jobs as processes of this machine, each in a folder of its own under a supervisor of its own."""

from pathlib import Path

from modelops.adapters.local import durable
from modelops.adapters.local.commands import Command
from modelops.adapters.local.processes import ProcessFolder, checked_name, folders
from modelops.contracts.ports import JobSpec, Observation, UsageSample


class LocalJobBackend:
    """A JobBackend of local processes; see `JobBackend` for what its methods promise.

    Args:
        root: The folder for the attempts' folders; made when missing.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.sweep(root)

    def start(self, spec: JobSpec) -> None:
        """Start the attempt, unless it was started before. Returns in some 50 ms, with its supervisor running."""
        self._attempt(spec.name).start(Command(spec.argv, spec.env, spec.files, spec.limits))

    def observe(self, name: str) -> Observation:
        """Return what is seen of the attempt."""
        return self._attempt(name).observe()

    def stop(self, name: str, *, grace_s: float = 10.0, reason: str = "stopped on request") -> None:
        """Ask the attempt to end, and end it by force after the grace."""
        self._attempt(name).stop(grace_s, reason)

    def log(self, name: str, *, offset: int = 0, limit: int = 65_536) -> bytes:
        """Return a piece of the attempt's output."""
        return self._attempt(name).log(offset, limit)

    def usage(self, name: str) -> list[UsageSample]:
        """Return what was sampled of the attempt."""
        return self._attempt(name).usage()

    def names(self) -> list[str]:
        """Return every attempt that is still kept, sorted."""
        return [folder.name for folder in folders(self._root)]

    def remove(self, name: str) -> None:
        """Forget an attempt that has ended. Raises Conflict while it has not."""
        self._attempt(name).remove()

    def _attempt(self, name: str) -> ProcessFolder:
        return ProcessFolder(self._root / checked_name(name))

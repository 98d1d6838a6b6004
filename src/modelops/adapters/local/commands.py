"""What a process is started with: the command, its environment, its files and its limits."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelops.adapters.local import leftovers
from modelops.contracts.errors import InvalidInput
from modelops.contracts.ports import Limits

_INHERITED = (
    *("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH"),
    *("JAVA_HOME", "SPARK_CONF_DIR"),  # where Spark looks
)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Command:
    """What to run: see `JobSpec`. `notes` are kept beside it, for whoever started it."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    notes: Mapping[str, int] = field(default_factory=dict)

    def check(self) -> None:
        """Raise InvalidInput where the system could not run it, or a file's name leads out of its folder."""
        if not self.argv:
            raise InvalidInput("The command is empty.", hint="Name at least the program to run.")
        texts = [*self.argv, *self.env, *self.env.values()]
        if any("\0" in text for text in texts) or any(not name or "=" in name for name in self.env):
            raise InvalidInput("The command or its environment holds a character that the system does not take.")
        for name in self.files:
            if name in ("", ".", "..") or "/" in name or "\0" in name or len(name.encode()) > 255:
                raise InvalidInput(
                    f"{name[:100]!r} cannot name a file.", hint="Give a plain file name without folders."
                )

    def document(self, work: Path) -> dict[str, Any]:
        """Return what the supervisor reads as `spec.json`, for a process that works in the folder `work`."""
        return {
            "argv": list(self.argv),
            "env": self._environment() | {leftovers.VARIABLE: str(work)},
            "memory_bytes": self.limits.memory_bytes,
            "timeout_s": self.limits.timeout_s,
            "log_bytes": self.limits.log_bytes,
        }

    def _environment(self) -> dict[str, str]:
        defaults = {"PYTHONUNBUFFERED": "1"}  # what a process printed before it was killed should be in its log
        if self.limits.cpus is not None:
            defaults |= dict.fromkeys(THREADS, str(self.limits.cpus))
        return defaults | inherited_environment() | dict(self.env)


def inherited_environment() -> dict[str, str]:
    """Return the little of this process's environment that others may see: it may hold the platform's secrets."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}

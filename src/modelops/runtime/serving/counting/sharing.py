"""Counts that a replica's processes show each other through files, so that any of them can tell those of all.

A file is as old as `SHARE_S` at most. One that is started again goes on counting where the file of the one before ends.
"""

from pathlib import Path

import msgspec

from modelops.runtime.serving.counting.metrics import ProcessCounts

SHARE_S = 0.5

_decoder = msgspec.json.Decoder(ProcessCounts)


def read_counts(workdir: Path, worker: int) -> ProcessCounts | None:
    """Return what a worker counted; None where it has not told, or what it told is damaged."""
    try:
        return _decoder.decode(_path(workdir, worker).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def write_counts(workdir: Path, worker: int, counts: ProcessCounts) -> None:
    """Tell what a worker counted. Not durable: counts need to outlive a process, not the machine."""
    path = _path(workdir, worker)
    fresh = path.with_suffix(".part")
    fresh.write_bytes(msgspec.json.encode(counts))
    fresh.replace(path)


def forget_counts(workdir: Path) -> None:
    """Remove what the processes of an earlier run counted."""
    for path in workdir.glob("counts-*.json"):
        path.unlink(missing_ok=True)


def _path(workdir: Path, worker: int) -> Path:
    return workdir / f"counts-{worker}.json"

"""Files that are there whole or not at all, and stay there after a power cut."""

import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from modelops.contracts.errors import StorageFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_STALE_AFTER_S = 24 * 3600.0


@contextmanager
def full_disk_as_error(what: str) -> Iterator[None]:
    """Raise StorageFull where the system says that a disk, a quota or a file-size limit is reached."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise StorageFull(f"There is no room to store {what}: {os.strerror(error.errno or 0)}.") from error


def write_new(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet, readable by the owner alone, and flush it to the disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)


def replace(path: Path, data: bytes) -> None:
    """Write or replace a file: readers, and a machine that loses power, see the old content or the new one."""
    temporary = path.with_name(temporary_name(f".{path.name}"))
    try:
        write_new(temporary, data)
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Flush a folder's list of names to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Hold off others, in any process, that take their turn in the folder."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def written_at(facts: os.stat_result) -> datetime:
    """Return when a file was last written."""
    return datetime.fromtimestamp(facts.st_mtime_ns / 1e9, UTC)


def renew(path: Path) -> None:
    """Let a file count as written now."""
    now = time.time_ns()
    os.utime(path, ns=(now, now))


def delete_tree(path: Path) -> None:
    """Delete a folder so that a crash half-way never leaves part of it under its name."""
    doomed = path.with_name(temporary_name(".gone"))
    try:
        os.rename(path, doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def temporary_name(prefix: str) -> str:
    """Return a fresh name that carries its owner, so that `sweep` can tell whether the owner still lives."""
    pid = os.getpid()
    return f"{prefix}~{pid}~{process_start_time(pid) or 0}~{secrets.token_hex(8)}"


def sweep(folder: Path) -> None:
    """Delete what dead processes left half-made in a folder, and anything temporary older than a day."""
    for path in folder.glob("*~*~*~*"):
        if not _is_stale(path):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def process_start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot (proc(5), field 22); with the pid it names a process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the command's name in parentheses, and may itself hold spaces and parentheses.
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


def _is_stale(path: Path) -> bool:
    try:
        pid, started = (int(part) for part in path.name.split("~")[1:3])
        age = time.time() - path.lstat().st_mtime
    except (ValueError, OSError):
        return False
    return process_start_time(pid) != started or age > _STALE_AFTER_S

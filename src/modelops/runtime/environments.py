"""Environments of Python: built once per lock by uv, kept in the home folder, shared by whatever is started in them.

A lock is a requirements file that names every package with its version and hashes (`uv pip compile --generate-hashes`). An
environment holds what its lock names, and `modelops` of the version that runs here with the few packages that it always needs,
where the lock does not name them. In the folder:

| name | what it is |
|---|---|
| `<key>/` | an environment, whole: it is built beside and renamed; its `used` is touched with each use |
| `<key>.lock` | locked (flock(2)): shared by who uses it, as long as its process lives; alone by who builds or removes it |
| `<key>.new/` | one that is being built, or whose builder was killed: the next one removes it |
| `.cache/` | uv's, so that environments share the files of their packages |
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

from modelops.contracts.errors import MissingExtra, TrainingError

Say = Callable[[str], None]

WHERE = "MODELOPS_ENVIRONMENTS"
"""The variable that names the folder of environments."""
ACTIVE = "MODELOPS_IN_ENVIRONMENT"
"""The variable that names the lock of the environment that a process is in."""
INDEX = "MODELOPS_PACKAGE_INDEX"
"""The variable that names where packages come from, if not from where uv would look."""
KEPT_BYTES = 20 * 2**30

_PLATFORM = "modelops_platform"
_LINK = f"zzz_{_PLATFORM}.pth"
_NAME = re.compile(r"[-_.]+")


class EnvironmentFailed(TrainingError):
    """The environment could not be built."""

    code, title = "training.environment_failed", "The environment could not be built"


class Environments:
    """The environments of a folder. Any number of processes may use the folder at once.

    Args:
        root: The folder; made when missing.
        kept_bytes: Beyond so much in all, those that were not used for longest are removed, unless they are in use.
        index: The URL of the package index; None means where uv looks by itself.
    """

    def __init__(self, root: Path, *, kept_bytes: int = KEPT_BYTES, index: str | None = None) -> None:
        self._root = root
        self._kept_bytes = kept_bytes
        self._index = index
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def use(self, lock: bytes, say: Say) -> Path:
        """Return the interpreter of the environment of a lock, built if it is not there.

        It stays for as long as this process lives, also if that becomes another program by exec.

        Args:
            lock: The requirements with hashes.
            say: Told what happens; the output of uv goes where this process's does.

        Raises:
            EnvironmentFailed: it cannot be built of this lock.
            MissingExtra: uv is not installed.
        """
        key = self._key(lock)
        folder, python = self._root / key, self._root / key / "bin" / "python"
        held = os.open(self._root / f"{key}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        os.set_inheritable(held, True)
        while True:
            fcntl.flock(held, fcntl.LOCK_SH)
            if python.exists():
                (folder / "used").touch()
                return python
            if not _try_lock(held):
                say("[modelops] another job builds the environment; waiting for it")
                fcntl.flock(held, fcntl.LOCK_EX)
            if not python.exists():
                self._build(key, lock, say)

    def _key(self, lock: bytes) -> str:
        about = [sys.version, sys.platform, *sorted(f"{each.name}=={each.version}" for each in _needed())]
        return hashlib.sha256(b"\0".join([lock, *(text.encode() for text in about)])).hexdigest()[:32]

    def _build(self, key: str, lock: bytes, say: Say) -> None:
        """Build the environment beside its place and rename it. Whoever calls this holds its lock alone."""
        uv = find_uv()
        self._make_room(key)
        making = self._root / f"{key}.new"
        shutil.rmtree(making, ignore_errors=True)
        say(f"[modelops] building the environment {key}")
        try:
            self._run(uv, "venv", "--quiet", "--relocatable", "--no-project", "--python", sys.executable, str(making))
            (making / "requirements.txt").write_bytes(lock)
            at = ("--python", str(making / "bin" / "python"), "--strict", "--require-hashes")
            self._run(uv, "pip", "sync", *at, str(making / "requirements.txt"))
            _bring_modelops(making)
            _check(making)
            (making / "size").write_text(str(_size(making)), encoding="ascii")
            (making / "used").touch()
            os.sync()
            making.rename(self._root / key)
        except OSError as wrong:
            raise EnvironmentFailed(f"The environment could not be built: {wrong}.", hint="Free disk space.") from wrong
        finally:
            shutil.rmtree(making, ignore_errors=True)
        say(f"[modelops] the environment {key} is ready")

    def _run(self, uv: str, *arguments: str) -> None:
        chosen = {"UV_CACHE_DIR": str(self._root / ".cache"), "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"}
        if self._index is not None:
            chosen["UV_DEFAULT_INDEX"] = self._index
            chosen.pop("UV_NO_CONFIG")
        lines: list[str] = []
        command = [uv, *arguments]
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, env=os.environ | chosen, text=True, errors="replace"
        ) as process:
            for line in process.stderr or ():
                sys.stderr.write(line)
                lines.append(line.strip())
        if process.returncode != 0:
            said = " ".join(line for line in lines[-6:] if line) or f"uv ended with {process.returncode}"
            raise EnvironmentFailed(
                f"The environment could not be built of its lock: {said[:1500]}",
                hint="Make the lock anew with `uv pip compile --generate-hashes`; the output of the job has all of it.",
            )

    def _make_room(self, key: str) -> None:
        """Remove environments that were not used for longest, until the rest is small enough. Those in use stay."""
        found = [path for path in self._root.iterdir() if (path / "used").exists() and path.name != key]
        sizes = {path: int((path / "size").read_text(encoding="ascii")) for path in found}
        for path in sorted(found, key=lambda path: (path / "used").stat().st_mtime):
            if sum(sizes.values()) <= self._kept_bytes:
                return
            with _alone(self._root / f"{path.name}.lock") as alone:
                if alone:
                    gone = self._root / f"{path.name}.new"  # what is left of it is removed as a build's leftovers are
                    shutil.rmtree(gone, ignore_errors=True)
                    path.rename(gone)
                    shutil.rmtree(gone, ignore_errors=True)
                    sizes.pop(path)


def enter(lock: bytes, name: str, arguments: list[str], say: Say) -> None:
    """Become `python -m modelops.runtime` with these arguments in the environment of a lock; never returns.

    Args:
        lock: The requirements with hashes.
        name: What the lock is called, such as its digest: the variable `ACTIVE` of what is started.
        arguments: Of `python -m modelops.runtime`.
        say: Told what happens.

    Raises: as `Environments.use`.
    """
    place = Environments(Path(os.environ[WHERE]), index=os.environ.get(INDEX))
    python = place.use(lock, say)
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    inside: Mapping[str, str] = {**kept, ACTIVE: name, "VIRTUAL_ENV": str(python.parent.parent)}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(python, [str(python), "-m", "modelops.runtime", *arguments], inside)  # noqa: S606 - no shell is wanted


def find_uv() -> str:
    """Return the path of uv: on `PATH`, or of the package.

    Raises:
        MissingExtra: there is none.
    """
    found = shutil.which("uv")
    if found is None:
        with suppress(ImportError, FileNotFoundError):
            from uv import find_uv_bin

            found = str(find_uv_bin())
    if found is None:
        raise MissingExtra(
            "Environments are built by uv, which is not installed.",
            hint="Install it on this machine: `pip install 'modelops[environments]'`.",
        )
    return found


def _needed() -> list[metadata.Distribution]:
    """Return what is installed of modelops and of what it always needs, and so on."""
    found: dict[str, metadata.Distribution] = {}
    ahead = ["modelops"]
    while ahead:
        name = _canonical(ahead.pop())
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # needed on another system, or by another Python
        for needed in found[name].requires or ():
            requirement, _, marker = needed.partition(";")
            if "extra" not in marker:
                ahead.append(re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0])
    return list(found.values())


def _bring_modelops(environment: Path) -> None:
    """Link modelops, and what it needs and the lock does not name, into the environment."""
    (site,) = environment.glob("lib/python*/site-packages")
    there = {_canonical(each.name) for each in metadata.distributions(path=[str(site)])}
    folder = site / _PLATFORM
    folder.mkdir()
    for distribution in _needed():
        if _canonical(distribution.name) in there:
            continue
        for path in _tops(distribution):
            with suppress(FileExistsError):
                (folder / path.name).symlink_to(path)
    (site / _LINK).write_text(f"{_PLATFORM}\n", encoding="ascii")


def _tops(distribution: metadata.Distribution) -> Iterator[Path]:
    """Yield the folders and modules of a distribution that lie in its `site-packages`."""
    if _canonical(distribution.name) == "modelops":  # it may be installed to be edited: then its files lie elsewhere
        yield Path(__file__).parents[1]
    names = {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}
    for name in sorted(names):
        path = Path(str(distribution.locate_file(name))).resolve()
        if path.suffix != ".pth" and not name.startswith("__editable__") and path.exists():
            yield path


def _check(environment: Path) -> None:
    """Hold what was built against what runs in it."""
    command = [str(environment / "bin" / "python"), "-I", "-c", "import modelops.runtime.trainer"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        why = done.stderr.strip().rpartition("\n")[2]
        raise EnvironmentFailed(
            f"ModelOps {metadata.version('modelops')} does not run with the packages of the lock: {why}",
            hint="Lock versions that it takes, or leave them out of the lock.",
        )


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def _canonical(name: str) -> str:
    return _NAME.sub("-", name).lower()


def _try_lock(held: int) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Hold a lock file alone, if nobody else holds it; yields whether it does."""
    held = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield _try_lock(held)
    finally:
        os.close(held)

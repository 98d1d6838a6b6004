"""A cluster for tests: the one of `MODELOPS_TEST_KUBECONFIG`, or the lab of `tools/kube-lab`."""

import fcntl
import hashlib
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from uuid import uuid4

from sqlalchemy import Table

from modelops.adapters.kubernetes.cluster import Cluster
from modelops.adapters.kubernetes.jobs import KubernetesJobBackend
from modelops.adapters.kubernetes.outputs import Outputs
from modelops.adapters.kubernetes.settings import Site
from modelops.adapters.kubernetes.tables import ClusterOutputPieceRow, ClusterOutputRow
from modelops.contracts.clock import SystemClock
from modelops.kernel.database import Base, Database, sqlite_url
from modelops.testing.waiting import wait_for


@dataclass(frozen=True)
class ClusterUnderTest:
    """A cluster, an image with Python for it, and the lab that runs it, if one does."""

    kubeconfig: str
    image: str
    lab: Path | None

    def connect(self) -> Cluster:
        """Return a connection of its own."""
        return Cluster(self.kubeconfig)

    def site(self, logs: Path, **changes: object) -> Site:
        """Return a place that nobody else uses, in a namespace that is kept from one test to the next.

        Args:
            logs: The folder of the database that keeps what is read there.
            changes: What else of the site is to be otherwise.
        """
        known = {
            "image": self.image,
            "instance": f"test-{uuid4().hex[:12]}",
            "namespace": "modelops-test",
            "logs": kept_outputs(logs),
        }
        # A request of all CPUs that a test names would find no room on a small node.
        return Site(**{**known, "cpu_reserved": 0.05, **changes})  # type: ignore[arg-type]

    def control(self, *command: str) -> str:
        """Call the lab's command and return what it printed."""
        assert self.lab is not None
        done = subprocess.run([self.lab, *command], check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout.strip()


@contextmanager
def cluster_under_test(lab: Path) -> Iterator[ClusterUnderTest | None]:
    """Give a cluster for the length of the block, or None where there is none.

    A lab that ran before goes on after; one that was started for tests ends with the last of the processes that use it.
    """
    if configured := os.environ.get("MODELOPS_TEST_KUBECONFIG"):
        yield ClusterUnderTest(configured, os.environ.get("MODELOPS_TEST_IMAGE", "python:3.12-slim"), None)
        return
    home = Path(os.environ.get("KUBE_LAB_HOME") or Path.home() / ".cache" / "kube-lab")
    if os.geteuid() != 0 or _status(lab).stdout == "not built\n":
        yield None
        return
    with (home / "tests.lock").open("a") as users:
        exported, image = _joined(users.fileno(), lab, home)
        try:
            yield ClusterUnderTest(exported, image, lab)
        finally:
            with suppress(BlockingIOError):  # others use it
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (home / "tests.own").exists():
                    (home / "tests.own").unlink()
                    subprocess.run([lab, "down"], check=True)


def _joined(users: int, lab: Path, home: Path) -> tuple[str, str]:
    """Have the lab run, hold the lock together with others, and return its kubeconfig and the image with Python.

    Whoever is alone starts it; whoever comes while others use it finds it up, or is alone as soon as they have ended it.
    """
    while True:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(users, fcntl.LOCK_SH)  # waits only while somebody starts or ends it
            if _status(lab).returncode != 0:
                fcntl.flock(users, fcntl.LOCK_UN)
                time.sleep(0.5)
                continue
        else:
            if _status(lab).returncode != 0:
                (home / "tests.own").touch()
        exported = subprocess.run([lab, "up"], check=True, stdout=subprocess.PIPE, text=True).stdout
        image = _image(lab, home)
        fcntl.flock(users, fcntl.LOCK_SH)
        return exported.strip().rpartition("=")[2], image


def _status(lab: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([lab, "status"], capture_output=True, text=True)


def _image(lab: Path, home: Path) -> str:
    """Return the image with this machine's Python, made where the lab has none. Its files lie where no pod has a volume."""
    base = Path(sys.base_prefix, "bin", "python3")
    name = f"localhost/modelops-test:{hashlib.sha256(str(base).encode()).hexdigest()[:10]}"
    if name not in _status(lab).stdout:
        subprocess.run([base, "-m", "venv", "--without-pip", home / "test-venv"], check=True)
        subprocess.run([lab, "python-image", name, home / "test-venv"], check=True, stdout=subprocess.DEVNULL)
    return name


def kept_outputs(folder: Path) -> Outputs:
    """Return a place for output in a database of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    database = Database(sqlite_url(folder / "outputs.db"))
    weakref.finalize(outputs := Outputs(database, SystemClock()), database.close)
    tables = [ClusterOutputRow.__table__, ClusterOutputPieceRow.__table__]
    Base.metadata.create_all(database.engine, tables=cast(list[Table], tables))
    return outputs


def end_jobs(backend: KubernetesJobBackend) -> None:
    """End and remove all that a backend keeps."""
    for name in backend.names():
        backend.stop(name, grace_s=0)
    for name in backend.names():
        wait_for(lambda name=name: backend.observe(name).ended or None)  # type: ignore[misc]
        backend.remove(name)


def platform_mounts() -> list[str]:
    """Return the folders of this machine that pods of the lab need to run the platform's own code, at the same paths."""
    found = {"/usr", sys.prefix, sys.base_prefix}
    for path in map(os.path.realpath, filter(None, sys.path)):
        if os.path.isdir(path) and not any(path == one or path.startswith(f"{one}/") for one in found):
            found.add(path)
    return sorted(found)

"""A cluster for tests: the one of `MODELOPS_TEST_KUBECONFIG`, or the lab of `tools/kube-lab`."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from modelops.adapters.kubernetes.cluster import Cluster
from modelops.adapters.kubernetes.jobs import KubernetesJobBackend
from modelops.adapters.kubernetes.settings import Site
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
        """Return a place that nobody else uses, in a namespace that is kept from one test to the next."""
        known = {
            "image": self.image,
            "instance": f"test-{uuid4().hex[:12]}",
            "namespace": "modelops-test",
            "logs": logs,
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
    """Give a cluster for the length of the block, or None where there is none. A lab that ran before goes on after."""
    if configured := os.environ.get("MODELOPS_TEST_KUBECONFIG"):
        yield ClusterUnderTest(configured, os.environ.get("MODELOPS_TEST_IMAGE", "python:3.12-slim"), None)
        return
    if os.geteuid() != 0 or subprocess.run([lab, "status"], capture_output=True, text=True).stdout == "not built\n":
        yield None
        return
    ran_before = subprocess.run([lab, "status"], capture_output=True).returncode == 0
    exported = subprocess.run([lab, "up"], check=True, stdout=subprocess.PIPE, text=True).stdout
    try:
        yield ClusterUnderTest(exported.strip().rpartition("=")[2], _image(lab), lab)
    finally:
        if not ran_before:
            subprocess.run([lab, "down"], check=True)


def _image(lab: Path) -> str:
    """Return the image with this machine's Python, made where the lab has none. Its files lie where no pod has a volume."""
    base = Path(sys.base_prefix, "bin", "python3")
    name = f"localhost/modelops-test:{hashlib.sha256(str(base).encode()).hexdigest()[:10]}"
    if name not in subprocess.run([lab, "status"], stdout=subprocess.PIPE, text=True).stdout:
        home = Path(os.environ.get("KUBE_LAB_HOME") or Path.home() / ".cache" / "kube-lab")
        subprocess.run([base, "-m", "venv", "--without-pip", home / "test-venv"], check=True)
        subprocess.run([lab, "python-image", name, home / "test-venv"], check=True, stdout=subprocess.DEVNULL)
    return name


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

"""A place in a real cluster, for the tests that make things happen there."""

import pytest

from modelops.adapters.kubernetes.jobs import KubernetesJobBackend
from modelops.testing.kubernetes import end_jobs


@pytest.fixture
def site(kubernetes, tmp_path):
    return kubernetes.site(tmp_path / "logs")


@pytest.fixture
def open_backend(kubernetes):
    opened = []

    def make(site):
        opened.append(KubernetesJobBackend(kubernetes.connect(), site))
        return opened[-1]

    yield make
    for backend in opened:
        end_jobs(backend)
        backend.close()


@pytest.fixture
def cluster(kubernetes):
    cluster = kubernetes.connect()
    yield cluster
    cluster.close()

import pytest

from modelops.adapters.kubernetes.jobs import KubernetesJobBackend
from modelops.testing.job_backend import JobBackendContract
from modelops.testing.kubernetes import end_jobs

pytestmark = pytest.mark.slow


@pytest.fixture
def backend(kubernetes, tmp_path):
    with KubernetesJobBackend(kubernetes.connect(), kubernetes.site(tmp_path / "logs")) as backend:
        yield backend
        end_jobs(backend)


class TestKubernetesJobBackend(JobBackendContract):
    @pytest.fixture
    def backend(self, backend):
        return backend

import pytest

from modelops.adapters.kubernetes.deployer import KubernetesDeployer
from modelops.testing.deployer import DeployerContract
from modelops.testing.waiting import wait_for

pytestmark = pytest.mark.slow


def end_workloads(deployer):
    for name in deployer.names():
        wait_for(lambda name=name: deployer.remove(name, grace_s=0))


class TestKubernetesDeployer(DeployerContract):
    @pytest.fixture
    def deployer(self, kubernetes, clock, tmp_path):
        with KubernetesDeployer(kubernetes.connect(), kubernetes.site(tmp_path / "logs"), clock) as deployer:
            yield deployer
            end_workloads(deployer)

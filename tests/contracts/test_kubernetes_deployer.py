import urllib.error
import urllib.request
from dataclasses import replace

import pytest

from modelops.adapters.kubernetes.deployer import KubernetesDeployer
from modelops.contracts.ports import Phase
from modelops.testing.deployer import NAME, DeployerContract
from modelops.testing.waiting import wait_for

pytestmark = pytest.mark.slow


def end_workloads(deployer):
    for name in deployer.names():
        wait_for(lambda name=name: deployer.remove(name, grace_s=0), within_s=180)


class TestKubernetesDeployer(DeployerContract):
    # A kubelet has the restarts to itself: at once, after 10 s, after 20 s, … up to five minutes.
    restart_delays_s = (0.0, 10.0)
    first_end_is_fleeting = True
    patience_s = 180.0

    @pytest.fixture
    def deployer(self, kubernetes, tmp_path):
        with KubernetesDeployer(kubernetes.connect(), kubernetes.site(tmp_path / "logs")) as deployer:
            yield deployer
            end_workloads(deployer)

    def wait_for_restart(self, deployer, spec, clock, restarts, delay_s):
        def again():
            deployer.apply(spec)
            return deployer.observe(NAME)[0].restarts == restarts + 1

        before = deployer.observe(NAME)[0].started_at if delay_s else None
        wait_for(again, within_s=self.patience_s)
        if before:
            after = wait_for(
                lambda: one.started_at if (one := deployer.observe(NAME)[0]).started_at != before else None
            )
            assert (after - before).total_seconds() >= delay_s - 1  # the times are of whole seconds

    def test_a_container_that_starts_again_has_the_newest_files(self, deployer, python):
        spec = self.workload(python)
        (before,) = self.ready(deployer, spec)
        spec = replace(spec, files={"unready": ""})
        wait_for(lambda: (deployer.apply(spec), self.unready_after_an_end(deployer, spec))[1])
        (after,) = deployer.observe(NAME)
        assert (after.restarts >= 1, after.endpoint) == (True, before.endpoint)
        assert "7" in after.reason

    def unready_after_an_end(self, deployer, spec):
        (seen,) = deployer.observe(NAME)
        if seen.ready:
            with pytest.raises((OSError, urllib.error.URLError)):
                urllib.request.urlopen(f"{seen.endpoint}/end", timeout=10)
            return (
                wait_for(lambda: (deployer.apply(spec), deployer.observe(NAME)[0].restarts > seen.restarts)[1]) and None
            )
        return seen.phase is Phase.RUNNING and seen.endpoint is not None and not seen.ready

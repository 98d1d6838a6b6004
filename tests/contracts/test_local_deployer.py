import json
import os
import signal
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.adapters.local import LocalDeployer
from modelops.adapters.local.backoff import LONGEST_S, failures_in_a_row, restart_delay_s
from modelops.adapters.local.probing import endpoint_of
from modelops.contracts.errors import InvalidInput
from modelops.contracts.ports import ClusterScaling, Deployer, Phase
from modelops.testing.clock import VirtualClock
from modelops.testing.deployer import NAME, DeployerContract
from modelops.testing.waiting import wait_for


def end_all(deployer):
    for name in deployer.names():
        wait_for(lambda name=name: deployer.remove(name, grace_s=0))


class TestLocalDeployer(DeployerContract):
    @pytest.fixture
    def root(self, tmp_path):
        return tmp_path / "workloads"

    @pytest.fixture
    def deployer(self, root, clock):
        with LocalDeployer(root, clock) as deployer:
            yield deployer
            end_all(deployer)

    @pytest.fixture
    def python(self):
        return sys.executable

    def test_it_is_a_deployer(self, deployer):
        assert isinstance(deployer, Deployer)

    def test_no_cluster_scales_what_is_in_none(self, deployer, python):
        spec = self.workload(python)
        with pytest.raises(InvalidInput, match="No cluster scales"):
            deployer.apply(replace(spec, scaling=ClusterScaling("hpa", 1, 2, 70)))
        assert deployer.names() == []
        deployer.apply(spec)
        assert deployer.scaled(NAME) is None

    def test_a_platform_that_comes_back_finds_everything(self, deployer, root, python):
        spec = self.workload(python, 2)
        before = self.ready(deployer, spec)
        with LocalDeployer(root, VirtualClock()) as other:
            other.apply(spec)
            assert other.observe(NAME) == before

    def test_the_restart_counter_survives_the_platform(self, deployer, root, python):
        spec = self.workload(python)
        os.kill(self.ready(deployer, spec)[0].pid, signal.SIGKILL)
        wait_for(lambda: deployer.observe(NAME)[0].phase is Phase.EXITED)
        with LocalDeployer(root, VirtualClock()) as other:
            assert self.ready(other, spec)[0].restarts == 1
        assert deployer.observe(NAME)[0].restarts == 1

    def test_a_replica_whose_supervisor_was_killed_is_started_again(self, deployer, root, python):
        spec = self.workload(python)
        pid = self.ready(deployer, spec)[0].pid
        state = json.loads((root / NAME / "0-0" / "state.json").read_bytes())
        os.kill(state["supervisor_pid"], signal.SIGKILL)
        wait_for(lambda: deployer.observe(NAME)[0].phase is Phase.LOST)
        seen = self.ready(deployer, spec)[0]
        assert seen.restarts == 1
        assert seen.pid != pid

    def test_only_the_last_ended_incarnations_are_kept(self, deployer, root, clock, python):
        spec = self.workload(python, code="print('up')")
        for restarts in range(6):
            deployer.apply(spec)
            clock.advance(60)
            deployer.apply(spec)
            wait_for(lambda: deployer.observe(NAME)[0].phase is Phase.EXITED)
            assert deployer.observe(NAME)[0].restarts == restarts
        assert sorted(path.name for path in (root / NAME).iterdir() if path.is_dir()) == ["0-2", "0-3", "0-4", "0-5"]

    def test_a_replica_that_hangs_is_not_ready(self, deployer, root, python):
        code = """
            import json, socket, time
            server = socket.create_server(('127.0.0.1', 0))
            with open('endpoint.json', 'w') as file:
                json.dump({'url': f'http://127.0.0.1:{server.getsockname()[1]}'}, file)
            time.sleep(600)
        """
        deployer.apply(self.workload(python, 2, code))
        works = [root / NAME / folder / "work" for folder in ("0-0", "1-0")]
        wait_for(lambda: all(endpoint_of(work) for work in works))
        assert [one.ready for one in deployer.observe(NAME)] == [False, False]


@pytest.mark.parametrize(
    ("content", "usable"),
    [
        ('{"url": "http://127.0.0.1:8000"}', True),
        ('{"url": "http://localhost:8000/base"}', True),
        ('{"url": "http://[::1]:8000"}', True),
        ('{"url": "http://169.254.169.254/latest"}', False),
        ('{"url": "https://127.0.0.1:8000"}', False),
        ('{"url": "file:///etc/passwd"}', False),
        ('{"url": "http://127.0.0.1.example.com"}', False),
        ('{"url": 3}', False),
        ('["url"]', False),
        ('{"url": "http://127.0.0', False),
        ("", False),
    ],
)
def test_only_addresses_of_this_machine_are_called(tmp_path, content, usable):
    (tmp_path / "endpoint.json").write_text(content)
    assert (endpoint_of(tmp_path) is not None) == usable


def test_back_off_grows_to_its_longest():
    assert [restart_delay_s(failures) for failures in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]


@given(st.integers(0, 10**6), st.floats(0, 10**9))
def test_back_off_is_bounded_and_forgets(failures, uptime_s):
    assert 0 <= restart_delay_s(failures) <= LONGEST_S
    assert restart_delay_s(failures) <= restart_delay_s(failures + 1)
    assert failures_in_a_row(failures, uptime_s) == (0 if uptime_s >= 60 else failures)

"""What a deployer promises."""

import textwrap
import urllib.request
from dataclasses import replace

import pytest

from modelops.contracts.errors import Conflict, InvalidInput
from modelops.contracts.ports import Deployer, Phase, ReplicaObservation, WorkloadSpec
from modelops.testing.clock import VirtualClock
from modelops.testing.job_backend import STUBBORN
from modelops.testing.waiting import wait_for

SERVER = """
    import http.server, json, os, signal, sys, threading

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == '/end':
                os._exit(7)
            ready = self.path != '/readyz' or not os.path.exists('unready')
            self.send_response(200 if ready else 503)
            self.end_headers()
            self.wfile.write(str(os.getpid()).encode())

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    other = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    told = {'url': f'http://127.0.0.1:{server.server_port}'}
    if os.path.exists('grpc'):
        told['grpc'] = f'127.0.0.1:{other.server_port}'
    with open('endpoint.new', 'w') as file:
        json.dump(told, file)
    os.rename('endpoint.new', 'endpoint.json')
    print('up', flush=True)
    server.serve_forever()
    print('drained', flush=True)
"""
NAME = "dep_0193c4-3"


class DeployerContract:
    """Derive from it and give the fixture `deployer`, on the clock of the fixture `clock`.

    Attributes:
        restart_delays_s: How long a replica that ended for the first time, the second, … waits to be started again.
        patience_s: How long anything may take: starting and ending take a cluster longer than a machine.
        first_end_is_fleeting: The first restart comes so soon that nobody may see the end before it.
    """

    restart_delays_s: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    first_end_is_fleeting = False
    patience_s = 60.0

    @pytest.fixture
    def clock(self) -> VirtualClock:
        """Return the clock that the deployer is to use."""
        return VirtualClock()

    @pytest.fixture
    def deployer(self, clock: VirtualClock) -> Deployer:
        """Return a deployer without workloads."""
        raise NotImplementedError("Give a fixture `deployer`.")

    @pytest.fixture
    def python(self) -> str:
        """Return how workloads call a Python interpreter."""
        return "python3"

    def workload(self, python: str, replicas: int = 1, code: str = SERVER) -> WorkloadSpec:
        """Return the spec of a workload that runs a piece of Python."""
        return WorkloadSpec(NAME, replicas, (python, "-c", textwrap.dedent(code)))

    def ready(self, deployer: Deployer, spec: WorkloadSpec) -> list[ReplicaObservation]:
        """Apply until all replicas are ready and no others are left, and return what is seen."""

        def step() -> list[ReplicaObservation] | None:
            deployer.apply(spec)
            seen = deployer.observe(spec.name)
            return seen if len(seen) == spec.replicas and all(one.ready for one in seen) else None

        return wait_for(step, within_s=self.patience_s)

    def ended(self, deployer: Deployer) -> list[ReplicaObservation]:
        """Wait until a replica has ended, and return what is seen of it."""
        return wait_for(
            lambda: [one for one in deployer.observe(NAME) if one.phase is Phase.EXITED], within_s=self.patience_s
        )

    def wait_for_restart(
        self, deployer: Deployer, spec: WorkloadSpec, clock: VirtualClock, restarts: int, delay_s: float
    ) -> None:
        """Pass the time until a replica that has ended is started again, and see that it is not before, nor much after.

        This is for deployers that start replicas again themselves, by their clock.
        """
        deployer.apply(spec)
        if delay_s:
            clock.advance(delay_s - 0.01)
            deployer.apply(spec)
            assert deployer.observe(NAME)[0].restarts == restarts
            clock.advance(0.02)
            deployer.apply(spec)

    def removed(self, deployer: Deployer, grace_s: float = 30.0) -> None:
        """Remove the workload until nothing is left of it."""
        wait_for(lambda: deployer.remove(NAME, grace_s=grace_s), within_s=self.patience_s)

    def test_replicas_become_ready_and_serve(self, deployer: Deployer, python: str) -> None:
        """Each replica is a process of its own with an endpoint of its own."""
        seen = self.ready(deployer, self.workload(python, 2))
        assert [one.index for one in seen] == [0, 1]
        assert {one.phase for one in seen} == {Phase.RUNNING}
        assert {one.restarts for one in seen} == {0}
        assert len({one.endpoint for one in seen}) == 2
        pids = {one.pid for one in seen}
        assert pids == {None} or len(pids) == 2, "elsewhere than on this machine a pid says nothing"
        for one in seen:
            with urllib.request.urlopen(f"{one.endpoint}/", timeout=10) as answer:  # noqa: S310 - of this machine
                assert answer.status == 200
        assert deployer.names() == [NAME]
        assert b"up" in deployer.log(NAME, 1)

    def test_what_is_not_there(self, deployer: Deployer) -> None:
        """Nothing is seen of it, and removing it is done at once."""
        assert deployer.observe("dep_nobody-1") == []
        assert deployer.log("dep_nobody-1", 0) == b""
        assert deployer.remove("dep_nobody-1")
        assert deployer.names() == []

    def test_applying_again_changes_nothing(self, deployer: Deployer, python: str) -> None:
        """The same replicas go on."""
        spec = self.workload(python, 2)
        before = self.ready(deployer, spec)
        deployer.apply(spec)
        assert deployer.observe(NAME) == before

    def test_scaling_keeps_the_lower_indices(self, deployer: Deployer, python: str) -> None:
        """More replicas come at the end, and go from there."""
        first = self.ready(deployer, self.workload(python, 1))
        second = self.ready(deployer, self.workload(python, 3))
        third = self.ready(deployer, self.workload(python, 1))
        assert len(second) == 3
        assert first == second[:1] == third

    def test_a_spec_is_for_good(self, deployer: Deployer, python: str) -> None:
        """Command and environment cannot change under a name."""
        spec = self.workload(python)
        deployer.apply(spec)
        for other in (replace(spec, env={"A": "B"}), replace(spec, argv=("true",))):
            with pytest.raises(Conflict):
                deployer.apply(other)

    def test_files_change_for_what_starts_after(self, deployer: Deployer, python: str) -> None:
        """What runs is left alone, with the files that it started with; what starts has the newest ones."""
        before = self.ready(deployer, self.workload(python, 1))
        spec = replace(self.workload(python, 2), files={"unready": ""})

        def started() -> list[ReplicaObservation] | None:
            deployer.apply(spec)
            seen = deployer.observe(NAME)
            return seen if len(seen) == 2 and seen[1].endpoint is not None else None

        after = wait_for(started)
        assert after[:1] == before
        assert not after[1].ready

    def test_a_replica_that_ends_is_started_again(self, deployer: Deployer, clock: VirtualClock, python: str) -> None:
        """At once the first time, then later and later; the restarts are counted, the reason is told."""
        spec = self.workload(python, code="raise SystemExit(4)")
        deployer.apply(spec)
        for restarts, delay in enumerate(self.restart_delays_s):
            if restarts or not self.first_end_is_fleeting:
                ended = self.ended(deployer)
                assert ended[0].restarts == restarts
                assert "4" in (ended[0].reason or "")
            self.wait_for_restart(deployer, spec, clock, restarts, delay)
            assert deployer.observe(NAME)[0].restarts == restarts + 1

    def test_a_port_for_grpc_is_told(self, deployer: Deployer, python: str) -> None:
        """Where a replica has one, it is reached there."""
        spec = replace(self.workload(python), files={"grpc": ""}, grpc=True)
        (seen,) = self.ready(deployer, spec)
        assert seen.grpc_endpoint is not None
        assert f"http://{seen.grpc_endpoint}" != seen.endpoint
        with urllib.request.urlopen(f"http://{seen.grpc_endpoint}/", timeout=10) as answer:
            assert answer.status == 200

    def test_a_replica_that_is_not_ready(self, deployer: Deployer, python: str) -> None:
        """It runs, has an endpoint, and answers `/readyz` with something else than 200."""
        spec = replace(self.workload(python), files={"unready": ""})
        deployer.apply(spec)
        seen = wait_for(lambda: [one for one in deployer.observe(NAME) if one.endpoint is not None])
        assert (seen[0].phase, seen[0].ready) == (Phase.RUNNING, False)

    def test_removal_drains(self, deployer: Deployer, python: str) -> None:
        """SIGTERM lets a replica end by itself, and then nothing is left of it."""
        self.ready(deployer, self.workload(python, 2))
        self.removed(deployer)
        assert deployer.observe(NAME) == []
        assert deployer.names() == []

    def test_removal_ends_what_does_not_listen(self, deployer: Deployer, python: str) -> None:
        """After the grace a replica is ended by force."""
        deployer.apply(self.workload(python, code=STUBBORN))
        wait_for(lambda: b"up" in deployer.log(NAME, 0))
        self.removed(deployer, grace_s=0.2)
        assert deployer.names() == []

    def test_a_removed_name_is_free_again(self, deployer: Deployer, python: str) -> None:
        """Another spec may take it."""
        deployer.apply(self.workload(python))
        self.removed(deployer, grace_s=0.0)
        other = replace(self.workload(python), env={"OTHER": "spec"})
        assert self.ready(deployer, other)[0].restarts == 0

    @pytest.mark.parametrize("name", ["", "..", "../other", "a/b", ".hidden"])
    def test_names_that_are_paths_are_refused(self, deployer: Deployer, name: str) -> None:
        """A name never leads out of the deployer's place."""
        with pytest.raises(InvalidInput):
            deployer.apply(WorkloadSpec(name, 1, ("true",)))
        with pytest.raises(InvalidInput):
            deployer.remove(name)

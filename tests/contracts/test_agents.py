import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from modelops.adapters.agents import wire
from modelops.adapters.agents.agent import Agent, Machine
from modelops.adapters.agents.answering import answer
from modelops.adapters.agents.door import AgentDoor, read_question
from modelops.adapters.agents.forwarding import AgentDeployer, AgentJobBackend
from modelops.adapters.agents.registry import Registry
from modelops.adapters.agents.tables import AgentProcessRow
from modelops.adapters.local import LocalDeployer, LocalJobBackend
from modelops.contracts.clock import SystemClock
from modelops.contracts.errors import Unauthenticated
from modelops.contracts.ports import JobSpec, Phase, WorkloadSpec
from modelops.kernel.database import Base, Database, sqlite_url
from modelops.kernel.secrets import SecretBox
from modelops.testing.clock import VirtualClock
from modelops.testing.deployer import DeployerContract
from modelops.testing.job_backend import SLEEP, JobBackendContract
from modelops.testing.waiting import wait_for

BOX = SecretBox(b"a secret of the platform")


class Driven:
    """A port whose agents have a turn before and after each call, so that what is asked is done."""

    def __init__(self, port, *agents):
        self.port, self.agents = port, list(agents)

    def turns(self):
        for agent in self.agents:
            agent.turn()

    def __getattr__(self, name):
        def call(*given, **named):
            self.turns()
            try:
                return getattr(self.port, name)(*given, **named)
            finally:
                self.turns()

        return call


class LocalDoor(AgentDoor):
    """Asks an agent of this process by the words that it would be asked with."""

    def __init__(self, clock, backends):
        super().__init__(BOX, clock)
        self.backends = backends

    def _ask(self, url, host, what):
        return answer(*self.backends[url], what)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tmp_path):
    url = sqlite_url(tmp_path / "agents.db")
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_database")
    database = Database(url)
    with database._writer.begin() as connection:
        Base.metadata.create_all(connection)
    yield database
    database.close()


@pytest.fixture
def cluster(database, tmp_path):
    with Cluster(database, tmp_path) as cluster:
        yield cluster


class Cluster:
    def __init__(self, database, folder, clock=None):
        self.database, self.folder = database, folder
        self.clock = clock or SystemClock()
        self.backends = {}
        self.registry = Registry(database, self.clock, 60)
        self.door = LocalDoor(self.clock, self.backends)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for jobs, deployer in self.backends.values():
            for name in jobs.names():
                jobs.stop(name, grace_s=0)
            for name in deployer.names():
                wait_for(lambda name=name, deployer=deployer: deployer.remove(name, grace_s=0))
            for name in jobs.names():
                wait_for(lambda name=name, jobs=jobs: jobs.observe(name).ended)
            deployer.close()
        self.door.close()

    def agent(self, name, slots=4):
        home = self.folder / name
        home.mkdir(exist_ok=True)
        jobs, deployer = LocalJobBackend(home / "jobs"), LocalDeployer(home / "deployments", self.clock)
        self.backends[name] = (jobs, deployer)
        return Agent(
            self.database,
            self.clock,
            BOX,
            jobs,
            deployer,
            Machine(home, name, name, slots),
            timeout_s=60,
            start_within_s=60,
            changed=lambda: None,
        )

    def jobs(self):
        return AgentJobBackend(self.registry, self.clock, BOX, self.door, lambda: None)

    def deployer(self):
        return AgentDeployer(self.registry, self.clock, BOX, self.door, lambda: None)


class TestJobsOfAgents(JobBackendContract):
    @pytest.fixture
    def backend(self, cluster):
        return Driven(cluster.jobs(), cluster.agent("a"))

    @pytest.fixture
    def python(self):
        return sys.executable


class TestWorkloadsOfAgents(DeployerContract):
    @pytest.fixture
    def deployer(self, database, tmp_path, clock):
        with Cluster(database, tmp_path, clock) as cluster:
            yield Driven(cluster.deployer(), cluster.agent("a"))

    @pytest.fixture
    def python(self):
        return sys.executable


def sleeper(name="job_0193c4-1"):
    return JobSpec(name, (sys.executable, "-c", SLEEP))


def phase(backend, name="job_0193c4-1"):
    return backend.observe(name).phase


def test_each_attempt_is_taken_by_one_agent_while_it_has_a_slot(cluster):
    backend, first, second = cluster.jobs(), cluster.agent("a", slots=2), cluster.agent("b", slots=1)
    for number in range(4):
        backend.start(sleeper(f"job_{number}-1"))
    for _ in range(3):
        first.turn()
        second.turn()
    taken = [set(cluster.backends[name][0].names()) for name in ("a", "b")]
    assert [len(names) for names in taken] == [2, 1]
    assert not taken[0] & taken[1]
    waiting = {f"job_{number}-1" for number in range(4)} - taken[0] - taken[1]
    assert phase(backend, waiting.pop()) is Phase.STARTING


def test_workers_take_no_slot(cluster):
    agent = cluster.agent("a", slots=1)
    for name in ("job_1-1", "wrk_1", "wrk_2"):
        cluster.jobs().start(sleeper(name))
    agent.turn()
    assert cluster.backends["a"][0].names() == ["job_1-1", "wrk_1", "wrk_2"]


def test_an_agent_that_leaves_takes_nothing_more(cluster):
    agent = cluster.agent("a")
    agent.leave()
    cluster.jobs().start(sleeper())
    agent.turn()
    assert cluster.backends["a"][0].names() == []
    assert agent.alive() == []


def test_what_no_agent_took_ends_at_once_when_it_is_stopped(cluster):
    backend, agent = cluster.jobs(), cluster.agent("a")
    backend.start(sleeper())
    backend.stop("job_0193c4-1", reason="nobody wants it")
    assert backend.observe("job_0193c4-1").reason == "nobody wants it"
    agent.turn()
    assert cluster.backends["a"][0].names() == []


def test_two_controllers_that_start_an_attempt_at_once_start_one(cluster):
    agent, backend = cluster.agent("a"), cluster.jobs()
    with cluster.database.work() as session:
        backend._put(session, "job_0193c4-1", b"{}")
        session.flush()
        session.expunge_all()
        backend._put(session, "job_0193c4-1", b"another")
    backend.start(sleeper())
    assert backend.names() == ["job_0193c4-1"]
    assert agent.id


def test_an_agent_that_was_killed_finds_its_jobs_again(cluster):
    backend, before = cluster.jobs(), cluster.agent("a")
    backend.start(sleeper())
    driven = Driven(backend, before)
    seen = wait_for(lambda: seen if (seen := driven.observe("job_0193c4-1")).phase is Phase.RUNNING else None)
    after = cluster.agent("a")
    assert after.id == before.id
    after.turn()
    assert backend.observe("job_0193c4-1") == seen


@pytest.fixture
def timed(database, tmp_path):
    with Cluster(database, tmp_path, VirtualClock()) as cluster:
        yield cluster


def test_the_jobs_of_a_silent_agent_are_lost_for_good_and_ended_when_it_comes_back(timed):
    backend, agent = timed.jobs(), timed.agent("a")
    backend.start(sleeper())
    wait_for(lambda: Driven(backend, agent).observe("job_0193c4-1").phase is Phase.RUNNING)
    for _ in range(3):
        timed.clock.advance(25)
        backend.names()  # the controller goes on to look
    lost = backend.observe("job_0193c4-1")
    assert lost.phase is Phase.LOST
    assert "not heard of for 60 s" in lost.reason
    agent._sweep_at = 0.0
    agent.turn()
    local = timed.backends["a"][0]
    wait_for(lambda: local.observe("job_0193c4-1").ended)
    agent.turn()
    assert backend.observe("job_0193c4-1") == lost


def test_who_could_not_look_takes_nobody_for_gone(timed):
    backend, agent = timed.jobs(), timed.agent("a")
    backend.start(sleeper())
    wait_for(lambda: Driven(backend, agent).observe("job_0193c4-1").phase is Phase.RUNNING)
    timed.clock.advance(1000)  # the database was away for both
    assert phase(backend) is Phase.RUNNING
    agent.turn()
    assert phase(backend) is Phase.RUNNING


def test_an_attempt_that_nobody_took_in_time_is_not_begun_late(timed):
    backend, agent = timed.jobs(), timed.agent("a")
    backend.start(sleeper())
    timed.clock.advance(61)
    agent.turn()
    assert timed.backends["a"][0].names() == []


def test_a_workload_moves_from_an_agent_that_is_gone(timed):
    deployer, first, second = timed.deployer(), timed.agent("a"), timed.agent("b")
    spec = WorkloadSpec("dep_1-1", 1, (sys.executable, "-c", SLEEP))
    deployer.apply(spec)
    first.turn()
    assert len(deployer.observe("dep_1-1")) == 1
    for _ in range(3):
        timed.clock.advance(25)
        deployer.apply(spec)
    assert deployer.observe("dep_1-1") == []
    second.turn()
    assert timed.backends["b"][1].names() == ["dep_1-1"]
    assert len(deployer.observe("dep_1-1")) == 1
    first._sweep_at = 0.0
    first.turn()
    wait_for(lambda: timed.backends["a"][1].remove("dep_1-1", grace_s=0))


def test_a_folder_that_was_emptied_is_a_loss_and_no_second_start(cluster):
    backend, agent = cluster.jobs(), cluster.agent("a")
    backend.start(JobSpec("job_0193c4-1", (sys.executable, "-c", SLEEP)))
    agent.turn()
    local = cluster.backends["a"][0]
    local.stop("job_0193c4-1", grace_s=0)
    wait_for(lambda: local.observe("job_0193c4-1").ended)
    local.remove("job_0193c4-1")
    agent.turn()
    assert backend.observe("job_0193c4-1").reason == "was lost: its folder is gone"
    assert local.names() == []


def test_specs_are_sealed_and_change_to_the_agents_own_places(cluster, tmp_path):
    token = "a token that nobody may read"
    cluster.jobs().start(
        JobSpec("job_1-1", ("/there/python", "-m", "modelops.runtime", "train"), files={"token": token})
    )
    with cluster.database.work(write=False) as session:
        row = session.get_one(AgentProcessRow, "job_1-1")
    assert token not in row.spec
    spec = wire.JOBS.validate_json(wire.unseal(BOX, "job_1-1", row.spec))
    env = {"MODELOPS_CACHE": "/there/cache", "MODELOPS_SPOOL": "/there/spool/dep_1", "OTHER": "/there"}
    here = wire.at_home(WorkloadSpec("dep_1-1", 1, spec.argv, env), tmp_path, "10.0.0.7")
    assert here.argv == (sys.executable, "-m", "modelops.runtime", "train")
    assert here.env == {
        "MODELOPS_CACHE": str(tmp_path / "cache"),
        "MODELOPS_SPOOL": str(tmp_path / "spool" / "dep_1"),
        "OTHER": "/there",
        "MODELOPS_BIND": "10.0.0.7",
    }


def test_only_who_has_the_secret_key_is_answered():
    now = datetime.now(UTC)
    asked = json.dumps({"what": "usage", "name": "job_1-1", "until": (now + timedelta(seconds=5)).isoformat()}).encode()
    sealed = BOX.seal(asked, "agent-door")
    assert read_question(BOX, f"Bearer {sealed}", now)["name"] == "job_1-1"
    other = SecretBox(b"another").seal(asked, "agent-door")
    for header, moment in [
        (None, now),
        ("Bearer nonsense", now),
        (sealed, now),
        (f"Bearer {other}", now),
        (f"Bearer {sealed}", now + timedelta(seconds=6)),
    ]:
        with pytest.raises(Unauthenticated):
            read_question(BOX, header, moment)

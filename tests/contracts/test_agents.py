import sys

import pytest

from modelops.adapters.agents.agent import Agent, Machine
from modelops.adapters.agents.answering import answer
from modelops.adapters.agents.door import AgentDoor
from modelops.adapters.agents.forwarding import AgentDeployer, AgentJobBackend
from modelops.adapters.agents.registry import Registry
from modelops.adapters.local import LocalDeployer, LocalJobBackend
from modelops.contracts.clock import SystemClock
from modelops.kernel.database import Base, Database, sqlite_url
from modelops.kernel.secrets import SecretBox
from modelops.testing.deployer import DeployerContract
from modelops.testing.job_backend import JobBackendContract
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

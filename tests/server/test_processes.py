"""The platform as processes of three kinds on PostgreSQL: real ones, and what keeps them from harming each other."""

import json
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from moto.server import ThreadedMotoServer
from tests.journeys.cluster import Cluster

from modelops.adapters.agents.tables import AgentRow
from modelops.contracts.errors import Conflict, InvalidInput, Unauthenticated, Unavailable
from modelops.contracts.settings import load_settings
from modelops.domains.identity import service as identity
from modelops.kernel.database import Database
from modelops.server import processes
from modelops.server.artifacts import make_bucket
from modelops.server.bell import Bell
from modelops.server.engines import own_address
from modelops.server.health import check_health
from modelops.server.home import HomeLock
from modelops.server.membership import Membership
from modelops.server.migrate import take_turn
from modelops.server.platform import open_platform
from modelops.server.probes import Probes
from modelops.testing.platform import running_platform
from modelops.testing.waiting import wait_for

KEY = "mops_" + "a" * 43


@pytest.fixture
def cluster(tmp_path, postgres_database):
    cluster = Cluster(tmp_path, postgres_database)
    yield cluster
    cluster.close()


@pytest.mark.slow
def test_a_job_passes_through_all_three_kinds(cluster):
    api, controller, agent = (cluster.add(kind, start=False) for kind in ("api", "controller", "agent"))
    for process in (api, controller, agent):
        process.start(wait=False)
    for process in (api, controller, agent):
        wait_for(process.is_ready, within_s=120)
        assert process.probe("/health/live") == 200
    with cluster.client() as client:
        client.data.create_dataset("d")
        client.data.create_dataset_version("d", b"a\n1\n", format="csv")
        parameters = {"function": "modelops.testing.tasks:tell_time", "arguments": {}}
        job = client.training.submit_job("python-function", "d", parameters=parameters)
        ended = client.training.wait_for_job(job.id, within_s=120)
        assert ended.state == "succeeded", ended
        assert client.training.get_job_usage(job.id).attempt == 1
        assert client.training.get_job_log(job.id).complete
    assert (agent.home / "jobs" / f"{job.id}-1").is_dir()
    assert not (controller.home / "jobs").exists()
    for process in (api, controller, agent):
        assert process.stop() == 0
        lines = [json.loads(line) for line in process.log.read_text().splitlines()]
        assert {line["level"] for line in lines} <= {"info", "warning"}


@pytest.fixture
def settings(tmp_path, postgres_database, monkeypatch):
    """Returns settings of a cluster's process; starting one leaves this process's log alone."""
    monkeypatch.setattr(processes, "configure", lambda **_: None)

    def load(home="home", **given):
        common = {"database": postgres_database, "secret_key": "s", "admin_key": KEY, "port": 0, "probe_port": 0}
        return load_settings(home=tmp_path / home, **{**common, **given})

    return load


@pytest.mark.parametrize("run", [processes.run_api, processes.run_controller, processes.run_agent])
def test_sqlite_is_refused(settings, run):
    with pytest.raises(InvalidInput, match="need PostgreSQL"):
        run(settings(database="sqlite:///x.db", public_url="http://api"))


def test_a_controller_must_know_the_api(settings):
    with pytest.raises(InvalidInput, match="MODELOPS_PUBLIC_URL"):
        processes.run_controller(settings())


def test_one_home_folder_has_one_agent(settings):
    chosen = settings()
    chosen.home.mkdir()
    lock = HomeLock(chosen.home, "agent.lock")
    lock.acquire()
    with pytest.raises(Conflict):
        processes.run_agent(chosen)
    lock.release()


def test_another_secret_key_is_noticed_before_anything_is_done(settings):
    open_platform(settings(), by_agents=True).close()
    with pytest.raises(InvalidInput, match="secret key"):
        processes.run_agent(settings("other", secret_key="another"))
    with pytest.raises(InvalidInput, match="secret key"):
        processes.run_api(settings("other", secret_key="another"))


def test_one_tree_and_single_processes_keep_apart(postgres_database):
    database = Database(postgres_database)
    first, second, alone = Membership(database), Membership(database), Membership(database)
    first.join(alone=False)
    second.join(alone=False)
    with pytest.raises(Conflict, match="Other processes"):
        alone.join(alone=True)
    first.leave()
    second.leave()
    wait_for(lambda: alone.try_join(alone=True))
    with pytest.raises(Conflict, match="mops up"):
        first.join(alone=False)
    alone.leave()
    database.close()


def test_a_bell_is_heard_by_others_alone(postgres_database):
    database, heard, echoed = Database(postgres_database), threading.Event(), threading.Event()
    ringing, hearing = Bell(database, echoed.set), Bell(database, heard.set)

    def rung():
        ringing.ring()
        return heard.wait(0.2)

    wait_for(rung)
    assert not echoed.is_set()
    ringing.close()
    hearing.close()
    database.close()


def test_of_many_first_starts_one_makes_the_administrator(settings):
    platform = open_platform(settings(), by_agents=True)
    with platform.place.work() as ctx:
        for table in ("api_keys", "memberships", "principals", "projects", "tenants", "signing_keys"):
            ctx.session.connection().exec_driver_sql(f"TRUNCATE {table} CASCADE")

    def set_up(_):
        with platform.place.work() as ctx:
            take_turn(ctx.session)
            return identity.set_up(ctx)

    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(set_up, range(8)))
    assert sorted(keys, key=str) == [None] * 7 + [KEY]
    platform.close()


def test_the_administrators_key_may_be_chosen(tmp_path):
    with running_platform(tmp_path / "home", admin_key=KEY) as platform:
        assert platform.client(KEY).identity.get_me().name == "admin"
    with pytest.raises(InvalidInput, match="MODELOPS_ADMIN_KEY"):
        open_platform(load_settings(home=tmp_path / "other", admin_key="secret"))


def test_room_is_what_the_agents_that_are_heard_of_have(settings):
    platform = open_platform(settings(), by_agents=True)
    with platform.place.work() as ctx:
        [check] = [check for check in check_health(ctx) if check.name == "agents"]
        assert not check.healthy
        now = ctx.clock.now()
        for number, slots in enumerate((2, 3)):
            ctx.session.add(
                AgentRow(
                    id=f"agt_{number}", host="h", url="u", slots=slots, draining=False, started_at=now, heard_at=now
                )
            )
    with platform.place.work(write=False) as ctx:
        room = next(port for kind, port in ctx.ports.items() if kind.__name__ == "JobRoom")
        assert room.of(ctx) == 5
        [check] = [check for check in check_health(ctx) if check.name == "agents"]
        assert check.detail == "Heard of: h (2 slots), h (3 slots)."
    platform.close()


def ask(port, path, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def test_probes_tell_how_a_process_is():
    wrong = []

    def check_ready():
        if wrong:
            raise wrong[0]

    def output(authorization):
        if authorization is None:
            raise Unauthenticated("Who asks?")
        return b"said"

    probes = Probes("127.0.0.1", 0, "agent", check_ready, {"/output": output})
    try:
        assert ask(probes.port, "/health/live")[0] == ask(probes.port, "/health/ready")[0] == 200
        wrong.append(Unavailable("The database is away."))
        assert ask(probes.port, "/health/ready")[0] == 503
        assert ask(probes.port, "/health/live")[0] == 200
        wrong[0] = ValueError("a defect")
        assert ask(probes.port, "/health/ready") == (500, b"")
        assert ask(probes.port, "/elsewhere")[0] == 404
        assert ask(probes.port, "/output")[0] == 401
        assert ask(probes.port, "/output", Authorization="Bearer x") == (200, b"said")
    finally:
        probes.close()


def test_an_api_tells_its_health_by_the_same_names(sqlite_platform):
    with sqlite_platform.http() as http:
        assert http.get("/health/live").status_code == http.get("/health/ready").status_code == 200
        sqlite_platform.app.state.draining = True
        assert http.get("/health/ready").status_code == 503


def test_the_bucket_is_made_once(tmp_path):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {"s3_endpoint": f"http://{host}:{port}", "s3_access_key": "k", "s3_secret_key": "s"}
    try:
        settings = load_settings(home=tmp_path, s3_bucket="artifacts-of-a-cluster", **given)
        assert [make_bucket(settings), make_bucket(settings)] == [True, False]
        with pytest.raises(InvalidInput, match="No bucket"):
            make_bucket(load_settings(home=tmp_path, **given))
    finally:
        server.stop()


def test_a_machine_has_an_address_for_others_or_none(tmp_path):
    assert own_address(load_settings(home=tmp_path)) is None
    assert own_address(load_settings(home=tmp_path, agent_host="localhost")) is None
    assert own_address(load_settings(home=tmp_path, agent_host="192.0.2.7")) == "192.0.2.7"
    with pytest.raises(InvalidInput, match="cannot be looked up"):
        own_address(load_settings(home=tmp_path, agent_host="no.such.host.invalid"))

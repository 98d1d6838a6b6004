"""`mops server`: the platform as processes of three kinds, in any number, on one PostgreSQL.

`api` answers requests, `controller` brings about what is wanted, `agent` runs jobs and workloads on its machine.
"""

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

from sqlalchemy import text

from modelops.adapters.agents.agent import Agent, Machine
from modelops.adapters.agents.answering import answer
from modelops.adapters.agents.door import PATH, read_question
from modelops.contracts.clock import SystemClock
from modelops.contracts.errors import InvalidInput, Unavailable
from modelops.contracts.ports import Deployer, JobBackend
from modelops.contracts.settings import Settings
from modelops.contracts.terminal import say
from modelops.domains.identity import service as identity
from modelops.kernel.database import Database
from modelops.kernel.logs import configure
from modelops.kernel.secrets import SecretBox
from modelops.kernel.work import Workplace
from modelops.sdk.connection import SignIn, write_sign_in
from modelops.server.bell import Bell
from modelops.server.engines import own_address, this_machine
from modelops.server.home import HomeLock
from modelops.server.listener import bind, url_of
from modelops.server.membership import Membership
from modelops.server.migrate import upgrade
from modelops.server.platform import Platform, database_url, open_box, open_platform
from modelops.server.probes import Probes
from modelops.server.up import serve

log = logging.getLogger(__name__)

_BUSY_S = 0.1
"""How often an agent looks at its processes while there is news of them."""
_END_S = 0.05


def run_api(settings: Settings) -> int:
    """Answer requests until SIGINT or SIGTERM, and return the exit code.

    Raises:
        InvalidInput: the settings are not for several processes.
        Conflict: a `mops up` runs on the database, or the port is taken.
        MLOpsError: the data cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(bind(settings.host, settings.port))
        platform = _open(settings, stack)
        platform.url.set(url_of(sock, settings.host))
        platform.watch()
        platform.listen(wakes_controller=False)
        serve(platform, sock, lambda: log.info("the API is ready", extra={"url": platform.url.get()}))
    return 0


def run_controller(settings: Settings) -> int:
    """Bring about what is wanted until SIGINT or SIGTERM, and return the exit code. Raises as `run_api`."""
    if settings.public_url is None:
        raise InvalidInput(
            "A controller does not know where jobs and runtimes reach the API.",
            hint="Name it: `MODELOPS_PUBLIC_URL=http://…`.",
        )
    ending = _ending()
    with contextlib.ExitStack() as stack:
        platform = _open(settings, stack)

        def check_ready() -> None:
            _check_ready(platform.place, ending)

        probes = Probes(settings.host, settings.probe_port, "controller", check_ready)
        stack.callback(probes.close)
        platform.listen(wakes_controller=True)
        platform.start_controller(alone=False)
        log.info("the controller is ready", extra={"probe_port": probes.port})
        ending.wait()
        log.info("the controller finishes its steps and gives its leases back")
    return 0


def run_agent(settings: Settings, *, keep_children: bool = False) -> int:
    """Run jobs and workloads on this machine until SIGINT or SIGTERM, and return the exit code. Raises as `run_api`.

    Args:
        settings: What holds.
        keep_children: Leave what runs running at the end: the next agent of this home folder goes on with it.
    """
    _check(settings)
    ending = _ending()
    with contextlib.ExitStack() as stack:
        lock = HomeLock(settings.home, "agent.lock")
        lock.acquire()
        stack.callback(lock.release)
        database = Database(database_url(settings), pool=settings.database_pool)
        stack.callback(database.close)
        _join(database, stack)
        upgrade(database)
        box = open_box(settings)
        place = Workplace(database, {SecretBox: box}, SystemClock(), settings)
        stack.callback(place.writer.close)
        with place.work(write=False) as ctx:
            identity.check_secret_key(ctx)
        machine = this_machine(settings, place.clock)
        stack.callback(machine.close)
        jobs, deployer = machine.jobs, machine.deployer

        def output(authorization: str | None) -> bytes:
            return answer(jobs, deployer, read_question(box, authorization, place.clock.now()))

        def check_ready() -> None:
            _check_ready(place, ending)

        probes = Probes(settings.host, settings.probe_port, "agent", check_ready, {PATH: output})
        stack.callback(probes.close)
        bell = Bell(database, place.changed.set)
        stack.callback(bell.close)
        agent = Agent(
            database,
            place.clock,
            box,
            jobs,
            deployer,
            _machine(settings, probes.port),
            timeout_s=settings.agent_timeout_s,
            start_within_s=settings.job_start_timeout_s,
            changed=bell.ring,
        )
        log.info("the agent is ready", extra={"agent": agent.id, "probe_port": probes.port})
        _look_after(agent, place, ending)
        _leave(agent, settings.drain_s, jobs, deployer, keep_children=keep_children)
    return 0


def _open(settings: Settings, stack: contextlib.ExitStack) -> Platform:
    _check(settings)
    platform = open_platform(settings, by_agents=True)
    stack.callback(platform.close)
    if platform.first_key is not None and settings.admin_key is None:
        file = write_sign_in(settings.home, SignIn(settings.public_url, platform.first_key))
        say(
            f"The administrator is 'admin', and its API key is shown this once:\n\n    {platform.first_key}\n\n({file})"
        )
    _join(platform.place.database, stack)
    return platform


def _check(settings: Settings) -> None:
    configure(debug=settings.debug, log_format=settings.log_format)
    if settings.database is None or settings.database.get_secret_value().startswith("sqlite"):
        raise InvalidInput(
            "Several processes need PostgreSQL: SQLite has one writer, on one machine.",
            hint="Set `MODELOPS_DATABASE=postgresql+psycopg://…`, or run all of it in one process with `mops up`.",
        )
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)


def _join(database: Database, stack: contextlib.ExitStack) -> None:
    membership = Membership(database)
    membership.join(alone=False)
    stack.callback(membership.leave)


def _ending() -> threading.Event:
    """Return what is set when this process is asked to end."""
    ending = threading.Event()

    def end(_sig: int, _frame: FrameType | None) -> None:
        ending.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    return ending


def _check_ready(place: Workplace, ending: threading.Event) -> None:
    with place.work(write=False) as ctx:
        ctx.session.execute(text("SELECT 1"))
    if ending.is_set():
        raise Unavailable("It is shutting down.")


def _machine(settings: Settings, port: int) -> Machine:
    address = own_address(settings)
    host = address or "127.0.0.1"
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return Machine(settings.home, socket.gethostname(), url, settings.max_running_jobs, address)


def _look_after(agent: Agent, place: Workplace, ending: threading.Event) -> None:
    while not ending.is_set():
        is_busy = _turn(agent)
        place.changed.wait(_BUSY_S if is_busy else place.settings.controller_interval_s)
        place.changed.clear()


def _turn(agent: Agent) -> bool:
    try:
        return agent.turn()
    except Exception as wrong:
        # The database may be away for a while; what runs goes on meanwhile.
        log.warning("the agent cannot do its work now: %s", wrong)
        return False


def _leave(agent: Agent, grace_s: float, jobs: JobBackend, deployer: Deployer, *, keep_children: bool) -> None:
    """Take nothing more, end what runs unless it is to be kept, and write down how it ended."""
    log.info("the agent takes nothing more")
    _tried(agent.leave)
    if not keep_children:
        for name in jobs.names():
            if not jobs.observe(name).ended:
                jobs.stop(name, grace_s=grace_s, reason="its agent was shut down")
        deadline = threading.Event()
        timer = threading.Timer(grace_s + 5, deadline.set)
        timer.daemon = True
        timer.start()
        while agent.alive() and not deadline.wait(_END_S):
            for name in deployer.names():
                deployer.remove(name, grace_s=grace_s)
        timer.cancel()
        for name in agent.alive():
            log.warning("still running at the end", extra={"process": name})
    _turn(agent)


def _tried(action: Callable[[], None]) -> None:
    try:
        action()
    except Exception as wrong:
        log.warning("the database was not told of it: %s", wrong)

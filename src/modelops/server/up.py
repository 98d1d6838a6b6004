"""`mops up`: one process tree with everything in it, from the lock on the home folder to the last child's end."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType

from modelops.contracts.settings import Settings
from modelops.contracts.terminal import say
from modelops.kernel.logs import configure
from modelops.sdk.connection import SignIn, read_sign_in, write_sign_in
from modelops.server.engines import Engines
from modelops.server.home import HomeLock
from modelops.server.listener import bind, build_server, url_of
from modelops.server.membership import Membership
from modelops.server.platform import Platform, open_platform

log = logging.getLogger(__name__)


def run_platform(settings: Settings, *, keep_children: bool = False) -> int:
    """Run a platform until SIGINT or SIGTERM, and return the exit code.

    Raises:
        Conflict: another platform runs on this home, or the port is taken.
        MLOpsError: the data cannot be opened.
    """
    began = time.monotonic()
    configure(debug=settings.debug, log_format=settings.log_format)
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = HomeLock(settings.home)
    lock.acquire()
    with contextlib.ExitStack() as stack:
        stack.callback(lock.release)
        sock = stack.enter_context(bind(settings.host, settings.port))
        platform = open_platform(settings)
        membership = Membership(platform.place.database)
        stack.callback(membership.leave)
        try:
            membership.join(alone=True)
        except BaseException:
            platform.close()
            raise
        if not keep_children:
            stack.callback(_end_children, platform)
        stack.callback(platform.close)
        url = settings.public_url or url_of(sock, settings.host)
        platform.url.set(url)
        platform.start_controller()

        def ready() -> None:
            _announce(platform, url, time.monotonic() - began)
            lock.describe({"pid": os.getpid(), "url": url})

        serve(platform, sock, ready)
    return 0


def serve(platform: Platform, sock: socket.socket, ready: Callable[[], None]) -> None:
    """Answer requests on a socket until SIGINT or SIGTERM, and then finish those under way.

    Args:
        platform: What to serve.
        sock: Bound and listening.
        ready: Called once requests are answered.
    """
    server = build_server(platform)
    handle_exit = server.handle_exit

    def drain(sig: int, frame: FrameType | None) -> None:
        platform.app.state.draining = True
        handle_exit(sig, frame)

    server.handle_exit = drain  # type: ignore[method-assign]

    async def announce_and_serve() -> None:
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        if server.started:
            ready()
            _settle_memory()
        await serving

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        signal.signal(signal.SIGTERM, drain)
        try:
            runner.run(announce_and_serve())
        except KeyboardInterrupt:
            log.info("interrupted")
    log.info("the API has stopped")


def _settle_memory() -> None:
    """Keep the collector of garbage from walking what stays for good, code above all, again and again.

    An answer of thousands of values makes it look every few hundred of them by default, which took most of such an
    answer's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _announce(platform: Platform, url: str, seconds: float) -> None:
    home = platform.settings.home
    say(f"ModelOps is ready at {url} ({seconds:.1f} s). Docs: {url}/docs  Data: {home}")
    if platform.first_key is not None:
        file = write_sign_in(home, SignIn(None, platform.first_key))
        say(
            f"First start: the administrator is 'admin', and its API key is shown this once:\n\n"
            f"    {platform.first_key}\n\n"
            f"On this machine `mops` is signed in with it already ({file}).\n"
            f"Elsewhere: mops --url {url} login"
        )
    elif read_sign_in(home) is not None:
        say("You are signed in. Who you are: mops status")
    else:
        say(f"Sign in: mops --url {url} login")
    say("Stop it with Ctrl-C or `mops down`.")
    sys.stdout.flush()


def _end_children(platform: Platform) -> None:
    """End every job and runtime of this machine; what is wanted stays in the database, and the next start goes on from there."""
    engines: Engines = platform.place.ports[Engines]
    jobs, deployer = engines.local_jobs, engines.local_deployer
    grace = platform.settings.drain_s
    running = [name for name in jobs.names() if not jobs.observe(name).ended]
    for name in running:
        jobs.stop(name, grace_s=grace, reason="the platform was shut down")
    deadline = time.monotonic() + grace + 5
    workloads = deployer.names()
    while (running or workloads) and time.monotonic() < deadline:
        workloads = [name for name in workloads if not deployer.remove(name, grace_s=grace)]
        running = [name for name in running if not jobs.observe(name).ended]
        time.sleep(0.05)
    for name in (*running, *workloads):
        log.warning("still running at the end", extra={"process": name})

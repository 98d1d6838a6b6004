"""Requests that fail while what serves is swapped, scaled and rolled back under load."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from benchmarks.serving.loads import begin, checking, finish, prepared
from benchmarks.serving.models import Model
from benchmarks.serving.ours import Platform
from benchmarks.serving.peers import PEERS, serving
from benchmarks.serving.servers import Server

SWAPS, SCALE_UPS, CONNECTIONS, AT_MOST_S = 20, 5, 8, 1_800


def ours(platform: Platform, model: Model) -> tuple[int, int]:
    """Return failed and all requests at the platform's door during 20 swaps, 5 scale-ups and a rollback."""
    name = "swapped"
    versions = [platform.register(name, model) for _ in range(2)]
    platform.deploy(name, versions[0])
    serving = platform.client.serving

    def change() -> None:
        for number in range(SWAPS):
            serving.update_deployment(name, model=versions[(number + 1) % 2])
            platform.settled(name)
        for _ in range(SCALE_UPS):
            for replicas in (2, 1):
                serving.update_deployment(name, replicas=replicas)
                platform.settled(name)
        serving.rollback_deployment(name)
        platform.settled(name)

    try:
        return _under_load(platform.gateway(name), model, change)
    finally:
        platform.remove(name)


def reloaded(binaries: Path, folder: Path, model: Model) -> tuple[int, int]:
    """Return failed and all requests while uvicorn's workers with FastAPI are replaced 20 times, by SIGHUP."""
    with serving(PEERS["fastapi"], binaries, folder, model.pickle) as server:
        server.await_answer(model.rows.rows[:1])

        def change() -> None:
            for _ in range(SWAPS):
                before = _workers(server)
                psutil.Process(server.pid).send_signal(signal.SIGHUP)
                deadline = time.monotonic() + 30
                while time.monotonic() < deadline and (
                    _workers(server) & before or len(_workers(server)) < len(before)
                ):
                    time.sleep(0.1)

        return _under_load(server, model, change)


def _workers(server: Server) -> set[int]:
    """Return the processes that uvicorn's first process spawned as workers, and which have not ended."""
    found = set()
    for child in psutil.Process(server.pid).children():
        try:
            if "spawn_main" in " ".join(child.cmdline()):
                found.add(child.pid)
        except psutil.Error:
            continue
    return found


def _under_load(server: Server, model: Model, change: Callable[[], None]) -> tuple[int, int]:
    with prepared(server, model.rows) as folder, checking(server, model.rows) as checks:
        load = begin(server, folder, CONNECTIONS, AT_MOST_S)
        try:
            change()
        finally:
            load.send_signal(signal.SIGINT)
            counted = finish(load)
    wrong = [failure for failure in checks.failures if not isinstance(failure, httpx.HTTPError)]
    for failure in wrong[:3]:
        print(f"  while swapping: {failure}")
    failed = counted["status"] + counted["broken"] + len(checks.failures)
    return failed, counted["requests"] + checks.right + len(checks.failures)

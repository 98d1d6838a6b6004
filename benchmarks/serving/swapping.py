"""Requests that fail while what serves is swapped, scaled and rolled back under load."""

import signal
from collections.abc import Callable

import httpx

from benchmarks.serving.loads import begin, checking, finish, prepared
from benchmarks.serving.models import Model
from benchmarks.serving.ours import Platform
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
            assert f"{name}:{platform.settled(name).model_version}" == versions[(number + 1) % 2]
        for _ in range(SCALE_UPS):
            for replicas in (2, 1):
                serving.update_deployment(name, replicas=replicas)
                assert platform.settled(name).ready_replicas == replicas
        serving.rollback_deployment(name)
        assert f"{name}:{platform.settled(name).model_version}" == versions[1]

    try:
        return _under_load(platform.gateway(name), model, change)
    finally:
        platform.remove(name)


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

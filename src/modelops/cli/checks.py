"""The checks of `mops doctor` that concern this machine, and the way to the platform's own."""

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from modelops.contracts.errors import MLOpsError
from modelops.contracts.platform import HealthCheck
from modelops.contracts.settings import Settings
from modelops.contracts.terminal import Session
from modelops.sdk.connection import running_url

_LOW_DISK_BYTES = 1024**3
_EXTRAS = {"server": ("fastapi", "sqlalchemy", "uvicorn"), "sklearn": ("sklearn", "shap", "numpy")}


def check_here(settings: Settings) -> Iterator[HealthCheck]:
    """Check Python, the home folder, the disk, the extras and the port."""
    running = sys.version_info[:2] >= (3, 11)
    yield HealthCheck(
        name="python", healthy=running, detail=f"Python {sys.version.split()[0]}; 3.11 or newer is needed."
    )
    yield _home(settings)
    yield _disk(settings)
    for extra, modules in _EXTRAS.items():
        missing = [name for name in modules if find_spec(name) is None]
        fix = f'{", ".join(missing)} missing: pip install "modelops[{extra}]"' if missing else "installed."
        yield HealthCheck(name=f"extra {extra}", healthy=not missing, detail=fix)
    yield _port(settings)


def check_platform(session: Session) -> Iterator[HealthCheck]:
    """Ask the platform for its own checks."""
    from modelops.sdk.client import Client

    try:
        client = Client.over(session.rest, session.settings)
        me = client.identity.get_me()
        yield HealthCheck(name="sign-in", healthy=True, detail=f"Signed in as {me.name} ({me.role}).")
        yield from client.platform.get_health().checks
    except MLOpsError as error:
        yield HealthCheck(name="platform", healthy=False, detail=str(error))


def _home(settings: Settings) -> HealthCheck:
    home = settings.home
    existing = next(folder for folder in [home, *home.parents] if folder.exists())
    writable = os.access(existing, os.W_OK | os.X_OK)
    open_to_others = home.exists() and bool(home.stat().st_mode & 0o077)
    detail = f"{home} is yours to write." if writable else f"{existing} is not writable: choose another with --home."
    if writable and open_to_others:
        detail = f"{home} is readable by others and holds keys: chmod 700 {home}"
    return HealthCheck(name="home", healthy=writable and not open_to_others, detail=detail)


def _disk(settings: Settings) -> HealthCheck:
    existing = next(folder for folder in [settings.home, *settings.home.parents] if folder.exists())
    free = shutil.disk_usage(existing).free
    return HealthCheck(name="disk here", healthy=free >= _LOW_DISK_BYTES, detail=f"{free / 1024**3:.1f} GiB are free.")


def _port(settings: Settings) -> HealthCheck:
    running = running_url(settings.home)
    if running is not None:
        return HealthCheck(name="port", healthy=True, detail=f"The platform of this home listens at {running}.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError:
            detail = f"Port {settings.port} is taken by another program: use `mops up --port 0`."
            return HealthCheck(name="port", healthy=False, detail=detail)
    return HealthCheck(name="port", healthy=True, detail=f"Port {settings.port} is free for `mops up`.")

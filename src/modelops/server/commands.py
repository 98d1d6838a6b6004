"""Start and stop a platform: `mops up`, `mops down`."""

import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from modelops.contracts.errors import Unavailable
from modelops.contracts.terminal import note, say, session_of

Port = Annotated[int | None, typer.Option(help="The port; 0 takes a free one.", show_default=False)]
Host = Annotated[str | None, typer.Option(help="The address to listen on.", show_default=False)]
Database = Annotated[
    str | None, typer.Option(help="postgresql+psycopg://user@host/name; SQLite by default.", show_default=False)
]


def up(
    ctx: typer.Context,
    host: Host = None,
    port: Port = None,
    database: Database = None,
    keep_children: Annotated[
        bool,
        typer.Option("--keep-children", help="Leave jobs and runtimes running at the end; the next start adopts them."),
    ] = False,
) -> None:
    """Start the platform: API, controller and agent in one process, until Ctrl-C."""
    from modelops.contracts.settings import load_settings
    from modelops.server.up import run_platform

    chosen = session_of(ctx).chosen
    settings = load_settings(home=chosen["home"], debug=chosen["debug"], host=host, port=port, database=database)
    raise typer.Exit(run_platform(settings, keep_children=keep_children))


def down(
    ctx: typer.Context,
    wait_s: Annotated[float, typer.Option(help="How long to wait for the end, in seconds.")] = 60.0,
) -> None:
    """End the platform that runs on this home."""
    from modelops.server.home import HomeLock

    home: Path = session_of(ctx).settings.home
    holder = _holder(home)
    if holder is None:
        say(f"No platform runs on {home}.")
        return
    os.kill(holder["pid"], signal.SIGTERM)
    deadline = time.monotonic() + wait_s
    lock = HomeLock(home)
    while not lock.try_acquire():
        if time.monotonic() > deadline:
            raise Unavailable(
                f"The platform (process {holder['pid']}) has not ended within {wait_s:g} s.",
                hint="It may be draining requests: wait, or end it with `kill -9`; the next `mops up` takes up where it was.",
            )
        time.sleep(0.05)
    lock.release()
    note(f"The platform on {home} has ended.")


def _holder(home: Path) -> dict[str, Any] | None:
    """Return who holds the home's lock, or None where nobody does."""
    from modelops.server.home import HomeLock

    if not home.is_dir():
        return None
    lock = HomeLock(home)
    if lock.try_acquire():
        lock.release()
        return None
    facts = lock.holder()
    return facts if isinstance(facts.get("pid"), int) else None

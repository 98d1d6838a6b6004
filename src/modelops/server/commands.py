"""Start and stop a platform: all of it (`mops up`, `mops down`), or one of its processes (`mops server`)."""

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


server = typer.Typer(
    help="Run one of the processes of a platform on PostgreSQL: api, controller or agent, each in any number.",
    no_args_is_help=True,
)
AsJsonLines = Annotated[bool, typer.Option("--json", help="Log one JSON object a line.")]
Url = Annotated[str | None, typer.Option(help="How jobs and runtimes reach the API.", show_default=False)]
ProbePort = Annotated[int | None, typer.Option(help="The port of its health; 0 takes a free one.", show_default=False)]


@server.command()
def api(
    ctx: typer.Context,
    host: Host = None,
    port: Port = None,
    database: Database = None,
    public_url: Url = None,
    as_json: AsJsonLines = False,
) -> None:
    """Answer requests, and nothing else, until SIGTERM."""
    from modelops.server.processes import run_api

    raise typer.Exit(run_api(_settings(ctx, as_json, host=host, port=port, database=database, public_url=public_url)))


@server.command()
def controller(
    ctx: typer.Context,
    host: Host = None,
    database: Database = None,
    public_url: Url = None,
    probe_port: ProbePort = None,
    as_json: AsJsonLines = False,
) -> None:
    """Bring about what is wanted: reconcilers, events, workflows. Of several, each has the work that no other holds."""
    from modelops.server.processes import run_controller

    given = {"host": host, "database": database, "public_url": public_url, "probe_port": probe_port}
    raise typer.Exit(run_controller(_settings(ctx, as_json, **given)))


@server.command()
def agent(
    ctx: typer.Context,
    host: Host = None,
    database: Database = None,
    probe_port: ProbePort = None,
    agent_host: Annotated[
        str | None, typer.Option(help="The address by which the platform reaches this machine.", show_default=False)
    ] = None,
    slots: Annotated[int | None, typer.Option(help="Training jobs that run here at once.", show_default=False)] = None,
    keep_children: Annotated[
        bool,
        typer.Option("--keep-children", help="Leave jobs and runtimes running at the end; the next agent adopts them."),
    ] = False,
    as_json: AsJsonLines = False,
) -> None:
    """Run jobs and serving processes on this machine; one agent for each home folder."""
    from modelops.server.processes import run_agent

    given = {"host": host, "database": database, "probe_port": probe_port, "agent_host": agent_host}
    settings = _settings(ctx, as_json, max_running_jobs=slots, **given)
    raise typer.Exit(run_agent(settings, keep_children=keep_children))


@server.command()
def bucket(ctx: typer.Context) -> None:
    """Make the bucket of artifacts that the settings name, where it is not there yet."""
    from modelops.contracts.settings import load_settings
    from modelops.server.artifacts import make_bucket

    settings = load_settings(home=session_of(ctx).chosen["home"])
    note(f"The bucket '{settings.s3_bucket}' {'was made' if make_bucket(settings) else 'is there'}.")


def _settings(ctx: typer.Context, as_json: bool, **given: Any) -> Any:
    from modelops.contracts.settings import load_settings

    chosen = session_of(ctx).chosen
    log_format = "json" if as_json else None
    return load_settings(home=chosen["home"], debug=chosen["debug"], log_format=log_format, **given)


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

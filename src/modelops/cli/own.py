"""The commands that belong to no domain: state, settings, sign-in, plug-ins, the event stream and the demo."""

from pathlib import Path
from typing import Annotated, Any

import typer

from modelops.contracts.errors import MLOpsError, NotFound
from modelops.contracts.terminal import AsJson, print_json, say, session_of, show, show_rows


def status(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show the platform you work with, and who you are there."""
    from modelops.sdk.client import Client

    session = session_of(ctx)
    client = Client.over(session.rest, session.settings)
    me, version = client.identity.get_me(), client.platform.get_version()
    url = str(session.rest.http.base_url)
    show(
        {
            "platform": "in this process" if url.startswith("http://embedded") else url,
            "version": version.version,
            "signed_in_as": me.name,
            "role": me.role,
            "tenant": me.tenant,
            "project": me.project,
            "home": str(session.settings.home),
        },
        as_json=as_json,
    )


def doctor(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Check this machine and the platform, and say what to do about what is wrong."""
    from modelops.cli.checks import check_here, check_platform

    session = session_of(ctx)
    checks = [*check_here(session.settings), *check_platform(session)]
    healthy = all(check.healthy for check in checks)
    if as_json:
        print_json({"healthy": healthy, "checks": checks})
    else:
        show_rows(checks, ["healthy", "name", "detail"], as_json=False, empty="")
        say("All is in order." if healthy else "Something is wrong: see above.")
    raise typer.Exit(0 if healthy else 1)


def config(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Print every setting: its value, where the value comes from, and what the setting is for.

    A setting NAME is read from the environment variable MODELOPS_NAME, then from config.toml in the home folder.
    """
    from modelops.contracts.settings import Settings, where_from

    session = session_of(ctx)
    origins = where_from(session.settings, session.chosen)
    values = session.settings.model_dump(mode="json")
    rows = [
        {"setting": name, "value": values[name], "from": origins[name], "meaning": field.description}
        for name, field in Settings.model_fields.items()
    ]
    show_rows(rows, ["setting", "value", "from", "meaning"], as_json=as_json, empty="")


def version(as_json: AsJson = False) -> None:
    """Print the version of this command."""
    import platform
    from importlib.metadata import version as installed

    facts = {"modelops": installed("modelops"), "python": platform.python_version()}
    print_json(facts) if as_json else say(f"modelops {facts['modelops']} (Python {facts['python']})")


def login(
    ctx: typer.Context,
    token: Annotated[str | None, typer.Option(help="An API key; asked for if not given.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Sign in to a platform (`mops --url URL login`) with an API key, and stay signed in."""
    from modelops.sdk.client import Client
    from modelops.sdk.connection import SignIn, running_url, write_sign_in

    session = session_of(ctx)
    url = session.settings.url or running_url(session.settings.home)
    if url is None:
        raise NotFound("No platform is named, and none runs on this home.", hint="Write `mops --url URL login`.")
    secret = token or typer.prompt("API key", hide_input=True)
    with Client(url, token=secret, project=session.settings.project, home=session.settings.home) as client:
        me = client.identity.get_me()
    file = write_sign_in(session.settings.home, SignIn(url, secret, session.settings.project))
    if as_json:
        print_json({"url": url, "me": me, "file": str(file)})
    else:
        say(f"Signed in to {url} as {me.name} ({me.role}), project {me.project}. Kept in {file}.")


def plugins(as_json: AsJson = False) -> None:
    """List the installed plug-ins: domains, commands, flavours and recipes."""
    from modelops.contracts import plugins as doors

    rows: list[dict[str, Any]] = []
    for group in doors.GROUPS:
        for name, point in doors.discover(group).items():
            try:
                doors.load(group, name)
                state = "loads"
            except MLOpsError as broken:
                state = str(broken)
            package = point.dist.name if point.dist else None
            rows.append({"kind": group, "name": name, "package": package, "state": state})
    show_rows(rows, ["kind", "name", "package", "state"], as_json=as_json, empty="No plug-ins are installed.")


def events(
    ctx: typer.Context,
    after: Annotated[int, typer.Option(min=0, help="Only events behind this position.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay, and print what happens.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the project's events in order."""
    from modelops.sdk.client import Client

    session = session_of(ctx)
    for event in Client.over(session.rest, session.settings).platform.stream_events(after=after, follow=follow):
        if as_json:
            print_json(event)
        else:
            time = event.time.strftime("%Y-%m-%d %H:%M:%S")
            say(f"{event.sequence:>6}  {time}  {event.type:<42}  {event.subject}")


def demo(
    ctx: typer.Context,
    report: Annotated[Path, typer.Option(help="Where the report goes, as HTML.")] = Path("demo-report.html"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the platform of the demo running.")] = False,
) -> None:
    """Run the main job on real data, from a dataset to monitored predictions, on a platform of its own."""
    from modelops.cli.demo.story import run_demo

    raise typer.Exit(run_demo(report, keep=keep))

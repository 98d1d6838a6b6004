"""The root command: options that hold for every command, and what happens when one fails."""

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelops.cli import own
from modelops.cli.lazy import LazyGroup
from modelops.contracts.errors import MLOpsError
from modelops.contracts.terminal import Session, fail

if TYPE_CHECKING:  # `mops --help` must not wait for Pydantic and httpx
    from modelops.contracts.rest import Rest
    from modelops.contracts.settings import Settings

app = typer.Typer(
    cls=LazyGroup,
    name="mops",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Url = Annotated[str | None, typer.Option(help="The platform, such as http://127.0.0.1:8750.", show_default=False)]
Project = Annotated[str | None, typer.Option("--project", "-p", help="The project, by name or id.", show_default=False)]
Home = Annotated[Path | None, typer.Option(help="The data folder; by default ~/.modelops.", show_default=False)]
Debug = Annotated[bool, typer.Option("--debug", help="Log more, and show where a defect happened.")]


@app.callback()
def root(ctx: typer.Context, url: Url = None, project: Project = None, home: Home = None, debug: Debug = False) -> None:
    """ModelOps: the whole life of a model, from first experiment to retirement."""
    from modelops.contracts.settings import load_settings

    chosen = {"url": url, "project": project, "home": home, "debug": debug or None}
    settings = load_settings(**chosen)
    session = Session(connect=lambda: connect(settings), settings=settings, chosen=chosen)
    ctx.obj = session
    ctx.call_on_close(session.close)


for command in (own.status, own.doctor, own.config, own.version, own.login, own.plugins, own.events, own.demo):
    app.command()(command)


def connect(settings: "Settings") -> "Rest":
    """Connect to the platform named, else the one signed in to, else the one that runs on this home, else in process."""
    from modelops.sdk import connection

    if settings.url is None:
        kept = connection.read_sign_in(settings.home)
        url = (kept.url if kept else None) or connection.running_url(settings.home)
        if url is not None:
            settings = settings.model_copy(update={"url": url})
    return connection.connect(settings)


def run() -> None:
    """Run `mops`; an error is told in words, and a traceback is for `--debug`."""
    try:
        app()
    except MLOpsError as error:
        with contextlib.suppress(typer.Exit):
            fail(error, as_json="--json" in sys.argv)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: no complaint at exit either
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as defect:
        if "--debug" in sys.argv:
            raise
        if type(defect).__name__ == "ValidationError" and isinstance(defect, ValueError):
            sys.stderr.write(f"Error: {_what_is_wrong(defect)}\n  → Correct it and run the command again.\n")
            sys.exit(1)
        sys.stderr.write(
            f"Error: mops itself failed: {type(defect).__name__}: {defect}\n"
            "  → Run the command again with `mops --debug …` and report what it prints.\n"
        )
        sys.exit(70)


def _what_is_wrong(refused: Any) -> str:
    """Tell which of what was typed a payload refused (without importing Pydantic, which loads slowly)."""
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in refused.errors()) + "."

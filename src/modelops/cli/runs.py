"""What programs logged and could not send: `mops runs pending`, `mops runs sync`."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelops.contracts.terminal import AsJson, note, print_json, say, session_of, show_rows

if TYPE_CHECKING:  # `mops --help` must not wait for Pydantic and httpx
    from modelops.contracts.settings import Settings
    from modelops.sdk.client import Client
    from modelops.sdk.spool.folder import Header, SpoolFolder
    from modelops.sdk.spool.leftovers import Left

app = typer.Typer(help="What programs logged and could not send.", no_args_is_help=True)

PathArg = Annotated[
    Path | None, typer.Argument(help="A spool, or a folder of them; by default the one of the settings.")
]

_COLUMNS = ["experiment", "run_name", "run_id", "state", "waiting_bytes", "refused", "dropped", "began_at", "path"]
_EMPTY = "Nothing is left behind: all that programs logged here was sent."
_EVERY_S = 2.0
_LONGEST_PAUSE_S = 30.0
_PATIENCE_S = 10.0


@app.command()
def pending(ctx: typer.Context, path: PathArg = None, as_json: AsJson = False) -> None:
    """List the runs that programs left behind, or are still sending."""
    from modelops.sdk.spool.leftovers import pending as look

    show_rows(look(_place(ctx, path)), _COLUMNS, as_json=as_json, empty=_EMPTY)


@app.command()
def sync(
    ctx: typer.Context,
    path: PathArg = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until Ctrl-C, as further runs are left behind.")
    ] = False,
    refused: Annotated[bool, typer.Option("--refused", help="Send once more what the platform refused.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send what programs left behind, each run to the platform and project that it was begun for.

    `mops --url URL runs sync` sends all of it to another platform. The exit code is 1 where something is left.
    """
    with _Clients(ctx) as clients:
        if watch:
            _watch(ctx, path, clients, as_json)
        found = [_send(spool, clients, refused) for spool in _spools(ctx, path)]
    show_rows(found, ["experiment", "run_id", "state", "sent", "refused", "dropped"], as_json=as_json, empty=_EMPTY)
    if not as_json:
        for left in found:
            _explain(left)
    if any(left.state in ("waiting", "refused", "damaged") for left in found):
        raise typer.Exit(1)


def _watch(ctx: typer.Context, path: Path | None, clients: "_Clients", as_json: bool) -> None:
    """Send what there is again and again, and tell of each spool when its state changes."""
    known: dict[str, str] = {}
    pause = _EVERY_S
    while True:
        pause = min(pause * 2, _LONGEST_PAUSE_S) if "waiting" in known.values() else _EVERY_S
        for spool in _spools(ctx, path):
            left = _send(spool, clients, again=False)
            if known.get(left.spool) != left.state:
                known[left.spool] = left.state
                if as_json:
                    print_json(left)
                    sys.stdout.flush()
                else:
                    say(f"{left.experiment or left.spool}: {left.run_id or 'not begun yet'}: {left.state}")
                    _explain(left)
        time.sleep(pause)


def _send(spool: "SpoolFolder", clients: "_Clients", again: bool) -> "Left":
    from modelops.sdk.spool.leftovers import send

    told = _told if sys.stderr.isatty() else None
    left = send(spool, clients.of, again=again, patience_s=clients.patience_s, told=told)
    if left.state == "waiting":
        clients.patience_s = 0.0  # of what else waits, each is asked for once
    if told is not None:
        sys.stderr.write("\r\x1b[K")
    return left


def _told(sent: int, total: int) -> None:
    sys.stderr.write(f"\r{sent / max(total, 1):4.0%} of {total / 1024:,.0f} KiB")
    sys.stderr.flush()


def _explain(left: "Left") -> None:
    if left.state in ("waiting", "refused", "damaged") and left.detail:
        note(f"{left.path}: {left.detail}")
    for place in left.damaged:
        note(f"{left.path}: a damaged record is lost: {place}")
    if left.unfinished:
        note(f"{left.path}: the last record was cut off when its program was killed; its call had not returned.")
    if left.dropped:
        note(f"{left.path}: {left.dropped:,} entries found no room on the disk when they were logged.")


def _place(ctx: typer.Context, path: Path | None) -> Path:
    settings = session_of(ctx).settings
    return path or settings.tracking_spool or settings.home / "runs"


def _spools(ctx: typer.Context, path: Path | None) -> "list[SpoolFolder]":
    from modelops.sdk.spool.folder import spools

    return spools(_place(ctx, path))


class _Clients:
    """The clients of the platforms that spools are for, opened at their first need."""

    def __init__(self, ctx: typer.Context) -> None:
        self._session = session_of(ctx)
        self.patience_s = _PATIENCE_S
        self._open: dict[tuple[str | None, str | None], Client] = {}

    def of(self, header: "Header") -> "Client":
        """Return the client for a spool: of the platform that `--url` names, else of the one that it was begun for."""
        chosen = self._session.chosen
        place = (chosen.get("url") or header.url, chosen.get("project") or header.project)
        if place not in self._open:
            self._open[place] = _client(self._session.settings, *place)
        return self._open[place]

    def __enter__(self) -> "_Clients":
        return self

    def __exit__(self, *exc: object) -> None:
        for client in self._open.values():
            client.close()


def _client(settings: "Settings", url: str | None, project: str | None) -> "Client":
    """Open a client; a run that was begun without an address belongs to the platform of the home folder."""
    from modelops.sdk.client import Client
    from modelops.sdk.connection import connect, running_url

    found = settings.model_copy(update={"url": url or running_url(settings.home), "project": project})
    return Client.over(connect(found), found)

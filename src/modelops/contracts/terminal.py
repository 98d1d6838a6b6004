"""How commands speak: tables and sentences for people, JSON for programs, colours only on a terminal.

Every command takes its connection and its manner from the one `Session` that the root command puts on the context.
"""

import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from typer.core import TyperGroup

from modelops.contracts.errors import MLOpsError

if TYPE_CHECKING:  # `mops --help` must not wait for Pydantic and httpx
    from modelops.contracts.rest import Group, Rest
    from modelops.contracts.schemas import Page
    from modelops.contracts.settings import Settings

G = TypeVar("G", bound="Group")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

_PAGE_OPTIONS: tuple[tuple[str, Any, Any], ...] = (
    ("limit", Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")], 100),
    ("cursor", Annotated[str | None, typer.Option(help="Where the page before ended.")], None),
    ("filter", Annotated[str | None, typer.Option(help='Such as: name ~ "fraud" and created_at > "2026-01-01"')], None),
    ("order_by", Annotated[str | None, typer.Option(help="A field, then asc or desc.")], None),
)


@dataclass
class Session:
    """What the root command knows: the settings, those `chosen` by its options, and how to connect at the first need."""

    connect: "Callable[[], Rest]"
    settings: "Settings"
    chosen: dict[str, Any]
    _rest: "Rest | None" = None

    @property
    def rest(self) -> "Rest":
        """Return the connection, opening it at the first call."""
        if self._rest is None:
            self._rest = self.connect()
        return self._rest

    def close(self) -> None:
        """Close the connection, if it was opened."""
        if self._rest is not None:
            self._rest.close()


def group(ctx: typer.Context, kind: type[G]) -> G:
    """Return a domain's client on the session's connection: `group(ctx, Models).list_models()`."""
    return kind(session_of(ctx).rest)


def session_of(ctx: typer.Context) -> Session:
    """Return what the root command left for its commands."""
    session = ctx.find_object(Session)
    if session is None:
        raise RuntimeError("A command of `mops` runs below its root command.")
    return session


def with_short_names(**short: str) -> type[TyperGroup]:
    """Return the class of a group whose commands have a second, short name: `with_short_names(submit="submit_job")`.

    A command keeps the name of its operation, by which it is documented; the help shows both.

        app = typer.Typer(cls=with_short_names(submit="submit_job"), help="…", no_args_is_help=True)
    """
    long = {name.replace("_", "-"): command.replace("_", "-") for name, command in short.items()}

    class WithShortNames(TyperGroup):
        """A group that knows some of its commands by two names."""

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            """Return a command by either of its names."""
            return super().get_command(ctx, long.get(cmd_name, cmd_name))

        def list_commands(self, ctx: Any) -> list[str]:
            """Return the names that people see and the shell completes: the short one where there is one."""
            shorter = {command: name for name, command in long.items()}
            return [shorter.get(name, name) for name in super().list_commands(ctx)]

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            """Write the commands, each with its other name."""
            found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
            rows = [
                (f"{name}, {long[name]}" if name in long else name, command.get_short_help_str(formatter.width))
                for name, command in found
                if not command.hidden
            ]
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    return WithShortNames


def show(value: Any, *, as_json: bool, title: str | None = None) -> None:
    """Print one resource: its fields line by line, or as a JSON object."""
    if as_json:
        print_json(value)
        return
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False, title=title, title_justify="left")
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    fields = _plain(value)
    for name, content in fields.items() if isinstance(fields, dict) else [("", fields)]:
        table.add_row(name.replace("_", " "), _cell(content))
    _print(table)


def paged(command: Callable[..., None]) -> Callable[..., None]:
    """Give a listing command the options `--limit`, `--cursor`, `--filter` and `--order-by`, as its argument `page`."""
    own = inspect.signature(command)
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, annotation, default in _PAGE_OPTIONS
    ]
    kept = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own.parameters.values() if p.name != "page"]

    @functools.wraps(command)
    def with_page(**arguments: Any) -> None:
        page = {name: arguments.pop(name) for name, _, _ in _PAGE_OPTIONS}
        command(page=page, **arguments)

    del with_page.__wrapped__
    with_page.__signature__ = own.replace(parameters=[*kept, *options])  # type: ignore[attr-defined]
    with_page.__annotations__ = {p.name: p.annotation for p in [*kept, *options]}
    return with_page


def show_page(page: "Page[Any]", columns: Sequence[str], *, as_json: bool, empty: str = "There are none.") -> None:
    """Print a page of a listing; as JSON, the page with its cursor."""
    if as_json:
        print_json(page)
        return
    show_rows(page.items, columns, as_json=False, empty=empty, more=page.next_cursor)


def show_rows(
    items: Iterable[Any],
    columns: Sequence[str],
    *,
    as_json: bool,
    empty: str,
    more: str | None = None,
    heads: Sequence[str] | None = None,
) -> None:
    """Print a listing as a table of the named fields (`a.b` reaches into `a`), or as a JSON array of whole items.

    Args:
        empty: The sentence printed where there are none: what to do to have one.
        more: The cursor of the next page, if there is one.
        heads: What stands above the columns; by default their names in words.
    """
    rows = [_plain(item) for item in items]
    if as_json:
        print_json(rows)
        return
    if not rows:
        say(empty)
        return
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for head in heads or [column.split(".")[-1].replace("_", " ") for column in columns]:
        table.add_column(escape(head), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(_reach(row, column)) for column in columns))
    _print(table)
    if more:
        say(f"There are more: add --cursor {more}")


def say(sentence: str) -> None:
    """Print a sentence for a person, to standard output."""
    _console().print(sentence, highlight=False, markup=False, soft_wrap=True)


def note(sentence: str) -> None:
    """Print a remark that is not the command's result, to standard error."""
    sys.stderr.write(sentence + "\n")


def print_json(value: Any) -> None:
    """Print JSON to standard output, indented on a terminal and on one line elsewhere."""
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(_plain(value), indent=indent, ensure_ascii=False, default=str) + "\n")


def fail(error: MLOpsError, *, as_json: bool = False) -> NoReturn:
    """Print an error and end with 1: what, why, what to do next."""
    if as_json:
        sys.stderr.write(json.dumps({**error.problem(), "request_id": error.request_id}) + "\n")
    else:
        sys.stderr.write(f"Error: {error.detail}\n")
        if error.hint:
            sys.stderr.write(f"  → {error.hint}\n")
        sys.stderr.write(f"  ({error.code}{', request ' + error.request_id if error.request_id else ''})\n")
    raise typer.Exit(1)


def pairs(items: Sequence[str] | None, what: str) -> dict[str, str]:
    """Read `KEY=VALUE` arguments."""
    found = {}
    for item in items or []:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"'{item}' is not {what} of the form KEY=VALUE.")
        found[key] = value
    return found


def values(items: Sequence[str] | None, what: str) -> dict[str, Any]:
    """Read `KEY=VALUE` arguments whose values are JSON where they parse as JSON, and text elsewhere."""
    found: dict[str, Any] = {}
    for key, text in pairs(items, what).items():
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


def _plain(value: Any) -> Any:
    from modelops.contracts.schemas import jsonable

    return jsonable(value)


def _print(table: Any) -> None:
    """Print a table without the blanks that fill its lines up."""
    console = _console()
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write("\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n")


def _console() -> Any:
    from rich.console import Console

    width = None if sys.stdout.isatty() else 200
    return Console(file=sys.stdout, width=width, highlight=False)


def _reach(row: Any, column: str) -> Any:
    for part in column.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row


def _cell(content: Any) -> str:
    from rich.markup import escape

    if content is None:
        return "-"
    if isinstance(content, bool):
        return "yes" if content else "no"
    if isinstance(content, float):
        return f"{content:.6g}"
    if isinstance(content, dict | list):
        return escape(json.dumps(content, ensure_ascii=False)) if content else "-"
    text = str(content)
    if len(text) == 27 and text.endswith("Z") and text[10:11] == "T":
        text = text[:19].replace("T", " ") + " UTC"
    return escape(text)

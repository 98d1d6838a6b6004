"""`python -m modelops.server.reference docs`: write the pages that follow from the code: settings, commands, operations.

A test holds the committed pages to what this writes, so that they are never behind.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from modelops.cli.lazy import load_command
from modelops.cli.root import app
from modelops.contracts import plugins
from modelops.contracts.settings import Settings, environment_names
from modelops.server.openapi import document

_MADE = "<!-- Written by `make docs`. -->\n"


def pages() -> dict[str, str]:
    """Return the pages by file name."""
    return {
        "settings.md": _MADE + "\n".join(_settings()) + "\n",
        "commands.md": _MADE + "\n".join(_commands()) + "\n",
        "operations.md": _MADE + "\n".join(_operations(document())) + "\n",
    }


def _settings() -> Iterator[str]:
    yield "# Settings\n"
    yield "A setting is read from, first wins: a command's option, the environment variable, `config.toml` in the home folder"
    yield "(`port = 8750`), the default. `mops config` prints what holds and where it came from. Sizes are in bytes.\n"
    yield "| setting | environment variable | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in Settings.model_fields.items():
        default = "~/.modelops" if name == "home" else field.default
        shown = "" if default is None else f"`{default}`"
        variables = ", ".join(f"`{variable}`" for variable in environment_names(name))
        yield f"| `{name}` | {variables} | {shown} | {field.description} |"


def _commands() -> Iterator[str]:
    yield "# Commands\n"
    yield "Every command that prints a result takes `--json`. `mops COMMAND --help` shows its options.\n"
    yield "| command | what it does |"
    yield "|---|---|"
    root: Any = typer.main.get_group(app)
    named: dict[str, Any] = {
        **root.commands,
        **{name: load_command(name) for name in plugins.discover("modelops.commands")},
    }
    for name, command in sorted(named.items()):
        for inner, found in sorted(getattr(command, "commands", {"": command}).items()):
            line = (found.help or "").strip().partition("\n")[0]
            yield f"| `mops {name}{' ' + inner if inner else ''}` | {line} |"


def _operations(openapi: dict[str, Any]) -> Iterator[str]:
    yield "# Operations\n"
    yield "Below `/v1`, and the same below `/api/v1`. The operation's name is the client's: `models.set_stage` is"
    yield "`client.models.set_stage(…)`. A running platform shows their payloads at `/docs`.\n"
    yield "| operation | request | what it does |"
    yield "|---|---|---|"
    rows = [
        (operation["operationId"], f"`{method.upper()} {path}`", operation["description"].partition("\n")[0])
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    for name, request, line in sorted(rows):
        yield f"| `{name}` | {request} | {line} |"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    for file, text in pages().items():
        (folder / file).write_text(text, encoding="utf-8")

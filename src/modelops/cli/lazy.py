"""A command group that loads a command only when it is called.

The list of commands needs names and one line of help each. The line is the first of the module's docstring, read from its
source, so that `mops --help` imports none of them.
"""

import ast
import importlib.util
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from modelops.contracts import plugins

GROUP = "modelops.commands"


class LazyGroup(TyperGroup):
    """The root group: its own commands, and those of every installed plug-in."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, sorted."""
        return sorted({*super().list_commands(ctx), *plugins.discover(GROUP)})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return one command; of a plug-in, a light stand-in with its name and line of help, for listings."""
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in plugins.discover(GROUP):
            return own
        return TyperCommand(cmd_name, short_help=first_line(plugins.discover(GROUP)[cmd_name]), callback=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Load the command that is called, or completed."""
        if args and args[0] in plugins.discover(GROUP):
            return args[0], load_command(args[0]), args[1:]
        return super().resolve_command(ctx, args)


def load_command(name: str) -> Any:
    """Load a plug-in's command: a Typer app becomes a group, a function a command."""
    loaded = plugins.load(GROUP, name)
    command: Any
    if isinstance(loaded, typer.Typer):
        loaded.rich_markup_mode = None
        command = typer.main.get_group(loaded)
    else:
        app = typer.Typer(rich_markup_mode=None)
        app.command(name=name)(loaded)
        command = typer.main.get_command(app)
    command.name = name
    return command


def first_line(point: EntryPoint) -> str:
    """Return the first line of the docstring of the module, or for a command function of the function, unimported."""
    spec = importlib.util.find_spec(point.module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return ""
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == point.attr:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return (ast.get_docstring(tree) or "").partition("\n")[0]

"""Pipelines."""

import typer

from modelops.domains.pipelines.schedules import commands as schedule_commands
from modelops.domains.pipelines.triggers import commands as trigger_commands

app = typer.Typer(help="Pipelines.", no_args_is_help=True)
app.add_typer(schedule_commands.app)
app.add_typer(trigger_commands.app)

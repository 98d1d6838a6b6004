"""Pipelines."""

import typer

from modelops.domains.pipelines.schedules import commands as schedule_commands

app = typer.Typer(help="Pipelines.", no_args_is_help=True)
app.add_typer(schedule_commands.app)

"""Pipelines, their runs and steps."""

import typer

app = typer.Typer(help="Pipelines, their runs and steps.", no_args_is_help=True)

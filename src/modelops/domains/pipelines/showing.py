"""A run in the terminal while it goes on: its steps drawn anew as they change, or a line for each change elsewhere."""

import time
from typing import TYPE_CHECKING

from modelops.contracts.terminal import note
from modelops.domains.pipelines.schemas import PipelineRun, StepRun

if TYPE_CHECKING:
    from modelops.domains.pipelines.client import Pipelines

_LOOK_S = 0.3


def follow_run(pipelines: "Pipelines", run: PipelineRun) -> PipelineRun:
    """Show a run's steps until it has ended, and return it."""
    known: dict[str, str] = {}
    while True:
        found = pipelines.get_run(run.id)
        for step in pipelines.all_steps(run.id):
            if known.get(step.key) != step.state:
                if step.key in known or step.state != "waiting":
                    note(line(step))
                known[step.key] = step.state
        if found.state.final:
            return found
        time.sleep(_LOOK_S)


def line(step: StepRun) -> str:
    """Return what is known of a step in one line."""
    took = (step.ended_at - step.started_at).total_seconds() if step.ended_at and step.started_at else None
    again = f", attempt {step.attempt}" if step.attempt > 1 else ""
    parts = [f"{step.key}: {step.state}", again, f" in {took:.2f} s" if took is not None else ""]
    if step.cached_from is not None:
        parts.append(f" from {step.cached_from}")
    return "".join(parts) + (f": {step.reason}" if step.reason else "")

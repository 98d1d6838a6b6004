"""Pipelines and runs in the terminal: drawn once, or anew while a run goes on; elsewhere a line for each change."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from modelops.contracts.clock import SystemClock
from modelops.contracts.terminal import note
from modelops.domains.pipelines.document import PipelineDocument
from modelops.domains.pipelines.schemas import PipelineRun, StepRun

if TYPE_CHECKING:
    from modelops.domains.pipelines.client import Pipelines

_LOOK_S = 0.3


class GraphForm(StrEnum):
    """How a graph is written."""

    TEXT = "text"
    MERMAID = "mermaid"
    DOT = "dot"


def draw(document: PipelineDocument, steps: Sequence[StepRun], form: GraphForm) -> None:
    """Print a pipeline's graph, with the states of a run's steps."""
    from modelops.domains.pipelines.drawing import Drawing, takes_boxes
    from modelops.domains.pipelines.drawing.diagrams import to_dot, to_mermaid

    if form is GraphForm.MERMAID:
        sys.stdout.write(to_mermaid(document, steps))
    elif form is GraphForm.DOT:
        sys.stdout.write(to_dot(document, steps))
    else:
        drawing, now = Drawing(document), SystemClock().now()
        boxes = takes_boxes(sys.stdout.encoding)
        if sys.stdout.isatty() and boxes:
            sys.stdout.write(drawing.ansi(steps, now=now))
        else:
            sys.stdout.write(drawing.text(steps, now=now, only_ascii=not boxes))


def follow_run(pipelines: "Pipelines", run: PipelineRun) -> PipelineRun:
    """Show a run's steps until it has ended, and return it."""
    document = pipelines.get_pipeline_version(run.pipeline, run.version).document
    with _picture(document) if sys.stderr.isatty() else _lines() as show:
        while True:
            found = pipelines.get_run(run.id)
            show(list(pipelines.all_steps(run.id)))
            if found.state.final:
                return found
            time.sleep(_LOOK_S)


@contextmanager
def _picture(document: PipelineDocument) -> Iterator[Callable[[Sequence[StepRun]], None]]:
    """Draw the graph on the terminal, again at each look."""
    from rich.console import Console
    from rich.live import Live

    from modelops.domains.pipelines.drawing import Drawing

    drawing, console = Drawing(document), Console(stderr=True)
    with Live(console=console, auto_refresh=False) as live:

        def show(steps: Sequence[StepRun]) -> None:
            now, height = SystemClock().now(), max(5, console.height - 2)
            live.update(drawing.draw(steps, now=now, height=height), refresh=True)

        yield show


@contextmanager
def _lines() -> Iterator[Callable[[Sequence[StepRun]], None]]:
    """Write a line for each step whose state changed."""
    known: dict[str, str] = {}

    def show(steps: Sequence[StepRun]) -> None:
        for step in steps:
            if known.get(step.key, "waiting") != step.state:
                note(_line(step))
            known[step.key] = step.state

    yield show


def _line(step: StepRun) -> str:
    """Return what is known of a step in one line."""
    again = f", attempt {step.attempt}" if step.attempt > 1 else ""
    took = f" in {(step.ended_at - step.started_at).total_seconds():.2f} s" if step.ended_at and step.started_at else ""
    origin = f" from {step.cached_from}" if step.cached_from is not None else ""
    why = f": {step.reason}" if step.reason else ""
    return f"{step.key}: {step.state}{again}{took}{origin}{why}"

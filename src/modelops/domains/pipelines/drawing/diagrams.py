"""A document as text that other programs draw: Mermaid, and DOT of Graphviz."""

import json
from collections.abc import Iterable, Iterator

from modelops.domains.pipelines.document import FromOutput, PipelineDocument, StepSpec
from modelops.domains.pipelines.drawing.states import Seen, seen_steps
from modelops.domains.pipelines.expressions import write_condition
from modelops.domains.pipelines.graph import condition_bindings, needs_of
from modelops.domains.pipelines.schemas import StepRun, StepState

_COLOURS = {
    StepState.RUNNING: "#8ecae6",
    StepState.READY: "#cfe8f3",
    StepState.AWAITING: "#e0b3ff",
    StepState.RETRYING: "#ffe08a",
    StepState.SUCCEEDED: "#a7d7a0",
    StepState.CACHED: "#d3ecd0",
    StepState.FAILED: "#f4a3a3",
    StepState.SKIPPED: "#e5e5e5",
    StepState.CANCELED: "#ffd9a0",
}


def to_mermaid(document: PipelineDocument, runs: Iterable[StepRun] = ()) -> str:
    """Return a document as a flowchart of Mermaid, coloured by the states of a run's steps."""
    seen = seen_steps(runs)
    lines = ["flowchart TD"]
    numbers = {name: f"s{at}" for at, name in enumerate(document.steps)}  # `end` and others are words of Mermaid
    for name, spec in document.steps.items():
        opening, closing = ("{{", "}}") if spec.approval is not None else ("[[", "]]") if spec.foreach else ("[", "]")
        label = _label(name, seen.get(name)).replace('"', "#quot;")
        lines.append(f'    {numbers[name]}{opening}"{label}"{closing}')
    for need, name, label in _edges(document):
        text = label.replace('"', "#quot;").replace("|", "#124;").replace("\n", " ")
        said = f'|"{text}"|' if text else ""
        lines.append(f"    {numbers[need]} -->{said} {numbers[name]}")
    for name in document.steps:
        colour = _colour(seen.get(name))
        if colour is not None:
            lines.append(f"    style {numbers[name]} fill:{colour}")
    return "\n".join(lines) + "\n"


def to_dot(document: PipelineDocument, runs: Iterable[StepRun] = ()) -> str:
    """Return a document as a graph of DOT, coloured by the states of a run's steps."""
    seen = seen_steps(runs)
    lines = [f"digraph {_quoted(document.name)} {{", '    node [shape=box, style="rounded,filled", fillcolor=white];']
    for name, spec in document.steps.items():
        colour = _colour(seen.get(name))
        facts = [f"label={_quoted(_label(name, seen.get(name)))}"]
        facts += [f"fillcolor={_quoted(colour)}"] if colour is not None else []
        facts += ["shape=hexagon"] if spec.approval is not None else ["shape=box3d"] if spec.foreach else []
        lines.append(f"    {_quoted(name)} [{', '.join(facts)}];")
    for need, name, label in _edges(document):
        lines.append(f"    {_quoted(need)} -> {_quoted(name)}{f' [label={_quoted(label)}]' if label else ''};")
    return "\n".join([*lines, "}"]) + "\n"


def condition_text(spec: StepSpec) -> str:
    """Return a step's condition as people read it; empty if it has none."""
    if spec.when is None:
        return ""
    return (
        write_condition(spec.when)
        .replace("${steps.", "")
        .replace("${parameters.", "")
        .replace("${", "")
        .replace("}", "")
    )


def _edges(document: PipelineDocument) -> Iterator[tuple[str, str, str]]:
    """Yield what needs what, with the condition where it looks at that step."""
    for name, spec in document.steps.items():
        looked_at = {
            binding.step
            for _, binding in (condition_bindings(spec.when) if spec.when is not None else ())
            if isinstance(binding, FromOutput)
        }
        for need in needs_of(spec):
            yield need, name, condition_text(spec) if need in looked_at else ""


def _label(name: str, seen: Seen | None) -> str:
    if seen is None or not seen.total:
        return name
    return f"{name} {seen.done}/{seen.total}" if seen.members else f"{name}: {seen.state}"


def _colour(seen: Seen | None) -> str | None:
    return None if seen is None or seen.state is None else _COLOURS.get(seen.state)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)

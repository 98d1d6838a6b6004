"""What is done to traces that are there: tags, links to runs and prompts, deletion, and how two filters go together."""

import math
from dataclasses import dataclass

from sqlalchemy import delete, func, select

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.domains.mlflow.experiments import find_experiment
from modelops.domains.mlflow.traces.assessing import check_trace
from modelops.domains.mlflow.traces.places import find_run
from modelops.domains.mlflow.traces.reading import get_rows
from modelops.domains.mlflow.traces.recording import (
    ARTIFACT_LOCATION,
    SPANS_LOCATION,
    link,
    write_labels,
)
from modelops.domains.mlflow.traces.searching import matching
from modelops.domains.mlflow.traces.tables import LabelRow, TraceRow
from modelops.domains.mlflow.traces.writing import chunks
from modelops.kernel.context import Context

_LINKED_AT_ONCE = 100


@dataclass(frozen=True)
class Correlation:
    """How often two conditions hold of traces, apart and together, and their normalised pointwise mutual information.

    Source: Bouma, "Normalized (Pointwise) Mutual Information in Collocation Extraction", 2009: -1 never together, 0
    independent, 1 always together; NaN where one of them holds nowhere. `smoothed` adds half a trace to each of the four cells.
    """

    npmi: float
    smoothed: float
    first: int
    second: int
    both: int
    all: int


def set_tag(ctx: Context, trace_id: str, key: str, value: str) -> None:
    """Put a tag on a trace."""
    ctx.require("traces.write")
    check_trace(ctx, trace_id)
    _check_mutable(key, "set")
    write_labels(ctx, trace_id, "tag", {key: value})


def delete_tag(ctx: Context, trace_id: str, key: str) -> None:
    """Take a tag off a trace. Raises NotFound if it has none of that key."""
    ctx.require("traces.write")
    check_trace(ctx, trace_id)
    _check_mutable(key, "deleted")
    gone = delete(LabelRow).where(
        LabelRow.project_id == ctx.project_id,
        LabelRow.trace_id == trace_id,
        LabelRow.kind == "tag",
        LabelRow.key == key,
    )
    if not list(ctx.session.scalars(gone.returning(LabelRow.key))):
        raise NotFound(f"No trace tag with key '{key}' for trace with ID '{trace_id}'.")


def delete_traces(
    ctx: Context, experiment: str, *, until_ms: int | None, most: int | None, trace_ids: list[str]
) -> int:
    """Delete an experiment's traces: those named, or the oldest up to a time or a number. Returns how many went.

    Raises:
        InvalidInput: it is not said which, or in both ways.
    """
    ctx.require("traces.write")
    if bool(trace_ids) == (until_ms is not None):
        raise InvalidInput("Either `max_timestamp_millis` or `trace_ids` must be specified, but not both.")
    if trace_ids and most is not None:
        raise InvalidInput("`max_traces` can't be specified if `trace_ids` is specified.")
    if most is not None and most <= 0:
        raise InvalidInput(f"`max_traces` must be a positive integer, received {most}.")
    query = select(TraceRow.id).where(
        TraceRow.project_id == ctx.project_id, TraceRow.experiment_id == find_experiment(ctx, experiment).id
    )
    if until_ms is not None:
        query = query.where(TraceRow.started_ms <= until_ms)
        chosen = list(ctx.session.scalars(query.order_by(TraceRow.started_ms, TraceRow.id).limit(most)))
    else:
        chosen = [one for part in chunks(trace_ids) for one in ctx.session.scalars(query.where(TraceRow.id.in_(part)))]
    for part in chunks(sorted(chosen)):
        ctx.session.execute(delete(TraceRow).where(TraceRow.project_id == ctx.project_id, TraceRow.id.in_(part)))
    return len(chosen)


def forget_traces(ctx: Context, experiment_id: str) -> list[str]:
    """Delete the traces of an experiment that was removed for good, and return their ids."""
    gone = delete(TraceRow).where(TraceRow.project_id == ctx.project_id, TraceRow.experiment_id == experiment_id)
    return list(ctx.session.scalars(gone.returning(TraceRow.id)))


def link_to_run(ctx: Context, trace_ids: list[str], run: str) -> None:
    """Tie traces to a run; those that are not here are passed over."""
    ctx.require("traces.write")
    if len(trace_ids) > _LINKED_AT_ONCE:
        raise InvalidInput(
            f"Cannot link more than {_LINKED_AT_ONCE} traces to a run in a single request. "
            f"Provided {len(trace_ids)} traces."
        )
    run_id = find_run(ctx, run)
    link(ctx, "run", run_id, [row.id for row in get_rows(ctx, trace_ids)])


def link_prompts(ctx: Context, trace_id: str, prompts: list[tuple[str, str]]) -> None:
    """Note which versions of prompts a trace used."""
    ctx.require("traces.write")
    check_trace(ctx, trace_id)
    for name, version in prompts:
        if not name or not version or "/" in version or len(name) + len(version) > 290:
            raise InvalidInput(f"'{name}' version '{version}' names no version of a prompt.")
        link(ctx, "prompt", f"{name}/{version}", [trace_id])


def correlate(ctx: Context, experiment_ids: list[str], first: str, second: str, base: str | None) -> Correlation:
    """Count the traces that fit two filters, among those that fit a third."""
    ctx.require("traces.read")

    def count(*filters: str | None) -> int:
        text = " AND ".join(one for one in filters if one)
        inner = matching(ctx, experiment_ids, text).with_only_columns(TraceRow.id).subquery()
        return ctx.session.scalar(select(func.count()).select_from(inner)) or 0

    a, b, both, every = count(base, first), count(base, second), count(base, first, second), count(base)
    return Correlation(_npmi(a, b, both, every), _npmi(a + 1, b + 1, both + 0.5, every + 2), a, b, both, every)


def _npmi(first: float, second: float, both: float, every: float) -> float:
    if not first or not second or not every:
        return math.nan
    if not both:
        return -1.0
    if both == every:
        return 1.0
    return max(-1.0, min(1.0, math.log(both * every / (first * second)) / -math.log(both / every)))


def _check_mutable(key: str, how: str) -> None:
    if key in (SPANS_LOCATION, ARTIFACT_LOCATION):
        raise InvalidInput(f"Tag '{key}' is immutable and cannot be {how} on a trace.")

"""Runs that are begun again: whole, from a step on, or what did not succeed."""

from sqlalchemy import select

from modelops.contracts.errors import InvalidInput
from modelops.contracts.ids import new_id
from modelops.domains.pipelines.caching import are_there
from modelops.domains.pipelines.document import PipelineDocument
from modelops.domains.pipelines.graph import downstream_of
from modelops.domains.pipelines.rows import FAN_OUT, as_run, document_of, find_run, hold
from modelops.domains.pipelines.rules import RunOpen
from modelops.domains.pipelines.runs import begin
from modelops.domains.pipelines.schemas import PipelineRun, RunCreate, RunRerun, RunState, StepState
from modelops.domains.pipelines.tables import PipelineRunRow, PipelineStepRow, PipelineVersionRow
from modelops.kernel.context import Context


def rerun_run(ctx: Context, run: str, body: RunRerun) -> PipelineRun:
    """Begin a run again, as of the version that it had; the new run says in `cause` which it repeats.

    Steps that are not to run again keep their outputs: they are `cached`, from the run before. One whose outputs are gone by
    now runs again.

    Raises:
        RunOpen: the run has not ended.
        InvalidInput: there is no such step, or the wishes contradict each other.
    """
    ctx.require("pipelines.write")
    old = find_run(ctx, run)
    if not RunState(old.state).final:
        raise RunOpen(
            "A run is begun again after its end.", hint=f"Wait for it, or cancel it: mops pipelines cancel {old.id}"
        )
    document = document_of(ctx, old.version_id)
    again = _again(document, body)
    create = RunCreate(
        parameters={**old.parameters, **body.parameters},
        name=old.name,
        tags=old.tags,
        use_cache=body.use_cache,
    )
    version = ctx.session.get_one(PipelineVersionRow, old.version_id)
    row = begin(ctx, old.pipeline, version, document, create, f"rerun:{old.id}")
    if again is not None:
        _take_over(ctx, old, row, again)
    return as_run(ctx, row)


def _again(document: PipelineDocument, body: RunRerun) -> set[str] | None:
    """Return the steps that run again in any case; None where all do."""
    if body.from_step is not None and body.only_failed:
        raise InvalidInput("A run is begun again from a step, or what failed of it: not both.")
    if body.only_failed:
        if body.parameters:
            raise InvalidInput(
                "What failed runs again with the parameters it had: else what succeeded would be of others.",
                hint="Run it again whole, or from a step on.",
            )
        return set()
    if body.from_step is None:
        return None
    if body.from_step not in document.steps:
        raise InvalidInput(
            f"The pipeline has no step '{body.from_step}'.", hint=f"Its steps: {', '.join(list(document.steps)[:20])}."
        )
    return downstream_of(document.steps, body.from_step)


def _take_over(ctx: Context, old: PipelineRunRow, new: PipelineRunRow, again: set[str]) -> None:
    """Give the new run the outputs of the steps that do not run again."""
    query = select(PipelineStepRow).where(
        PipelineStepRow.run_id == old.id,
        PipelineStepRow.state.in_((StepState.SUCCEEDED, StepState.CACHED)),
        PipelineStepRow.kind != FAN_OUT,
    )
    kept = [row for row in ctx.session.scalars(query.order_by(PipelineStepRow.place)) if row.step not in again]
    if not are_there(ctx, [row.outputs for row in kept]):
        kept = [row for row in kept if are_there(ctx, [row.outputs])]
    ctx.session.add_all([_cached(ctx, old, new, row) for row in kept])
    hold(ctx, new.id, new.project_id, [ref["digest"] for row in kept for ref in row.outputs.values() if ref["digest"]])


def _cached(ctx: Context, old: PipelineRunRow, new: PipelineRunRow, row: PipelineStepRow) -> PipelineStepRow:
    now = ctx.clock.now()
    return PipelineStepRow(
        id=new_id("pst"),
        project_id=new.project_id,
        run_id=new.id,
        key=row.key,
        step=row.step,
        index=row.index,
        place=row.place,
        kind=row.kind,
        queue=row.queue,
        state=StepState.CACHED,
        told=False,
        attempt=0,
        failures=0,
        lost=0,
        outputs=row.outputs,
        cached_from=row.cached_from or old.id,
        log_characters=0,
        started_at=now,
        ended_at=now,
    )

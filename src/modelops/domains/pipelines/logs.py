"""What steps write: kept in pieces as it comes, and read from any place on."""

from collections.abc import Sequence

from sqlalchemy import select

from modelops.domains.pipelines.rows import find_run, find_step
from modelops.domains.pipelines.schemas import StepLog, StepOutput, StepState
from modelops.domains.pipelines.tables import PipelineRunRow, PipelineStepLogRow, PipelineStepRow
from modelops.kernel.context import Context
from modelops.kernel.database import raw_of

MOST_CHARACTERS = 16 * 1024**2
"""Of what a step writes, in all its attempts, so much is kept."""

_CUT = "\n… what follows is not kept: a step's output has 16 MiB at most.\n"


def write_logs(ctx: Context, run: PipelineRunRow, wrote: Sequence[StepOutput]) -> None:
    """Keep what attempts of a run wrote. A piece said twice is kept once; one of no step of the run is passed over."""
    if not wrote:
        return
    query = select(PipelineStepRow).where(
        PipelineStepRow.run_id == run.id, PipelineStepRow.id.in_({piece.step for piece in wrote})
    )
    steps = {row.id: row for row in ctx.session.scalars(query)}
    raw = raw_of(ctx.session)
    for piece in wrote:
        row = steps.get(piece.step)
        if row is None or not piece.text or row.log_characters >= MOST_CHARACTERS:
            continue
        text = piece.text.replace("\x00", "\ufffd")  # PostgreSQL keeps no such character
        room = MOST_CHARACTERS - row.log_characters
        kept = text if len(text) <= room else text[:room] + _CUT
        added = raw.execute(
            "INSERT INTO pipeline_step_logs (step_id, attempt, position, size, run_id, text)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (row.id, piece.attempt, piece.offset, len(kept), run.id, kept),
        )
        if added.rowcount == 1:
            row.log_characters += len(text)
            ctx.session.flush()


def get_step_log(ctx: Context, run: str, step: str, offset: int, limit: int, attempt: int | None = None) -> StepLog:
    """Return a piece of what an attempt at a step wrote, from a character on; by default, of the newest attempt."""
    ctx.require("pipelines.read")
    row = find_step(ctx, find_run(ctx, run), step)
    wanted = row.attempt if attempt is None else attempt
    query = (
        select(PipelineStepLogRow.position, PipelineStepLogRow.text)
        .where(
            PipelineStepLogRow.step_id == row.id,
            PipelineStepLogRow.attempt == wanted,
            PipelineStepLogRow.position + PipelineStepLogRow.size > offset,
        )
        .order_by(PipelineStepLogRow.position)
    )
    text, at = "", offset
    for position, piece in ctx.session.execute(query.limit(1_000)):
        if len(text) >= limit:
            break
        text += piece[max(0, at - position) :]
        at = position + len(piece)
    ended = StepState(row.state).final or wanted < row.attempt
    text = text[:limit]
    complete = ended and not _is_more(ctx, row, wanted, offset + len(text))
    return StepLog(text=text, next_offset=offset + len(text), complete=complete)


def _is_more(ctx: Context, row: PipelineStepRow, attempt: int, offset: int) -> bool:
    query = select(PipelineStepLogRow.step_id).where(
        PipelineStepLogRow.step_id == row.id,
        PipelineStepLogRow.attempt == attempt,
        PipelineStepLogRow.position + PipelineStepLogRow.size > offset,
    )
    return ctx.session.execute(query.limit(1)).first() is not None

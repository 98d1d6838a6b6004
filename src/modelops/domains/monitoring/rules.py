"""What a batch of sketches must hold before it is counted.

A batch that is wrong would stay in every report of its window, so it is refused when it comes, not when it is read.
"""

import hashlib
import math
from collections.abc import Sequence

from modelops.contracts.errors import InvalidInput
from modelops.domains.monitoring.schemas import ColumnReference, ColumnSketch, SketchBatch

MOST_ROWS = 10**12
"""In one batch: as many fit a million times into a 64-bit sum."""
_MOST_REVISION = 2**31 - 1
_LONGEST_ID = 40
_LONGEST_KEY = 200


def check_batch(batch: SketchBatch) -> None:
    """Refuse a batch that cannot be stored, or whose columns do not count the rows it says it has.

    Raises:
        InvalidInput: its numbers, texts or counts are wrong.
    """
    counted = (batch.rows, batch.requests, batch.errors, batch.dropped_rows)
    if max(counted) > MOST_ROWS or batch.sequence >= 2**63 or not 0 <= batch.revision <= _MOST_REVISION:
        raise _wrong(batch, "a number is out of range")
    if any(not 0 <= count <= MOST_ROWS for count in batch.latencies) or not batch.latency_sum_s <= MOST_ROWS:
        raise _wrong(batch, "a latency is out of range")
    if len(batch.model_version_id) > _LONGEST_ID:
        raise _wrong(batch, "`model_version_id` is no id")
    if not all(map(_storable, (batch.source, batch.model_version_id, batch.variant))):
        raise _wrong(batch, "a text has characters that cannot be stored")
    for column in batch.inputs:
        _check_column(batch, column)
        if _rows(column) != batch.rows:
            raise _wrong(batch, f"{ascii(column.name)[:60]} does not count {batch.rows} rows")
    for column in batch.outputs:
        _check_column(batch, column)
        if _rows(column) > batch.rows:  # an answer may be left out, a row may not
            raise _wrong(batch, f"the output {ascii(column.name)[:60]} counts more than {batch.rows} rows")


def stored_source(deployment_id: str, source: str) -> str:
    """Return the key a source is kept under: a deployment's own, so that nobody else's batch can pass for its."""
    key = f"{deployment_id}/{source}"
    if len(key) <= _LONGEST_KEY:
        return key
    return f"{deployment_id}/sha256:{hashlib.sha256(source.encode()).hexdigest()}"


def fits(reference: Sequence[ColumnReference], sketches: Sequence[ColumnSketch]) -> bool:
    """Tell whether sketches were counted over a reference's bins."""
    wanted = [(column.name, len(column.counts)) for column in reference]
    return wanted == [(column.name, len(column.counts)) for column in sketches]


def _check_column(batch: SketchBatch, column: ColumnSketch) -> None:
    if column.missing < 0 or min(column.counts, default=0) < 0:
        raise _wrong(batch, "a column has a negative count")
    moments = (column.sum, column.sum_squares, column.low or 0.0, column.high or 0.0)
    if not all(map(math.isfinite, moments)):
        raise _wrong(batch, "a column has a sum or an extreme that is not finite")
    if not _storable(column.name):
        raise _wrong(batch, "a text has characters that cannot be stored")


def _rows(column: ColumnSketch) -> int:
    return sum(column.counts) + column.missing


def _storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _wrong(batch: SketchBatch, what: str) -> InvalidInput:
    return InvalidInput(
        # What a stranger's texts hold is written in ASCII: any answer can carry it.
        f"A batch of {ascii(batch.source)[:60]} cannot be counted: {what}.",
        hint="Send what `Sketcher.take` returned, unchanged, with the number of rows it told.",
    )

"""The output of jobs: read from where they run, with no unit of work open meanwhile."""

import asyncio
from collections.abc import AsyncIterator

from fastapi.concurrency import run_in_threadpool

from modelops.contracts.ports import JobBackend
from modelops.domains.training.rows import attempt_name, check_attempt, find_job
from modelops.domains.training.rules import decode_output
from modelops.domains.training.schemas import JobLog, JobState
from modelops.kernel.scope import Scope

PIECE = 65_536

_PAUSE_S = 0.3
_LONGEST_CHARACTER = 4
"""Bytes of one character in UTF-8 at most: fewer could be no piece of their own."""


def get_job_log(scope: Scope, job: str, offset: int, limit: int, attempt: int | None = None) -> JobLog:
    """Return a piece of the output of a job's attempt (by default the last) from a byte offset on, of whole characters.

    Raises:
        NotFound: there was no such attempt.
    """
    with scope.work(write=False) as ctx:
        ctx.require("jobs.read")
        row = find_job(ctx, job)
        number = check_attempt(row, attempt)
        # Whether it has ended is read before its output: what an ended attempt wrote is all there.
        ended = JobState(row.state).final or number < row.attempt
        following = number + 1 if number < row.attempt else None
        name = attempt_name(row.id, number) if number else None
    wanted = max(limit, _LONGEST_CHARACTER)
    raw = scope.place.ports[JobBackend].log(name, offset=offset, limit=wanted) if name else b""
    complete = ended and len(raw) < wanted
    text, used = decode_output(raw, last=complete)
    return JobLog(
        text=text,
        next_offset=offset + used,
        complete=complete,
        attempt=number,
        next_attempt=following if complete else None,
    )


async def stream_job_log(scope: Scope, job: str) -> AsyncIterator[str]:
    """Return a job's output as it comes, until the job has ended or the platform does. What is wrong is told at once."""
    return _follow(scope, job, await run_in_threadpool(get_job_log, scope, job, 0, PIECE))


async def _follow(scope: Scope, job: str, piece: JobLog) -> AsyncIterator[str]:
    while True:
        if piece.text:
            yield piece.text
        if getattr(scope.request.app.state, "draining", False):
            return
        if piece.complete and piece.next_attempt is None:
            return
        attempt, offset = piece.attempt or None, piece.next_offset
        if piece.next_attempt is not None:
            attempt, offset = piece.next_attempt, 0
        elif not piece.text:
            await asyncio.sleep(_PAUSE_S)
        piece = await run_in_threadpool(get_job_log, scope, job, offset, PIECE, attempt)

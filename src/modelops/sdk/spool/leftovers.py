"""What programs left behind: looking at spools that nobody sends, and sending them."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from modelops.contracts.errors import InvalidInput, MLOpsError, Unauthenticated
from modelops.contracts.schemas import Schema, UtcTime
from modelops.domains.experiments.schemas import RunStatus
from modelops.sdk.client import Client
from modelops.sdk.spool.folder import Header, Progress, SpoolFolder, spools
from modelops.sdk.spool.records import End
from modelops.sdk.spool.segments import is_unfinished, waiting_bytes
from modelops.sdk.spool.sender import Sender, passes, sentence

Told = Callable[[int, int], None]
"""Called with the bytes of records that were sent so far, and those there are."""

State = Literal["open", "waiting", "refused", "damaged", "sent"]

_LONGEST_PAUSE_S = 5.0


class Left(Schema):
    """A spool. `open`: its program lives and sends it itself; `waiting`: to be sent; `refused`: all but what the platform
    refused was sent; `damaged`: nobody can tell whose it is; `sent`: nothing of it is left.

    `damaged` names the records that are lost; `unfinished` tells that the last one was cut off when its program was killed,
    so that its call never returned.
    """

    spool: str
    path: str
    state: State
    experiment: str | None = None
    run_name: str | None = None
    run_id: str | None = None
    began_at: UtcTime | None = None
    url: str | None = None
    project: str | None = None
    waiting_bytes: int = 0
    sent: int = 0
    refused: int = 0
    dropped: int = 0
    damaged: tuple[str, ...] = ()
    unfinished: bool = False
    detail: str | None = None


def pending(place: Path) -> list[Left]:
    """Return what lies in a folder of spools, oldest first."""
    found = []
    for spool in spools(place):
        is_free = spool.try_lock()
        try:
            found.append(_describe(spool, is_open=not is_free))
        finally:
            spool.unlock()
    return found


def send(
    spool: SpoolFolder,
    client_of: Callable[[Header], Client],
    *,
    again: bool = False,
    patience_s: float = 10.0,
    told: Told | None = None,
) -> Left:
    """Send a spool, unless somebody else does, and return what became of it.

    A run whose program ended without ending it ends as failed.

    Args:
        spool: What to send.
        client_of: Returns the client of the platform that a spool is for.
        again: Whether what was refused is sent once more.
        patience_s: For how long a platform that is away is asked again.
        told: Hears how far it is.
    """
    if not spool.try_lock():
        return _describe(spool, is_open=True)
    try:
        if again:
            spool.take_refused_back()
        try:
            sender = Sender(spool, client_of(spool.header()))
            _drive(sender, patience_s, told)
        except (MLOpsError, OSError) as failure:
            return _describe(spool, is_open=False, failure=failure)
        found = _describe(spool, is_open=False, sent=sender.handled)
        if found.state == "sent":
            spool.remove()
        return found
    finally:
        spool.unlock()


def _drive(sender: Sender, patience_s: float, told: Told | None) -> None:
    spool, pause, deadline = sender.spool, 0.1, time.monotonic() + patience_s
    total = waiting_bytes(spool.path, sender.progress.position)
    while True:
        try:
            if not sender.step():
                if not sender.progress.ended:
                    sender.end(End(RunStatus.FAILED, "The program that made the run ended without ending it.", False))
                return
            if told is not None:
                told(total - waiting_bytes(spool.path, sender.progress.position), total)
            pause, deadline = 0.1, time.monotonic() + patience_s
        except MLOpsError as failure:
            wait = max(pause, failure.retry_after_s)
            if not passes(failure) or isinstance(failure, Unauthenticated) or time.monotonic() + wait > deadline:
                raise
            time.sleep(wait * random.uniform(1.0, 1.5))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 2, _LONGEST_PAUSE_S)


def _describe(spool: SpoolFolder, *, is_open: bool, sent: int = 0, failure: Exception | None = None) -> Left:
    name, path = spool.path.name, str(spool.path)
    try:
        header = spool.header()
    except InvalidInput as damaged:
        gone = not spool.path.exists()  # whoever had it has sent it meanwhile
        return Left(spool=name, path=path, state="sent" if gone else "damaged", detail=None if gone else str(damaged))
    progress = spool.progress()
    waiting = waiting_bytes(spool.path, progress.position)
    why = sentence(failure) if failure else progress.failure or next((why for why, _ in spool.refused()), None)
    return Left(
        spool=name,
        path=path,
        state="open" if is_open else _state(progress),
        experiment=header.experiment,
        run_name=header.name,
        run_id=progress.run_id,
        began_at=header.began_at,
        url=header.url,
        project=header.project,
        waiting_bytes=waiting,
        sent=sent,
        refused=progress.refused,
        dropped=progress.dropped,
        damaged=progress.damaged,
        unfinished=not is_open and is_unfinished(spool.path),
        detail=why,
    )


def _state(progress: Progress) -> State:
    if not progress.ended:
        return "waiting"
    return "refused" if progress.refused else "sent"

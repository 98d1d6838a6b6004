"""Shadows: variants that are asked a copy of what others have answered, and whose answers nobody gets."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence

from modelops.contracts.errors import MLOpsError
from modelops.runtime.serving.engine.asks import Ask, Outcome
from modelops.runtime.serving.variants.variant import Variant, Way

_MOST_COPIES = 256
_MOST_BYTES = 32 * 1024 * 1024

_log = logging.getLogger(__name__)

Done = Callable[[Outcome], None]


class Shadow:
    """One shadow and its share of the requests, in percent. Belongs to one event loop.

    What waits for it is bounded; beyond, copies are dropped and counted.
    """

    def __init__(self, variant: Variant, share: float) -> None:
        self._variant, self._share = variant, share

    def is_drawn(self) -> bool:
        """Tell whether it is to be asked a request."""
        return self._share >= 100 or random.random() * 100 < self._share  # noqa: S311

    def copy(self, of: Way, body: bytes, json_length: int | None, request_id: str | None) -> None:
        """Ask it, soon, what another variant was asked, and log it if that was logged."""
        variant = self._variant
        if variant.copies >= _MOST_COPIES or variant.copied_bytes + len(body) > _MOST_BYTES:
            variant.part.counts.shadow_dropped += 1
            return
        variant.copies += 1
        variant.copied_bytes += len(body)
        way = variant.plain if of is of.variant.plain else variant.open
        asyncio.get_running_loop().call_soon(self._ask, way, body, json_length, request_id)

    def _ask(self, way: Way, body: bytes, json_length: int | None, request_id: str | None) -> None:
        began = time.perf_counter()

        def done(outcome: Outcome) -> None:
            variant = way.variant
            variant.copies -= 1
            variant.copied_bytes -= len(body)
            status = str(outcome.status) if isinstance(outcome, MLOpsError) else "200"
            way.tally.answered(status, time.perf_counter() - began)

        def read() -> Ask:
            ask = way.ask(body, json_length, None, began, done)
            if way.log is not None:
                ask.logged = way.log.pick(request_id)
            return ask

        def submit(reading: asyncio.Future[Ask]) -> None:
            _submit(way, reading.result, done)

        if way.form.is_quick(body, json_length):
            _submit(way, read, done)
        else:
            asyncio.get_running_loop().run_in_executor(None, read).add_done_callback(submit)


def follow(
    shadows: Sequence[Shadow], way: Way, body: bytes, json_length: int | None, request_id: str | None, done: Done
) -> Done:
    """Return what takes the outcome of a request in place of `done`, and afterwards has shadows asked the same.

    Args:
        request_id: By this, all variants log the request, or none does.
    """
    drawn = [shadow for shadow in shadows if shadow.is_drawn()]
    if not drawn:
        return done

    def answered(outcome: Outcome) -> None:
        done(outcome)
        for shadow in drawn:
            shadow.copy(way, body, json_length, request_id)

    return answered


def _submit(way: Way, read: Callable[[], Ask], done: Done) -> None:
    try:
        way.variant.engine.submit(read())
    except MLOpsError as wrong:
        done(wrong)
    except Exception:
        _log.exception("a shadow could not be asked")
        done(MLOpsError("The runtime failed."))

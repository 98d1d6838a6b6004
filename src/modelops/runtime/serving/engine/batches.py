"""A batch: the rows of several requests put together, asked for at once, and taken apart again."""

import logging
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelops.contracts.errors import InvalidInput, MLOpsError
from modelops.domains.models.flavours import Predictor
from modelops.runtime.serving.engine.asks import Answers, Ask, Seen
from modelops.runtime.serving.parsing import Parser
from modelops.runtime.serving.predicting import ask as ask_model
from modelops.runtime.serving.predicting import way_to_ask

_log = logging.getLogger(__name__)


@dataclass
class Results:
    """What the model saw and said in a batch. `failed` counts requests that failed for a reason of the model's or ours,
    `refused` those whose rows do not fit."""

    seen: list[Seen] = field(default_factory=list)
    failed: int = 0
    refused: int = 0


class Batcher:
    """Asks one model for batches. Holds no state of its own between them.

    Args:
        is_timed: Note when the model was asked.
    """

    def __init__(self, predictor: Predictor, parser: Parser, *, is_timed: bool = False) -> None:
        self._parser, self._asked, self._is_timed = parser, way_to_ask(predictor), is_timed
        self._classes = None if predictor.classes is None else len(predictor.classes)

    def work(self, asks: list[Ask]) -> Results:
        """Ask for all of them at once; where that fails, for each half, so that what is poisoned fails by itself."""
        results = Results()
        try:
            self._work(asks, results)
        except Exception as wrong:
            _log.exception("a batch failed")
            self._fail(asks, wrong, results)
        return results

    def _work(self, asks: list[Ask], results: Results) -> None:
        asks, rows = self._together(asks, results)
        if not asks:
            return
        count = sum(ask.count for ask in asks)
        began = time.perf_counter() if self._is_timed else 0.0
        try:
            answer = ask_model(self._asked, self._classes, rows, count)
            _take_apart(asks, Answers(answer, (began, time.perf_counter()) if began else None), count)
        except MLOpsError as wrong:
            if len(asks) == 1:
                _log.warning("a request failed: %s", wrong.detail, exc_info=wrong.__cause__)
                self._fail(asks, wrong, results)
                return
            middle = len(asks) // 2
            self._work(asks[:middle], results)
            self._work(asks[middle:], results)
            return
        results.seen.append(Seen(rows, answer, count, asks))

    def _together(self, asks: list[Ask], results: Results) -> tuple[list[Ask], Any]:
        """Return the requests whose rows fit the signature, and the rows of all of them."""
        if all(ask.listed for ask in asks):
            matrix = self._parser.matrix([row for ask in asks for row in ask.rows])
            if self._parser.fits(matrix):
                return asks, matrix
        fitting = []
        for ask in asks:
            try:
                if ask.listed:
                    ask.rows, ask.listed = self._parser.check(ask.rows), False
                fitting.append(ask)
            except InvalidInput as wrong:
                ask.outcome = wrong
                results.refused += 1
        return fitting, _joined([ask.rows for ask in fitting])

    @staticmethod
    def _fail(asks: list[Ask], wrong: Exception, results: Results) -> None:
        if not isinstance(wrong, MLOpsError):
            wrong = MLOpsError("The runtime failed.", hint="The replica's log has the traceback.")
        for ask in asks:
            if ask.outcome is None:
                ask.outcome = wrong
                results.failed += 1


def _joined(parts: list[Any]) -> Any:
    if len(parts) < 2:
        return parts[0] if parts else None
    if isinstance(parts[0], dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)


def _take_apart(asks: list[Ask], answers: Answers, count: int) -> None:
    """Write every request's reply, or none: a failure leaves all of them without an outcome.

    Those of a row each, by far the most, are written together. `count` is how many rows there are.
    """
    start, replies, first = 0, [], asks[0].render
    each = getattr(first, "each", None)
    if each is not None and len(asks) == count and [ask.render for ask in asks].count(first) == count:
        for ask, outcome in zip(asks, each(answers), strict=True):
            ask.outcome = outcome
        return
    for ask in asks:
        stop = start + ask.count
        replies.append(ask.render(answers, start, stop))
        start = stop
    for ask, reply in zip(asks, replies, strict=True):
        ask.outcome = reply

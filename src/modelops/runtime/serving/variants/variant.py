"""One served model: its package, and everything that asks it, counts it and explains it."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from modelops.contracts.errors import MLOpsError
from modelops.domains.models.flavours import Bounded
from modelops.domains.serving.schemas import RevisionDocument, VariantDocument, VariantRole
from modelops.runtime.serving.config import ReplicaConfig
from modelops.runtime.serving.counting.metrics import Counts, Metrics, Tally
from modelops.runtime.serving.engine.asks import Ask, Outcome
from modelops.runtime.serving.engine.batches import Batcher
from modelops.runtime.serving.engine.engine import Engine
from modelops.runtime.serving.engine.pace import Pace, Watch
from modelops.runtime.serving.explaining.explain import Explainer
from modelops.runtime.serving.explaining.turns import Turns
from modelops.runtime.serving.forms import Body, Form, PlainForm
from modelops.runtime.serving.limits import limits_of
from modelops.runtime.serving.logs.log import PredictionLog, about_of, log_of
from modelops.runtime.serving.logs.logged import About
from modelops.runtime.serving.openinference.form import OpenForm
from modelops.runtime.serving.packages.package import Package
from modelops.runtime.serving.parsing import Parser
from modelops.runtime.serving.replies import PlainReplies, origin_of
from modelops.runtime.serving.telemetry.spool import Spool
from modelops.runtime.serving.telemetry.tap import Tap

_WARM_UPS = 8


@dataclass(frozen=True)
class Telling:
    """What a replica's variants share: its counts, its spool, the numbers of its telemetry batches, and the turns in which
    they explain. `is_timed` tells that batches are timed, for traces."""

    metrics: Metrics
    spool: Spool
    sequence: Iterator[int]
    turns: Turns
    is_timed: bool


@dataclass(frozen=True)
class Part:
    """A variant's part in one revision: under which name and limits it is asked, how it answers, and what is logged of that."""

    document: RevisionDocument
    variant: VariantDocument
    origin: dict[str, Any]
    plain: PlainForm
    open: OpenForm
    counts: Counts
    about: About | None


class Way:
    """How a request reaches a variant in one form. What it holds changes when the variant takes part in another revision."""

    __slots__ = ("form", "log", "patience_s", "tally", "variant")

    form: Form
    tally: Tally
    patience_s: float
    log: PredictionLog | None

    def __init__(self, variant: "Variant") -> None:
        self.variant = variant

    def become(self, form: Form, part: Part) -> None:
        """Answer as in another revision from now on."""
        self.form, self.tally = form, part.counts.tally(form.label)
        limit_ms = part.document.limits.request_timeout_ms
        self.patience_s = math.inf if limit_ms is None else limit_ms / 1000
        self.log = None if part.about is None else self.variant.log

    def draw(self) -> "Way":
        """Return itself: there is nothing to choose."""
        return self

    def ask(
        self,
        body: Body,
        json_length: int | None,
        timeout_ms: int | None,
        began: float,
        done: Callable[[Outcome], None],
    ) -> Ask:
        """Read a body and return what the variant's engine takes.

        Args:
            timeout_ms: How long the caller waits; the deployment's limit holds where that is longer or unknown.
            began: When the request came, in seconds of `time.perf_counter`.

        Raises:
            InvalidInput: the body is not of the form, or its rows do not fit the signature.
        """
        rows, count, listed, render = self.form.prepare(body, json_length)
        patience_s = self.patience_s
        if timeout_ms is not None:
            patience_s = min(timeout_ms / 1000, patience_s)
        return Ask(rows, count, len(body), render, done, listed, began, began + patience_s)


class Variant:
    """A loaded package with all that is its own: what it does, or fails to do, holds no other variant up.

    It stays when a swap brings another revision in which the same package is served; only its part changes then.

    Attributes:
        folder: Where the package's files lie.
        users: How many requests of the ordinary lane hold it just now, beside those in the engine.
        copies, copied_bytes: What it is asked as a shadow just now.
    """

    def __init__(
        self,
        config: ReplicaConfig,
        document: RevisionDocument,
        variant: VariantDocument,
        package: Package,
        folder: Path,
        telling: Telling,
    ) -> None:
        self._config, self._metrics = config, telling.metrics
        self.package, self.folder = package, folder
        self._closing, self._closed = threading.Lock(), False
        self.users = self.copies = self.copied_bytes = 0
        self.explainer = Explainer(package.predictor, variant.signature, package.sample, telling.turns)
        self.plain, self.open = Way(self), Way(self)
        self.part = part = self.part_in(document, variant)
        self.tap = Tap(
            document,
            variant,
            package.reference,
            config.source,
            telling.spool,
            telling.metrics,
            part.counts,
            config.flush_s,
            telling.sequence,
        )
        parser = _parser(part.variant, package, document.limits.max_rows)
        self._batcher = Batcher(package.predictor, parser, is_timed=telling.is_timed)
        self._pace = Pace()
        self.engine = Engine(self._batcher, limits_of(config, document), self._pace, part.counts, self.tap)
        self.log: PredictionLog | None = None
        self._take(part)

    def part_in(self, document: RevisionDocument, variant: VariantDocument) -> Part:
        """Return the part that this package has in a revision, without taking it yet."""
        predictor = self.package.predictor
        parser = _parser(variant, self.package, document.limits.max_rows)
        origin = origin_of(variant, document.revision, self._config.replica)
        told = {"variant": variant.name} if len(document.variants) > 1 else {}
        return Part(
            document,
            variant,
            origin,
            PlainForm(parser, PlainReplies(origin, predictor.classes)),
            OpenForm(variant, predictor, parser, document.limits.max_rows, told),
            self._metrics.of(document.revision, variant.name),
            about_of(self._config, document, variant, predictor.classes),
        )

    def become(self, part: Part) -> None:
        """Take another part; what is in the engine by now is counted there, too."""
        self.part = part
        self.tap.become(part.document.revision, part.variant, part.counts)
        self._take(part)

    def _take(self, part: Part) -> None:
        if part.about is not None:
            self.log = self.tap.log = self.log or log_of(self._config, self._metrics)
        if self.log is not None:
            self.log.become(part.about, part.counts)
        self.engine.become(limits_of(self._config, part.document), part.counts, self.log)
        self.plain.become(part.plain, part)
        self.open.become(part.open, part)
        # A shadow is never asked on the event loop: its slowness must not touch callers of others.
        self._pace.may_suit = (
            isinstance(self.package.predictor, Bounded) and part.variant.role is not VariantRole.SHADOW
        )

    def warm_up(self) -> None:
        """Predict the package's first example row, so that the first caller does not pay for first-time work, and so that
        the model's speed is known.

        Raises:
            ModelFailed: the model cannot predict its own example.
        """
        if not self.package.sample:
            return
        body = to_json({"instances": self.package.sample[:1]})
        for _ in range(_WARM_UPS):
            ask = self.plain.ask(body, None, None, time.perf_counter(), _nowhere)
            watch = Watch()
            self._batcher.work([ask])
            self._pace.observe(watch.seconds(), 1, 1)
            if isinstance(ask.outcome, MLOpsError):
                raise ask.outcome

    @property
    def is_busy(self) -> bool:
        """Tell whether somebody waits for it."""
        return bool(self.users or self.copies or self.engine.inflight or self.engine.waiting)

    def close(self) -> None:
        """End its threads, once they are through with what they work on. May be called again, and from any thread."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self.engine.close()
                self.tap.close()

    def let_go(self) -> None:
        """Free what it holds, though connections that rest may hold it still. It cannot be asked any more."""
        del self.package, self.explainer, self.engine, self.tap, self._batcher


def _parser(variant: VariantDocument, package: Package, max_rows: int) -> Parser:
    return Parser(variant.signature, max_rows, columns=package.predictor.wants_columns)


def _nowhere(_outcome: Outcome) -> None:
    """Take the outcome of a warm-up."""

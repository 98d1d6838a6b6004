"""One replica's parts, put together: what the HTTP app calls."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from typing import Any

from pydantic_core import to_json

from modelops.contracts.errors import MLOpsError
from modelops.domains.models.flavours import Bounded
from modelops.domains.serving.schemas import RevisionDocument
from modelops.runtime.serving.access import Gatekeeper, jwks_fetcher, require_permission
from modelops.runtime.serving.config import ReplicaConfig
from modelops.runtime.serving.engine.asks import Ask, Outcome
from modelops.runtime.serving.engine.batches import Batcher
from modelops.runtime.serving.engine.engine import Engine
from modelops.runtime.serving.engine.pace import Pace, Watch
from modelops.runtime.serving.explain import Explainer
from modelops.runtime.serving.failures import ModelFailed
from modelops.runtime.serving.forms import Form, PlainForm
from modelops.runtime.serving.lanes import Lane
from modelops.runtime.serving.metrics import Counts, Metrics
from modelops.runtime.serving.openinference.form import OpenForm
from modelops.runtime.serving.openinference.metadata import model_paths
from modelops.runtime.serving.package import Package
from modelops.runtime.serving.parsing import Parser
from modelops.runtime.serving.rates import Rates
from modelops.runtime.serving.replies import PlainReplies
from modelops.runtime.serving.sharing import read_counts, write_counts
from modelops.runtime.serving.spool import Spool
from modelops.runtime.serving.tap import Tap
from modelops.runtime.serving.telemetry import Sender
from modelops.runtime.serving.turns import Turns
from modelops.runtime.serving.wishes import wish_of

_WARM_UPS = 8
_EXPLANATIONS_AT_ONCE = 4
_BUSY_S = 0.05

_log = logging.getLogger(__name__)


class Replica:
    """A loaded package with everything around it. `draining` is set once the process was asked to end."""

    def __init__(self, config: ReplicaConfig, document: RevisionDocument, package: Package) -> None:
        self.config, self.document, self.package = config, document, package
        limits, worker = document.limits, config.worker
        if config.max_concurrency is not None:
            limits = limits.model_copy(update={"max_concurrency": config.max_concurrency})
        self.metrics = Metrics(document, None if worker is None else read_counts(config.workdir, worker.index))
        self.explanations = Lane("explain", 1, _EXPLANATIONS_AT_ONCE)
        self._turns = Turns(self._is_busy)
        self.explainer = Explainer(package.predictor, document.signature, package.sample, self._turns)
        self.gate = Gatekeeper(
            document.token_keys, document.audience, document.project_id, jwks_fetcher(document.platform_url)
        )
        orphan_after_s = 10 * config.flush_s
        spool = Spool(config.spool, config.source, document.deployment_id, orphan_after_s=orphan_after_s)
        self.tap = Tap(document, package.reference, config.source, spool, self.metrics, config.flush_s)
        self.sender = Sender(config, document.platform_url, spool, self.metrics)
        share = 1 if worker is None else worker.count  # a caller's connections spread over the workers
        rate = None if limits.rate_per_s is None else limits.rate_per_s / share
        self.rates = Rates(rate, max(1, limits.rate_burst // share))
        parser = Parser(document.signature, limits.max_rows, columns=package.predictor.wants_columns)
        self.plain = PlainForm(parser, PlainReplies(document, package.predictor.classes, config.replica))
        self.open = OpenForm(document, package.predictor, parser)
        self.forms: dict[str, Form] = {"/predict": self.plain} | {
            f"{path}/infer": self.open for path in model_paths(document)
        }
        self._batcher = Batcher(package.predictor, parser)
        self._pace = Pace(may_suit=isinstance(package.predictor, Bounded))
        self.engine = Engine(self._batcher, limits, self._pace, self.metrics, self.tap)
        self._timeout_ms = limits.request_timeout_ms
        self.draining = False
        self.asked_at = time.perf_counter()

    def start(self) -> None:
        """Begin to send telemetry."""
        self.tap.start()
        self.sender.start()

    def close(self) -> None:
        """Flush telemetry and end the threads."""
        self.engine.close()
        self._turns.end()
        self.explanations.close()
        self.tap.close()
        self.sender.close()

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
            ask = self.ask(self.plain, body, None, None, time.perf_counter(), _nowhere)
            watch = Watch()
            results = self._batcher.work([ask])
            self._pace.observe(watch.on_loop(), 1, 1)
            outcome = results.outcomes[ask]
            if isinstance(outcome, MLOpsError):
                raise outcome

    async def admit(self, authorization: str | None, *, predicting: bool) -> None:
        """Check a caller's access token, and its permission and rate where it wants something of the model."""
        claims = self.gate.known(authorization)
        if claims is None:
            claims = await asyncio.get_running_loop().run_in_executor(None, self.gate.admit, authorization)
        if predicting:
            require_permission(claims, self.document.deployment_id)
            self.rates.check(str(claims["sub"]))

    def ask(
        self,
        form: Form,
        body: bytes,
        json_length: int | None,
        timeout_ms: int | None,
        began: float,
        done: Callable[[Outcome], None],
    ) -> Ask:
        """Read a body and return what the engine takes.

        Args:
            timeout_ms: How long the caller waits; the deployment's limit holds where that is longer or unknown.
            began: When the request came, in seconds of `time.perf_counter`.

        Raises:
            InvalidInput: the body is not of the form, or its rows do not fit the signature.
        """
        prepared = form.prepare(body, json_length)
        return Ask(
            prepared.rows,
            prepared.count,
            len(body),
            prepared.render,
            done,
            listed=prepared.listed,
            began=began,
            deadline=self.deadline(timeout_ms, began),
        )

    def deadline(self, timeout_ms: int | None, began: float) -> float | None:
        """Return when a request's time is over, by its own word or the deployment's limit, whichever is sooner."""
        limit = self._timeout_ms
        if timeout_ms is None or (limit is not None and limit < timeout_ms):
            timeout_ms = limit
        return None if timeout_ms is None else began + timeout_ms / 1000

    def _is_busy(self) -> bool:
        """Tell whether predictions are under way, or were a moment ago."""
        return time.perf_counter() - self.asked_at < _BUSY_S

    def exposition(self) -> bytes:
        """Return the metrics of all of the replica's processes in Prometheus' text format."""
        worker, own = self.config.worker, self._counts()
        others = range(0 if worker is None else worker.count)
        told = [read_counts(self.config.workdir, index) for index in others if worker and index != worker.index]
        return self.metrics.render([own, *(counts for counts in told if counts is not None)])

    def share_counts(self) -> None:
        """Show the other workers what this one counted."""
        if self.config.worker is not None:
            write_counts(self.config.workdir, self.config.worker.index, self._counts())

    def _counts(self) -> Counts:
        counts = self.metrics.counts
        counts.pid, counts.inflight, counts.queue_depth = os.getpid(), self.engine.inflight, self.engine.waiting
        return counts

    def explain(self, body: bytes, deadline: float | None) -> bytes:
        """Answer a request for explanations. Runs on the one thread that explains.

        Args:
            deadline: When nobody wants the reply any more, in seconds of `time.perf_counter`.
        """
        instances, wish = wish_of(body)
        self._turns.deadline = deadline
        try:
            members = self.explainer.explain(instances, wish)
        except MLOpsError:
            raise
        except Exception as wrong:
            _log.exception("explaining failed")
            raise ModelFailed(f"Explaining failed with {type(wrong).__name__}: {str(wrong)[:300]}.") from wrong
        return to_json({**members, **self._origin()})

    def _origin(self) -> dict[str, Any]:
        document = self.document
        return {
            "model": document.model,
            "version": document.version,
            "revision": document.revision,
            "replica": self.config.replica,
        }


def _nowhere(_outcome: Outcome) -> None:
    """Take the outcome of a warm-up."""

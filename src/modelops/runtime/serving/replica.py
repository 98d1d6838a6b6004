"""One replica's parts, put together: what the HTTP app calls."""

import asyncio
import itertools
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

from pydantic_core import to_json

from modelops.contracts.errors import MLOpsError
from modelops.domains.serving.schemas import RevisionDocument, VariantDocument
from modelops.runtime.serving.access import Gatekeeper, jwks_fetcher, require_permission
from modelops.runtime.serving.config import ReplicaConfig
from modelops.runtime.serving.counting.gpus import gpus_of
from modelops.runtime.serving.counting.metrics import Metrics, ProcessCounts
from modelops.runtime.serving.counting.sharing import read_counts, write_counts
from modelops.runtime.serving.explaining.lanes import Lane
from modelops.runtime.serving.explaining.turns import Turns
from modelops.runtime.serving.explaining.wishes import wish_of
from modelops.runtime.serving.failures import ModelFailed
from modelops.runtime.serving.limits import rates_of
from modelops.runtime.serving.logs.sender import LogSender
from modelops.runtime.serving.packages.package import load_package
from modelops.runtime.serving.telemetry.sender import Sender
from modelops.runtime.serving.telemetry.spool import Spool
from modelops.runtime.serving.tracing import tracing_of
from modelops.runtime.serving.variants.served import Served
from modelops.runtime.serving.variants.variant import Part, Telling, Variant

_EXPLANATIONS_AT_ONCE = 4
_BUSY_S = 0.05

_log = logging.getLogger(__name__)


class Replica:
    """One process's variants with everything around them. `draining` is set once the process was asked to end.

    Attributes:
        current: What it serves; another one after a swap.
        retiring: What it served before, and somebody waits for still.
        followers: Who is told what is served after a swap, in the same step of the event loop.
    """

    def __init__(self, config: ReplicaConfig, document: RevisionDocument) -> None:
        self.config = config
        worker = config.worker
        self._gpus = gpus_of(os.environ)
        before = None if worker is None else read_counts(config.workdir, worker.index)
        self.metrics = Metrics(document, before, os.environ, self._gpus)
        self.explanations = Lane("explain", 1, _EXPLANATIONS_AT_ONCE)
        self.gate = Gatekeeper(
            document.token_keys, document.audience, document.project_id, jwks_fetcher(document.platform_url)
        )
        deployment, url = document.deployment_id, document.platform_url
        spool = Spool(config.spool, config.source, deployment, orphan_after_s=config.orphan_after_s)
        self.sender = Sender(config, url, spool, self.metrics, LogSender(config, url, deployment, self.metrics))
        self.tracing = tracing_of(document, config.replica, os.environ)
        self._turns = Turns(self._is_busy)
        self._telling = Telling(self.metrics, spool, itertools.count(), self._turns, is_timed=self.tracing is not None)
        self._folders = itertools.count()
        self.rates = rates_of(config, document)
        self.retiring: list[Variant] = []
        self.current = Served(document, [self.load(document, variant) for variant in document.variants])
        self._adopt()
        self.followers: list[Callable[[Served], None]] = []
        self.draining = False
        self.asked_at = time.perf_counter()

    @property
    def document(self) -> RevisionDocument:
        """Return what it serves, as it was told."""
        return self.current.document

    def load(self, document: RevisionDocument, variant: VariantDocument) -> Variant:
        """Load and warm a variant's package, from any thread.

        Raises:
            MLOpsError: in a sentence for the deployment's owner, why it cannot be served.
        """
        folder = self.config.packages / str(next(self._folders))
        try:
            package = load_package(self.config, document, variant, folder)
            loaded = Variant(self.config, document, variant, package, folder, self._telling)
            loaded.warm_up()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return loaded

    def swap(self, document: RevisionDocument, parts: Sequence[tuple[Variant, Part]]) -> list[Variant]:
        """Serve other variants from now on, and return those that are served no more. In one step of the event loop."""
        before = self.current
        for variant, part in parts:
            if variant in before.variants:
                variant.become(part)
            else:
                variant.tap.start()
        limits, wanted = before.document.limits, document.limits
        if (limits.rate_per_s, limits.rate_burst) != (wanted.rate_per_s, wanted.rate_burst):
            self.rates = rates_of(self.config, document)
        if document.platform_url != before.document.platform_url:
            self.sender.send_to(document.platform_url)
            self.gate.fetch_by(jwks_fetcher(document.platform_url))
        self.current = Served(document, [variant for variant, _ in parts])
        self._adopt()
        for follow in self.followers:
            follow(self.current)
        return [variant for variant in before.variants if variant not in self.current.variants]

    def retired(self, variant: Variant) -> None:
        """Forget a variant that has ended."""
        self.retiring.remove(variant)
        counts = variant.part.counts
        counts.inflight = counts.queue_depth = 0

    def start(self) -> None:
        """Begin to send telemetry."""
        for variant in self.current.variants:
            variant.tap.start()
        self.sender.start()

    def close(self) -> None:
        """Flush telemetry and end the threads."""
        self._turns.end()
        self.explanations.close()
        for variant in (*self.retiring, *self.current.variants):
            variant.close()
        self.sender.close()
        if self.tracing is not None:
            self.tracing.close()
        if self._gpus is not None:
            self._gpus.close()

    async def admit(self, authorization: str | None, *, predicting: bool) -> None:
        """Check a caller's access token, and its permission and rate where it wants something of a model."""
        claims = await self.claims(authorization)
        if predicting:
            require_permission(claims, self.document.deployment_id)
            self.rates.check(str(claims["sub"]))

    async def claims(self, authorization: str | None) -> dict[str, Any]:
        """Return what a caller's access token says, once it was checked."""
        claims = self.gate.known(authorization)
        if claims is None:
            claims = await asyncio.get_running_loop().run_in_executor(None, self.gate.admit, authorization)
        return claims

    def told(self) -> list[ProcessCounts]:
        """Return what each of the replica's processes counted; of others, as of half a second ago."""
        worker = self.config.worker
        others = range(0 if worker is None else worker.count)
        read = [read_counts(self.config.workdir, index) for index in others if worker and index != worker.index]
        return [self._counted(), *(counts for counts in read if counts is not None)]

    def exposition(self) -> bytes:
        """Return the metrics of all of the replica's processes in Prometheus' text format."""
        return self.metrics.render(self.told())

    def share_counts(self) -> None:
        """Show the other workers what this one counted."""
        if self.config.worker is not None:
            write_counts(self.config.workdir, self.config.worker.index, self._counted())

    def explain(self, variant: Variant, body: bytes, deadline: float | None) -> bytes:
        """Answer a request for explanations. Runs on the one thread that explains.

        Args:
            deadline: When nobody wants the reply any more, in seconds of `time.perf_counter`.
        """
        instances, wish = wish_of(body)
        self._turns.deadline = deadline
        try:
            members = variant.explainer.explain(instances, wish)
        except MLOpsError:
            raise
        except Exception as wrong:
            _log.exception("explaining failed")
            raise ModelFailed(f"Explaining failed with {type(wrong).__name__}: {str(wrong)[:300]}.") from wrong
        return to_json({**members, **variant.part.origin})

    def _is_busy(self) -> bool:
        """Tell whether predictions are under way, or were a moment ago."""
        return time.perf_counter() - self.asked_at < _BUSY_S

    def _counted(self) -> ProcessCounts:
        for variant in (*self.retiring, *self.current.variants):
            counts, engine = variant.part.counts, variant.engine
            counts.inflight, counts.queue_depth = engine.inflight, engine.waiting
        return self.metrics.counted()

    def _adopt(self) -> None:
        for variant in self.current.variants:
            part = variant.part
            self.metrics.adopt(part.document.revision, part.variant.name, part.counts)

"""One replica's parts, put together: what the HTTP app calls."""

import asyncio
import logging
import os
import time
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from modelops.contracts.errors import InvalidInput, MLOpsError
from modelops.domains.models.instances import check_instances
from modelops.domains.serving.schemas import RevisionDocument
from modelops.runtime.serving.access import Gatekeeper, jwks_fetcher, require_permission
from modelops.runtime.serving.config import ReplicaConfig
from modelops.runtime.serving.explain import Explainer
from modelops.runtime.serving.failures import ModelFailed
from modelops.runtime.serving.lanes import Lane
from modelops.runtime.serving.metrics import Metrics
from modelops.runtime.serving.package import Package
from modelops.runtime.serving.predicting import Answer, ask, plain
from modelops.runtime.serving.spool import Spool
from modelops.runtime.serving.tap import Tap
from modelops.runtime.serving.telemetry import Sender

_EXPLANATIONS_AT_ONCE = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reply:
    """A prediction's body, and what the tap gets to see of it."""

    body: bytes
    rows: Any
    answer: Answer
    count: int


class Replica:
    """A loaded package with everything around it. `draining` is set once the process was asked to end."""

    def __init__(self, config: ReplicaConfig, document: RevisionDocument, package: Package) -> None:
        self.config, self.document, self.package = config, document, package
        self.metrics = Metrics(document)
        limits = document.limits
        threads = max(2, limits.cpus or os.cpu_count() or 2)
        self.predictions = Lane("predict", min(threads, limits.max_concurrency), limits.max_concurrency, self.metrics)
        self.explanations = Lane("explain", 1, _EXPLANATIONS_AT_ONCE)
        self.explainer = Explainer(package.predictor, document.signature, package.sample)
        self.gate = Gatekeeper(
            document.token_keys, document.audience, document.project_id, jwks_fetcher(document.platform_url)
        )
        orphan_after_s = 10 * config.flush_s
        spool = Spool(config.spool, config.source, document.deployment_id, orphan_after_s=orphan_after_s)
        self.tap = Tap(document, package.reference, config.source, spool, self.metrics, config.flush_s)
        self.sender = Sender(config, document.platform_url, spool, self.metrics)
        self.draining = False
        self.asked_at = time.monotonic()

    def start(self) -> None:
        """Begin to send telemetry."""
        self.tap.start()
        self.sender.start()

    def close(self) -> None:
        """Flush telemetry and end the threads."""
        self.predictions.close()
        self.explanations.close()
        self.tap.close()
        self.sender.close()

    def warm_up(self) -> None:
        """Predict the package's first example row, so that the first caller does not pay for first-time work.

        Raises:
            ModelFailed: the model cannot predict its own example.
        """
        if self.package.sample:
            self.predict(to_json({"instances": self.package.sample[:1]}))

    async def admit(self, authorization: str | None, *, predicting: bool) -> None:
        """Check a caller's access token, and its permission where it wants something of the model."""
        claims = self.gate.known(authorization)
        if claims is None:
            claims = await asyncio.get_running_loop().run_in_executor(None, self.gate.admit, authorization)
        if predicting:
            require_permission(claims)

    def predict(self, body: bytes) -> Reply:
        """Answer a request's body. Runs on a thread of the lane."""
        instances = _instances(body)
        predictor = self.package.predictor
        rows = check_instances(
            self.document.signature, instances, self.document.limits.max_rows, columns=predictor.wants_columns
        )
        answer = ask(predictor, rows, len(instances))
        probabilities = None if answer.probabilities is None else answer.probabilities.tolist()
        members = {
            "predictions": plain(answer.values),
            "probabilities": probabilities,
            "classes": None if probabilities is None else predictor.classes,
        }
        return Reply(to_json({**members, **self._origin()}), rows, answer, len(instances))

    def explain(self, body: bytes) -> bytes:
        """Answer a request for explanations. Runs on the one thread that explains."""
        instances = _instances(body)
        try:
            members = self.explainer.explain(instances)
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


def _instances(body: bytes) -> Any:
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as wrong:
        raise InvalidInput(
            f"The body is not JSON: {wrong}.",
            hint='Send {"instances": [[…], …]}; JSON has no NaN or Infinity, use null.',
        ) from wrong
    if not isinstance(document, dict) or set(document) != {"instances"}:
        raise InvalidInput('The body must be an object with the one member "instances", a list of rows.')
    return document["instances"]

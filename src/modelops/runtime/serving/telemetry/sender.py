"""Sends spooled batches to the platform, and goes on trying while it is away."""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

import httpx

from modelops.contracts.errors import DeploymentError
from modelops.domains.monitoring.schemas import SketchBatch, SketchBatches
from modelops.runtime.serving.config import ReplicaConfig
from modelops.runtime.serving.counting.metrics import Metrics
from modelops.runtime.serving.logs.sender import LogSender
from modelops.runtime.serving.telemetry.spool import Spool

_AT_ONCE = 100
_LONGEST_PAUSE_S = 30.0
_POISON = frozenset({400, 413, 422})

_log = logging.getLogger(__name__)


class Sender:
    """A thread that empties the spool. A batch is removed only after the platform has said that it took it."""

    def __init__(
        self, config: ReplicaConfig, platform_url: str, spool: Spool, metrics: Metrics, logs: LogSender | None = None
    ) -> None:
        self._logs = logs
        self._config, self._spool, self._metrics = config, spool, metrics
        self.send_to(platform_url)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)

    def send_to(self, platform_url: str) -> None:
        """Send to this platform from now on."""
        if self._logs is not None:
            self._logs.send_to(platform_url)
        self._url = f"{platform_url.rstrip('/')}/v1/monitoring/sketches"

    def start(self) -> None:
        """Begin sending."""
        self._thread.start()

    def close(self) -> None:
        """Send what lies there once more, then end. What the platform does not take stays in the spool."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        pause = self._config.flush_s
        with httpx.Client(timeout=5.0) as client:
            while True:
                last = self._ended.wait(pause)
                went_well = self._send_all(client)
                pause = self._config.flush_s if went_well else min(2 * pause, _LONGEST_PAUSE_S)
                if last:
                    return

    def _send_all(self, client: httpx.Client) -> bool:
        try:
            while batches := self._spool.waiting(_AT_ONCE):
                if not self._send(client, batches):
                    return False
            if self._logs is not None:
                return self._logs.send_all(client)
        except (httpx.HTTPError, DeploymentError, OSError) as wrong:
            _log.warning("telemetry waits in the spool: %s: %s", type(wrong).__name__, wrong)
            return False
        return True

    def _send(self, client: httpx.Client, batches: Mapping[Path, SketchBatch]) -> bool:
        body = SketchBatches(batches=list(batches.values())).model_dump_json()
        headers = {"Authorization": f"Bearer {self._config.token()}", "Content-Type": "application/json"}
        answer = client.post(self._url, content=body, headers=headers)
        if answer.is_success:
            self._forget(batches)
            return True
        if answer.status_code in _POISON and len(batches) > 1:
            return self._send_singly(client, batches)
        if answer.status_code in _POISON:
            _log.error("the platform refuses a telemetry batch for good: %d %s", answer.status_code, answer.text[:500])
            self._metrics.lose(1)
            self._forget(batches)
            return True
        _log.warning("telemetry waits in the spool: the platform answered %d", answer.status_code)
        return False

    def _send_singly(self, client: httpx.Client, batches: Mapping[Path, SketchBatch]) -> bool:
        went_well = True
        for path, batch in batches.items():
            went_well = self._send(client, {path: batch}) and went_well
        return went_well

    def _forget(self, batches: Mapping[Path, SketchBatch]) -> None:
        for path in batches:
            self._spool.remove(path)

"""Sends files of logged predictions to the platform. A file is removed only after the platform has said that it took it."""

import logging
import time
from pathlib import Path

import httpx

from modelops.runtime.serving.config import ReplicaConfig
from modelops.runtime.serving.counting.metrics import Metrics
from modelops.runtime.serving.logs.log import log_folder

_POISON = frozenset({400, 413, 422})
_TIMEOUT_S = 30.0

_log = logging.getLogger(__name__)


class LogSender:
    """Empties the folder of finished files, this process's own at once, those of others once they lie for long.

    Two processes may then send one file; the platform keeps it once.
    """

    def __init__(self, config: ReplicaConfig, platform_url: str, deployment_id: str, metrics: Metrics) -> None:
        self._config, self._metrics, self._deployment_id = config, metrics, deployment_id
        self.send_to(platform_url)
        self._path = config.spool / "predictions"

    def send_to(self, platform_url: str) -> None:
        """Send to this platform from now on."""
        self._url = f"{platform_url.rstrip('/')}/v1/deployments/{self._deployment_id}/prediction-logs"

    def send_all(self, client: httpx.Client) -> bool:
        """Send what lies there; tell whether all went well.

        Raises:
            HTTPError, DeploymentError, OSError: it did not.
        """
        if not self._path.is_dir():
            return True
        folder = log_folder(self._config)
        if folder is None:
            return True
        folder.adopt()
        now = time.time()
        for path in folder.finished():
            is_own = path.name.startswith(f"{self._config.source}-")
            if (is_own or now - path.stat().st_mtime >= self._config.orphan_after_s) and not self._send(client, path):
                return False
        return True

    def _send(self, client: httpx.Client, path: Path) -> bool:
        from modelops.runtime.serving.logs.files import identity_of

        source, sequence = identity_of(path)
        headers = {"Authorization": f"Bearer {self._config.token()}", "Content-Type": "application/octet-stream"}
        answer = client.post(
            self._url,
            params={"source": source, "sequence": sequence},
            content=path.read_bytes(),
            headers=headers,
            timeout=_TIMEOUT_S,
        )
        if answer.is_success:
            path.unlink(missing_ok=True)
            return True
        if answer.status_code in _POISON:
            _log.error("the platform refuses logged predictions for good: %d %s", answer.status_code, answer.text[:500])
            self._metrics.lose(1)
            path.unlink(missing_ok=True)
            return True
        _log.warning("logged predictions wait in the spool: the platform answered %d", answer.status_code)
        return False

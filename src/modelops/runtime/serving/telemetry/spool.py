"""The spool: telemetry batches on disk until the platform has taken them."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from modelops.domains.monitoring.schemas import SketchBatch
from modelops.runtime.serving.files import write_atomically

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lost:
    """What was given up for lack of room: batches, and the rows in them."""

    batches: int = 0
    rows: int = 0


class Spool:
    """A folder of batches, one file each, shared by the replicas of a deployment. Safe among threads and processes.

    Args:
        source: The own process: its batches are its own to send from the start.
        deployment_id: Others' batches are taken over only when they are of this deployment.
        orphan_after_s: Batches of others are taken over once they lie for so long, since who wrote them has likely died.
            Two senders may then send one batch; the platform counts it once.
        capacity: How many files are kept; beyond, the oldest go.
    """

    def __init__(
        self, folder: Path, source: str, deployment_id: str, *, orphan_after_s: float = 20.0, capacity: int = 1_000
    ) -> None:
        self._folder, self._source, self._deployment_id = folder, source, deployment_id
        self._orphan_after_s, self._capacity = orphan_after_s, capacity
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, batch: SketchBatch) -> Lost:
        """Keep a batch, durably, and return what had to go for it."""
        name = f"{batch.source}-{batch.sequence}.json"
        write_atomically(self._folder / name, batch.model_dump_json().encode())
        return self._trim()

    def waiting(self, limit: int) -> dict[Path, SketchBatch]:
        """Return up to `limit` batches to send, oldest first. Files that hold none are removed."""
        found: dict[Path, SketchBatch] = {}
        now = time.time()
        for written, path in self._by_age():
            is_own = path.name.startswith(f"{self._source}-")
            if not is_own and now - written < self._orphan_after_s:
                continue
            batch = self._read(path)
            if batch is not None and batch.deployment_id == self._deployment_id:
                found[path] = batch
            if len(found) == limit:
                break
        return found

    def remove(self, path: Path) -> None:
        """Forget a batch."""
        path.unlink(missing_ok=True)

    def _trim(self) -> Lost:
        paths = [path for _, path in self._by_age()]
        rows = batches = 0
        for path in paths[: max(0, len(paths) - self._capacity)]:
            batch = self._read(path)
            path.unlink(missing_ok=True)
            batches += 1
            if batch is not None and batch.deployment_id == self._deployment_id:
                rows += batch.rows + batch.dropped_rows
        return Lost(batches, rows)

    def _by_age(self) -> list[tuple[float, Path]]:
        aged: list[tuple[float, Path]] = []
        for path in self._folder.glob("*.json"):
            try:
                aged.append((path.stat().st_mtime, path))
            except FileNotFoundError:  # a sibling has sent it
                continue
        return sorted(aged)

    def _read(self, path: Path) -> SketchBatch | None:
        try:
            return SketchBatch.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            _log.warning("removed %s from the spool: it is not a telemetry batch", path.name)
            path.unlink(missing_ok=True)
            return None

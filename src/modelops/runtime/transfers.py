"""Transfers of files that are begun anew when the platform goes away in the middle of them.

The connection itself repeats only what it can send again as it is; a file on its way is not of that kind.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from modelops.contracts.errors import Unavailable
from modelops.domains.data.client import Data

T = TypeVar("T")

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0


class PatientData(Data):
    """Artifacts and datasets, for a program that outlives the platform's restarts.

    Beginning anew is safe: an artifact is named by its content, and a download appears whole or not at all.
    """

    def upload_artifact(self, source: Any, **options: Any) -> Any:
        """Store a content as an artifact, as `Data.upload_artifact` does; a file object must be able to seek."""
        start = source.tell() if hasattr(source, "tell") and _can_seek(source) else None

        def upload() -> Any:
            if start is not None:
                source.seek(start)
            return super(PatientData, self).upload_artifact(source, **options)

        repeatable = start is not None or not hasattr(source, "read")
        return self._patiently(upload) if repeatable else upload()

    def download_artifact(self, digest: str, to: Any = None, **options: Any) -> Any:
        """Download an artifact, as `Data.download_artifact` does."""
        return self._patiently(lambda: super(PatientData, self).download_artifact(digest, to, **options))

    def download_dataset_version(self, dataset: str, version: Any, to: Any, **options: Any) -> Any:
        """Download a version's table, as `Data.download_dataset_version` does."""
        return self._patiently(
            lambda: super(PatientData, self).download_dataset_version(dataset, version, to, **options)
        )

    def _patiently(self, transfer: Callable[[], T]) -> T:
        deadline, pause = time.monotonic() + self._rest.retry_for_s, _FIRST_PAUSE_S
        while True:
            try:
                return transfer()
            except Unavailable:
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)


def _can_seek(source: Any) -> bool:
    with suppress(AttributeError):
        return bool(source.seekable())
    return False

"""The package's files: from the cache that replicas share, or from the platform.

Nothing is trusted here: the loader verifies what lies in the package's folder afterwards.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx

from modelops.contracts.errors import ArtifactCorrupted, DeploymentError, Unavailable
from modelops.domains.models.packages import file_digest
from modelops.domains.models.schemas import PackageFile
from modelops.runtime.serving.config import ReplicaConfig
from modelops.runtime.serving.files import write_chunks

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0


class _TryAgain(Exception):
    """What failed may go well the next time."""


def fetch_package(
    config: ReplicaConfig,
    platform_url: str,
    files: Sequence[PackageFile],
    folder: Path,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Fill a folder afresh with the files of a package.

    Raises:
        Unavailable: the platform did not give a file within the download timeout.
        DeploymentError: the platform refuses; trying again would not help.
        ArtifactCorrupted: what the platform gives is not what the document names.
    """
    if folder.exists():
        shutil.rmtree(folder)
    with httpx.Client(base_url=platform_url, timeout=30.0) as client:
        for file in files:
            cached = _cached(config, client, file, sleep)
            _place(cached, folder / file.path)


def _cached(config: ReplicaConfig, client: httpx.Client, file: PackageFile, sleep: Callable[[float], None]) -> Path:
    path = config.cache / file.digest.replace(":", "-")
    if path.is_file() and file_digest(path) == file.digest:
        return path
    deadline, pause = time.monotonic() + config.download_timeout_s, _FIRST_PAUSE_S
    while True:
        try:
            write_chunks(path, _download(client, config.token(), file))
        except (httpx.TransportError, _TryAgain) as wrong:
            if time.monotonic() + pause > deadline:
                raise Unavailable(
                    f"The file '{file.path}' of the package could not be fetched from {client.base_url}: {wrong}.",
                    hint="The replica starts without the platform only when its files are in the cache.",
                ) from wrong
            sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        else:
            return path


def _download(client: httpx.Client, token: str, file: PackageFile) -> Iterator[bytes]:
    headers = {"Authorization": f"Bearer {token}"}
    with client.stream("GET", f"/v1/artifacts/{file.digest}", headers=headers) as answer:
        _check_status(answer, file)
        hashed, size = hashlib.sha256(), 0
        for chunk in answer.iter_bytes():
            size += len(chunk)
            if size > file.size:
                break
            hashed.update(chunk)
            yield chunk
    if size != file.size or f"sha256:{hashed.hexdigest()}" != file.digest:
        raise ArtifactCorrupted(f"The platform's content for '{file.path}' is not {file.digest} of {file.size} bytes.")


def _check_status(answer: httpx.Response, file: PackageFile) -> None:
    if answer.status_code == 200:
        return
    if answer.status_code >= 500 or answer.status_code == 429:
        raise _TryAgain(f"it answered {answer.status_code}")
    raise DeploymentError(
        f"The platform refused the file '{file.path}' of the package with {answer.status_code}.",
        hint="The artifact may be gone, or the replica's token may have ended; deploy the version again.",
    )


def _place(cached: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(cached, path)
    except OSError:  # another file system, or one without links
        shutil.copyfile(cached, path)

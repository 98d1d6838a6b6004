"""The artifacts of a worker: what its steps take is fetched here, what they return is sent from here."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.domains.data.client import Data
from modelops.domains.pipelines.document import ValueType
from modelops.domains.pipelines.schemas import MOST_CONTENT_BYTES, StepTask, ValueRef
from modelops.runtime.steps.code import DamagedArchive, cached, unpack

MOST_BYTES = 8 * 1024**3
"""Of values that are kept for later steps; more is let go of between steps."""
LOOK_EACH_BYTES = 256 * 1024**2
"""So much more must have come before what is kept is looked through again."""


class Store:
    """Values by their digest, in files of a folder.

    Args:
        data: The platform's artifacts.
        folder: For the values; made when missing.
        archives: Where archives of code are kept for other workers of this machine.
    """

    def __init__(self, data: Data, folder: Path, archives: Path) -> None:
        self._data = data
        self._folder = folder
        self._archives = archives
        self._known: set[str] = set()
        self._grown = 0
        folder.mkdir(parents=True, exist_ok=True)

    def unpack_code(self, digest: str, to: Path) -> Path:
        """Return a folder with the modules of an archive of code, whose bytes were held to their digest.

        Raises:
            InvalidInput: it is no archive of code.
        """
        archive = cached(self._archives, digest)
        if archive is None:
            archive = self._archives / digest.removeprefix("sha256:")
            self._archives.mkdir(parents=True, exist_ok=True)
            self._data.download_artifact(digest, archive)
        try:
            return unpack(archive, to)
        except DamagedArchive as wrong:
            raise InvalidInput(f"The pipeline's code '{digest}' is no archive: {wrong}.") from wrong

    def read(self, digest: str) -> bytes:
        """Return a small artifact's content."""
        return self._data.download_artifact(digest)

    def fetch(self, task: StepTask, contents: Mapping[str, str]) -> dict[str, Any]:
        """Bring what a task takes by reference here, and return for each where it lies, as `values.load_input` reads it.

        Args:
            contents: Small values that came with the task, by digest.
        """

        def local(one: ValueRef) -> dict[str, Any]:
            content = contents.get(one.digest or "")
            return self._local(one) if content is None else {"type": one.type.value, "content": content}

        return {
            name: [local(one) for one in reference] if isinstance(reference, list) else local(reference)
            for name, reference in task.references.items()
        }

    def send(self, said: dict[str, Any], folder: Path) -> ValueRef:
        """Store an output that a step returned, as `values.dump_outputs` tells of it, and return where it lies.

        Args:
            said: The output; a small value is none for here, but travels with its report (`is_small`).
            folder: The attempt's own: a file that lies in it is kept for later steps here.
        """
        kind = ValueType(said["type"])
        if kind is ValueType.MODEL:
            return ValueRef(type=kind, model_version_id=said["model_version_id"])
        if "content" in said:
            return self._send_bytes(kind, said["content"].encode())
        path = Path(said["path"])
        size = path.stat().st_size
        artifact = self._data.upload_artifact(path, media_type=_MEDIA_TYPES[kind])
        if path.is_relative_to(folder) and not path.is_symlink():
            with suppress(OSError):
                os.replace(path, self._path(artifact.digest))
                self._grown += size
        filename = str(said.get("filename", ""))[:5_000]
        return ValueRef(type=kind, digest=artifact.digest, size=size, filename=filename)

    def trim(self, held: Iterable[StepTask]) -> None:
        """Let go of the values that were used longest ago, but of none that a task takes, until the rest is small."""
        if self._grown < LOOK_EACH_BYTES:
            return
        self._grown = 0
        files = sorted((path.stat().st_atime, path.stat().st_size, path) for path in self._folder.iterdir())
        total = sum(size for _, size, _ in files)
        wanted = {self._path(one.digest) for task in held for one in _references(task) if one.digest}
        for _, size, path in files:
            if total <= MOST_BYTES:
                return
            if path not in wanted:
                path.unlink(missing_ok=True)
                total -= size

    def _send_bytes(self, kind: ValueType, content: bytes) -> ValueRef:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if digest not in self._known:
            self._data.upload_artifact(content, media_type=_MEDIA_TYPES[kind], digest=digest)
            self._known.add(digest)
            path = self._path(digest)
            if not path.exists():
                path.write_bytes(content)
        return ValueRef(type=kind, digest=digest, size=len(content))

    def _local(self, reference: ValueRef) -> dict[str, Any]:
        known = {
            "type": reference.type.value,
            "filename": reference.filename,
            "model_version_id": reference.model_version_id,
            "path": "",
        }
        if reference.digest is not None:
            path = self._path(reference.digest)
            if not path.exists():
                self._data.download_artifact(reference.digest, path)
                self._grown += path.stat().st_size
            known["path"] = str(path)
        return known

    def _path(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")


def is_small(said: Mapping[str, Any]) -> bool:
    """Tell whether an output, as `values.dump_outputs` tells of it, travels with the report of its step."""
    return "content" in said and len(said["content"].encode()) <= MOST_CONTENT_BYTES


_MEDIA_TYPES = {
    ValueType.JSON: "application/json",
    ValueType.ARROW: "application/vnd.apache.arrow.file",
    ValueType.FILE: "application/octet-stream",
}


def remove_folder(folder: Path) -> None:
    """Remove an attempt's folder, whatever lies in it."""
    shutil.rmtree(folder, ignore_errors=True)


def _references(task: StepTask) -> list[ValueRef]:
    found = []
    for reference in task.references.values():
        found += reference if isinstance(reference, list) else [reference]
    return found

"""Large files on their way to a platform, part by part: what has arrived need not be sent again, whoever was killed."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from modelops.contracts.errors import InvalidInput, Unavailable
from modelops.domains.data.rules import part_sizes
from modelops.domains.data.schemas import Artifact, Upload, UploadPart, UploadState
from modelops.domains.data.transfer import Progress, digest_of

T = TypeVar("T")

IN_PARTS_FROM = 64 * 1024 * 1024
"""From how many bytes on a file is sent in parts."""


class Uploads(Protocol):
    """The operations of uploads; see `Data`."""

    def create_upload(self, digest: str, size: int, *, media_type: str) -> Upload: ...  # noqa: D102

    def put_upload_part(self, upload: str, number: int, content: bytes) -> UploadPart: ...  # noqa: D102

    def complete_upload(self, upload: str) -> Artifact: ...  # noqa: D102

    def delete_upload(self, upload: str) -> None: ...  # noqa: D102

    def get_artifact(self, digest: str) -> Artifact: ...  # noqa: D102


def send_in_parts(
    uploads: Uploads,
    path: Path,
    *,
    media_type: str,
    digest: str | None,
    progress: Progress | None,
    patience_s: float,
) -> Artifact:
    """Send a file in parts; those that an earlier try has sent are left out.

    Args:
        uploads: Where to.
        path: The file; it is read twice, once for its digest.
        media_type: Of the file.
        digest: Refuse another content than this.
        progress: Called with the bytes that have arrived so far.
        patience_s: How long to try again while the platform does not answer.

    Raises:
        InvalidInput: the file does not have the digest, or changed while it was sent.
        Unavailable: the platform does not answer; call again to go on.
    """
    found = digest_of(path)
    if digest not in (None, found):
        raise InvalidInput(f"The file has the digest {found}, not the expected {digest}.", hint="Send another file.")
    upload = uploads.create_upload(found, path.stat().st_size, media_type=media_type)
    if upload.state is UploadState.COMPLETED:
        return uploads.get_artifact(found)
    arrived, there = 0, set(upload.received)
    with path.open("rb") as file:
        for number, size in enumerate(part_sizes(upload.size, upload.part_size), start=1):
            if number not in there:
                file.seek((number - 1) * upload.part_size)
                part = file.read(size)
                if len(part) != size:
                    raise InvalidInput("The file became shorter while it was sent.", hint="Send it again.")
                _patiently(lambda n=number, p=part: uploads.put_upload_part(upload.id, n, p), patience_s)  # type: ignore[misc]
            arrived += size
            if progress is not None:
                progress(arrived)
    try:
        return _patiently(lambda: uploads.complete_upload(upload.id), patience_s)
    except InvalidInput as wrong:
        uploads.delete_upload(upload.id)  # so that the next try sends every part anew
        raise InvalidInput("The file changed while it was sent.", hint="Send it again.") from wrong


def part_digest(content: bytes) -> str:
    """Return the digest of a part."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _patiently(act: Callable[[], T], patience_s: float) -> T:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return act()
        except Unavailable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.3)

"""What every content-addressed store does alike: digests, and contents that are verified as they pass."""

import hashlib
import re
from collections.abc import Iterable, Iterator

from modelops.contracts.errors import ArtifactCorrupted, InvalidInput

CHUNK = 1024 * 1024
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


def hex_of(digest: str) -> str:
    """Return the hex digits of a digest.

    Raises:
        InvalidInput: it is no digest.
    """
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise InvalidInput(
            f"{digest[:100]!r} is not a blob digest.", hint="A digest is `sha256:` and 64 lower-case hex digits."
        )
    return match[1]


class Counted:
    """A content on its way in: passes on chunks of bounded size, and knows its digest (hex) and size at the end."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._hasher = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            for piece in _pieces(chunk):
                self._hasher.update(piece)
                self.size += len(piece)
                yield piece

    def name(self, wanted: str | None) -> str:
        """Return the digest of what has passed.

        Raises:
            InvalidInput: it is not the one that was wanted.
        """
        found = self._hasher.hexdigest()
        if wanted not in (None, found):
            raise InvalidInput(
                f"The bytes have the digest sha256:{found}, not the expected sha256:{wanted}.",
                hint="Send them again: they changed on the way, or the digest is of another content.",
            )
        return found


def checked(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Pass the chunks on, one behind: the last one leaves only after the whole has the right digest.

    Raises:
        ArtifactCorrupted: it has not.
    """
    hasher = hashlib.sha256()
    held = b""
    for chunk in chunks:
        hasher.update(chunk)
        if held:
            yield held
        held = chunk
    if hasher.hexdigest() != name:
        raise corrupted(name)
    if held:
        yield held


def corrupted(name: str) -> ArtifactCorrupted:
    """Return the error of a blob whose stored bytes are no longer its content."""
    return ArtifactCorrupted(f"The stored bytes of blob sha256:{name} no longer have that digest.")


def _pieces(chunk: bytes) -> Iterator[bytes]:
    """Cut a huge chunk, so that no buffer further down grows with it."""
    if len(chunk) <= CHUNK:
        yield chunk
        return
    for start in range(0, len(chunk), CHUNK):
        yield bytes(memoryview(chunk)[start : start + CHUNK])

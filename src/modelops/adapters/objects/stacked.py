"""Two blob stores as one: what is put goes into the first, what lies in the second is still read and collected."""

import heapq
import itertools
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import BinaryIO

from modelops.contracts.errors import NotFound
from modelops.contracts.ports import BlobInfo, BlobStore, EncryptedStore, Rewrapping, StoredBlob


class StackedBlobStore:
    """A BlobStore for a platform whose artifacts were kept elsewhere before, or unencrypted.

    Args:
        first: Where blobs are put.
        second: Where they were put before. A content that is put again moves to the first.
    """

    def __init__(self, first: BlobStore, second: BlobStore) -> None:
        self._first = first
        self._second = second

    def put(self, chunks: Iterable[bytes], *, expected: str | None = None) -> BlobInfo:
        """Store a content in the first store; see `BlobStore.put`."""
        info = self._first.put(chunks, expected=expected)
        self._second.delete(info.digest)
        return info

    def read(self, digest: str) -> Iterator[bytes]:
        """Yield the content; see `BlobStore.read`."""
        try:
            return self._first.read(digest)
        except NotFound:
            return self._second.read(digest)

    def open(self, digest: str) -> BinaryIO:
        """Return a file of the content; see `BlobStore.open`."""
        try:
            return self._first.open(digest)
        except NotFound:
            return self._second.open(digest)

    def stat(self, digest: str) -> BlobInfo | None:
        """Return what is known of the blob; see `BlobStore.stat`."""
        return self._first.stat(digest) or self._second.stat(digest)

    def read_range(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield a part of the content; see `BlobStore.read_range`."""
        try:
            return self._first.read_range(digest, start, stop)
        except NotFound:
            return self._second.read_range(digest, start, stop)

    def delete(self, digest: str, *, unless_put_since: datetime | None = None) -> bool:
        """Remove the blob from both; see `BlobStore.delete`."""
        removed = [store.delete(digest, unless_put_since=unless_put_since) for store in (self._first, self._second)]
        return any(removed)

    def walk(self, after: str | None = None) -> Iterator[StoredBlob]:
        """Yield the blobs of both in order; see `BlobStore.walk`."""
        both = heapq.merge(self._first.walk(after), self._second.walk(after), key=lambda blob: blob.digest)
        for digest, same in itertools.groupby(both, lambda blob: blob.digest):
            blobs = list(same)
            yield StoredBlob(digest, sum(b.stored_size for b in blobs), max(b.stored_at for b in blobs))

    def link(self, digest: str, *, seconds: int, filename: str, media_type: str) -> str | None:
        """Return a URL of the blob; see `BlobStore.link`."""
        try:
            return self._first.link(digest, seconds=seconds, filename=filename, media_type=media_type)
        except NotFound:
            return self._second.link(digest, seconds=seconds, filename=filename, media_type=media_type)

    def check(self) -> str:
        """Check the first store; see `BlobStore.check`."""
        return self._first.check()

    def rewrap_keys(self) -> Rewrapping:
        """Wrap the keys of what is encrypted in either store; see `EncryptedStore.rewrap_keys`."""
        both = [store.rewrap_keys() for store in (self._first, self._second) if isinstance(store, EncryptedStore)]
        return Rewrapping(
            sum(done.rewrapped for done in both),
            sum(done.current for done in both),
            [digest for done in both for digest in done.failed],
        )

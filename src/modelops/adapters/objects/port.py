"""What keeps objects: bytes under a name, there whole or not at all."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol


class MissingError(Exception):
    """There is no object of that name."""


@dataclass(frozen=True)
class ObjectInfo:
    """What is known of an object. `size` is in bytes, `stored_at` is when it was last written."""

    name: str
    size: int
    stored_at: datetime


class Objects(Protocol):
    """Objects by name. Thread-safe; a name is ASCII, its parts parted by slashes."""

    def write(self, name: str, file: BinaryIO, size: int) -> None:
        """Write or replace an object, atomically and durably, from a seekable file.

        Raises:
            StorageFull: there is no room; nothing is kept.
            Unavailable: whoever keeps the objects does not answer.
        """
        ...

    def open(self, name: str, start: int = 0, stop: int | None = None) -> BinaryIO:
        """Open an object, or a part of it, to be read once from its beginning. Raises MissingError."""
        ...

    def fetch(self, name: str) -> BinaryIO:
        """Return an object as a seekable file of this machine. Raises MissingError."""
        ...

    def head(self, name: str) -> ObjectInfo | None:
        """Return what is known of an object, or None."""
        ...

    def walk(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects below `prefix/` in the order of their names, those behind `after`."""
        ...

    def delete(self, name: str, *, unless_put_since: datetime | None = None) -> bool:
        """Remove an object as `BlobStore.delete` does."""
        ...

    def link(self, name: str, *, seconds: int, filename: str, media_type: str) -> str | None:
        """Return a URL that hands out the object to anyone for so long, or None where there is no such thing."""
        ...

    def check(self) -> str:
        """Return a sentence about where the objects lie, after having written, read and removed one."""
        ...

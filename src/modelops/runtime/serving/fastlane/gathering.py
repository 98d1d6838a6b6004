"""A body with the bytes of tensors, which comes in several reads."""

import numpy as np

from modelops.runtime.serving.fastlane.heads import Head

MOST_BYTES = 2 * 1024 * 1024
"""Larger bodies take the ordinary lane."""

_ALIGNED = 8


class Gathering:
    """Puts the reads of a body where its tensors begin at an address that numbers of 64 bits may have: nobody copies them again.

    Args:
        head: The request's head, which says how long the body and the JSON in front are.
        began: When the request came, in seconds of `time.perf_counter`.
    """

    __slots__ = ("_at", "_room", "began", "head")

    def __init__(self, head: Head, began: float) -> None:
        shift = -(head.json_length or 0) % _ALIGNED
        self._room = np.empty(shift + head.length, dtype=np.uint8).data[shift:]
        self._at, self.head, self.began = 0, head, began

    def take(self, data: bytes | memoryview) -> bool:
        """Take a read; returns whether it is of this body alone, and is taken."""
        end = self._at + len(data)
        if end > self.head.length:
            return False
        self._room[self._at : end] = data
        self._at = end
        return True

    @property
    def body(self) -> memoryview | None:
        """Return the body, once all of it is there."""
        return self._room if self._at == self.head.length else None

    def raw(self) -> bytes:
        """Return what came until now, with the head."""
        return self.head.raw + bytes(self._room[: self._at])

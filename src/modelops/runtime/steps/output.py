"""What steps write, on its way to the platform: in order, bounded, and kept until the platform has it."""

import codecs
import threading

from modelops.domains.pipelines.schemas import StepOutput

MOST_CHARACTERS = 2 * 1024 * 1024
"""Of one attempt; what it writes beyond is dropped."""

_PIECE = 65_536
_MESSAGE = 16
"""Pieces in one message: a megabyte."""

_DROPPED = "\n[what follows was dropped: an attempt may write {} characters]\n"


class _Written:
    def __init__(self) -> None:
        self.decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self.text = ""
        self.sent = 0
        self.total = 0

    def add(self, text: str) -> None:
        if self.total >= MOST_CHARACTERS:
            return
        room = MOST_CHARACTERS - self.total
        self.total += len(text)
        self.text += text.replace("\0", "\\x00")[:room]
        if len(text) > room:
            self.text += _DROPPED.format(MOST_CHARACTERS)


class Outputs:
    """The outputs of the attempts that a worker holds. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._written: dict[tuple[str, int], _Written] = {}

    def write(self, attempt: tuple[str, int], raw: bytes, *, last: bool = False) -> None:
        """Add what an attempt wrote."""
        with self._lock:
            written = self._written.get(attempt)
            if written is None:
                if not raw:
                    return
                written = self._written[attempt] = _Written()
            written.add(written.decoder.decode(raw, last))

    def pending(self, attempts: "set[tuple[str, int]] | None" = None) -> list[StepOutput]:
        """Return pieces to be sent: of these attempts, or of all; as many as one message holds."""
        pieces: list[StepOutput] = []
        with self._lock:
            for (step, attempt), written in self._written.items():
                if attempts is not None and (step, attempt) not in attempts:
                    continue
                at = 0
                while at < len(written.text) and len(pieces) < _MESSAGE:
                    text = written.text[at : at + _PIECE]
                    pieces.append(StepOutput(step=step, attempt=attempt, offset=written.sent + at, text=text))
                    at += len(text)
        return pieces

    def sent(self, pieces: list[StepOutput]) -> None:
        """Forget what the platform has."""
        with self._lock:
            for piece in pieces:
                written = self._written.get((piece.step, piece.attempt))
                if written is not None:
                    done = max(0, piece.offset + len(piece.text) - written.sent)
                    written.text, written.sent = written.text[done:], written.sent + done

    def forget(self, attempt: tuple[str, int]) -> None:
        """Let go of an attempt that was reported."""
        with self._lock:
            self._written.pop(attempt, None)

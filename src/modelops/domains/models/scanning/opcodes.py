"""The opcodes of a pickle, one after the other, each with its argument as Python's own reader takes it."""

import pickletools
from typing import IO, Any

from modelops.domains.models.scanning.findings import Unreadable
from modelops.domains.models.scanning.symbols import VALUE

_LONGEST_LINE = 1_000_000
_LONGEST_TEXT = 65_536
_CHUNK = 1024 * 1024

_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}

# Opcodes whose argument may be huge: how many bytes tell its length.
_LENGTHS = {
    "BINBYTES": 4,
    "BINBYTES8": 8,
    "BYTEARRAY8": 8,
    "BINUNICODE": 4,
    "BINUNICODE8": 8,
    "SHORT_BINBYTES": 1,
    "SHORT_BINUNICODE": 1,
}
_TEXTS = frozenset({"BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE"})


class Source:
    """A file that is read forwards."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._ahead = b""

    def read(self, count: int) -> bytes:
        """Return up to `count` bytes."""
        first, self._ahead = self._ahead[:count], self._ahead[count:]
        return first if len(first) == count else first + self._stream.read(count - len(first))

    def readline(self) -> bytes:
        """Return a line with its end."""
        line = self._ahead + self._stream.readline(_LONGEST_LINE)
        self._ahead = b""
        if len(line) >= _LONGEST_LINE:
            raise Unreadable("it holds a line that no writer of pickles makes")
        return line

    def at_end(self) -> bool:
        """Tell whether nothing is left."""
        self._ahead = self._ahead or self._stream.read(1)
        return not self._ahead

    def skip(self, count: int) -> None:
        """Pass over bytes; they must be there."""
        while count > 0:
            passed = len(self.read(min(count, _CHUNK)))
            if not passed:
                raise Unreadable("it ends in the middle of a value")
            count -= passed

    def next_opcode(self) -> tuple[str, Any]:
        """Return the next opcode's name and argument; `VALUE` for one that does not matter."""
        code = self.read(1)
        opcode = _OPCODES.get(code)
        if opcode is None:
            raise Unreadable("it ends too early" if not code else f"it holds {code!r}, which is no opcode")
        if opcode.name in _LENGTHS:
            return opcode.name, self._long(opcode.name)
        if opcode.arg is None:
            return opcode.name, None
        if opcode.name in ("GLOBAL", "INST"):  # `pickletools` reads escapes in names, and Python's reader does not
            return opcode.name, f"{self._line()} {self._line()}"
        if opcode.name == "PERSID":
            self._line()
            return opcode.name, VALUE
        if opcode.name == "STRING":
            text = self._line()
            return opcode.name, VALUE if "\\" in text else text.strip("'\"")
        try:
            reader: Any = opcode.arg.reader  # it asks for nothing but `read` and `readline`
            return opcode.name, reader(self)
        except (ValueError, UnicodeError) as wrong:
            raise Unreadable(f"the argument of {opcode.name} is none: {str(wrong)[:100]}") from wrong

    def _line(self) -> str:
        line = self.readline()
        if not line.endswith(b"\n"):
            raise Unreadable("it ends in the middle of a line")
        return line[:-1].decode("utf-8", "replace")

    def _long(self, name: str) -> Any:
        digits = self.read(_LENGTHS[name])
        if len(digits) < _LENGTHS[name]:
            raise Unreadable("it ends too early")
        length = int.from_bytes(digits, "little")
        if name not in _TEXTS or length > _LONGEST_TEXT:
            self.skip(length)
            return VALUE
        text = self.read(length)
        if len(text) < length:
            raise Unreadable("it ends in the middle of a text")
        try:
            return text.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as wrong:
            raise Unreadable("it holds a text that is none") from wrong

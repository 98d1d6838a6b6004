"""Pickles, followed opcode by opcode on a stack of symbols: what they import and call, without doing it.

Opcodes are those of `pickletools` (protocols 0 to 5); the stack machine is described in CPython's `Lib/pickletools.py`. Where
Python's own reader is more lenient than this one, the pickle is refused: an honest writer needs none of it.
"""

import _compat_pickle
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Never

from modelops.domains.models.scanning.findings import Notes, Unreadable

_MOST_OPCODES = 20_000_000
_LONGEST_LINE = 1_000_000
_LONGEST_TEXT = 65_536
_CHUNK = 1024 * 1024
_MODULE = re.compile(r"^[^\W\d]\w*(\.[^\W\d]\w*)*$")

_BY_VALUE = "cloudpickle"
_NO_CODE = re.compile(r"^(_make_dict_(keys|values|items)|_make_(empty_)?cell|_cell_set)$")
_WRAPPER = ("joblib.numpy_pickle", "NumpyArrayWrapper")

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


@dataclass(frozen=True)
class Name:
    """Something imported."""

    module: str
    name: str


@dataclass
class Made:
    """What a call returned. `by_value` tells that its callable is code which the pickle itself brought."""

    of: Name | None
    arguments: Any = ()
    state: Any = None
    by_value: bool = False


class _Unknown:
    """A value that does not matter."""


_VALUE = _Unknown()


class Source:
    """A file that is read forwards."""

    def __init__(self, stream: BinaryIO) -> None:
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


def walk(stream: BinaryIO, notes: Notes, where: str, *, joblib: bool = False) -> None:
    """Follow every pickle of a file, one after the other, to the file's end.

    Args:
        stream: The file, at its first byte.
        notes: Where to note imports (`module:name`) and code by value.
        where: The file's name, for notes.
        joblib: Whether arrays lie between the opcodes as `joblib.dump` writes them.

    Raises:
        Unreadable: it cannot be followed, or imports a name that it computes.
    """
    source = Source(stream)
    while True:
        _Machine(source, notes, where, joblib=joblib).run()
        if source.at_end():
            return


@dataclass
class _Machine:
    source: Source
    notes: Notes
    where: str
    joblib: bool
    stack: list[Any] = field(default_factory=list)
    marks: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    protocol: int = 0

    def run(self) -> None:
        """Follow one pickle up to its `STOP`."""
        for _ in range(_MOST_OPCODES):
            name, argument = self._next()
            if name == "STOP":
                self._pop()
                return
            step = _STEPS.get(name)
            if step is None:
                raise Unreadable(f"it holds the opcode {name}, whose meaning depends on the process that reads it")
            step(self, argument)
        raise Unreadable(f"it has more than {_MOST_OPCODES:,} opcodes")

    def _next(self) -> tuple[str, Any]:
        code = self.source.read(1)
        opcode = _OPCODES.get(code)
        if opcode is None:
            raise Unreadable("it ends too early" if not code else f"it holds {code!r}, which is no opcode")
        if opcode.name in _LENGTHS:
            return opcode.name, self._long(opcode.name)
        if opcode.arg is None:
            return opcode.name, None
        if opcode.name in ("GLOBAL", "INST"):  # `pickletools` reads escapes in names, and Python's reader does not
            return opcode.name, f"{self._line()} {self._line()}"
        if opcode.name == "STRING":
            text = self._line()
            return opcode.name, _VALUE if "\\" in text else text.strip("'\"")
        try:
            reader: Any = opcode.arg.reader  # it asks for nothing but `read` and `readline`
            return opcode.name, reader(self.source)
        except (ValueError, UnicodeError) as wrong:
            raise Unreadable(f"the argument of {opcode.name} is none: {str(wrong)[:100]}") from wrong

    def _line(self) -> str:
        line = self.source.readline()
        if not line.endswith(b"\n"):
            raise Unreadable("it ends in the middle of a line")
        return line[:-1].decode("utf-8", "replace")

    def _long(self, name: str) -> Any:
        digits = self.source.read(_LENGTHS[name])
        if len(digits) < _LENGTHS[name]:
            raise Unreadable("it ends too early")
        length = int.from_bytes(digits, "little")
        if name not in _TEXTS or length > _LONGEST_TEXT:
            self.source.skip(length)
            return _VALUE
        text = self.source.read(length)
        if len(text) < length:
            raise Unreadable("it ends in the middle of a text")
        return text.decode("utf-8", "surrogatepass")

    # The stack

    def _pop(self) -> Any:
        if not self.stack:
            raise Unreadable("it takes from an empty stack")
        return self.stack.pop()

    def _top(self) -> Any:
        if not self.stack:
            raise Unreadable("it looks at an empty stack")
        return self.stack[-1]

    def _to_mark(self) -> list[Any]:
        if not self.marks:
            raise Unreadable("it looks for a mark that was not set")
        items, self.stack = self.stack, self.marks.pop()
        return items

    # What opcodes do

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def set_protocol(self, version: Any) -> None:
        self.protocol = version

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._to_mark()

    def duplicate(self, _: Any) -> None:
        self.push(self._top())

    def tuple_of(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def tuple_to_mark(self, _: Any) -> None:
        self.push(tuple(self._to_mark()))

    def forget_to_mark(self, _: Any) -> None:
        self._to_mark()

    def collect(self, _: Any) -> None:
        self._to_mark()
        self.push(_VALUE)

    def append(self, _: Any) -> None:
        self._pop()
        self._refuse_change()

    def append_all(self, _: Any) -> None:
        self._to_mark()
        self._refuse_change()

    def set_item(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._set(key, value)

    def set_items(self, _: Any) -> None:
        items = self._to_mark()
        if len(items) % 2:
            raise Unreadable("it sets a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._set(key, value)
        self._refuse_change()

    def dictionary(self, _: Any) -> None:
        items = self._to_mark()
        self.push({key: value for key, value in zip(items[::2], items[1::2], strict=False) if isinstance(key, str)})

    def remember(self, key: Any) -> None:
        self.memo[int(key)] = self._top()

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self._top()

    def recall(self, key: Any) -> None:
        if int(key) not in self.memo:
            raise Unreadable("it recalls what it did not remember")
        self.push(self.memo[int(key)])

    def import_pair(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.push(self._imported(module, name))

    def import_from_stack(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise Unreadable("it imports something whose name it computes")
        self.push(self._imported(module, name))

    def reduce(self, _: Any) -> None:
        arguments, called = self._pop(), self._pop()
        self._call(called, arguments)

    def new_with_keywords(self, _: Any) -> None:
        self._pop()
        self.reduce(None)

    def instance(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        arguments = tuple(self._to_mark())
        self._call(self._imported(module, name), arguments)

    def object_to_mark(self, _: Any) -> None:
        items = self._to_mark()
        if not items:
            raise Unreadable("it makes an object of no class")
        self._call(items[0], tuple(items[1:]))

    def build(self, _: Any) -> None:
        state, changed = self._pop(), self._top()
        if not isinstance(changed, Made):
            raise Unreadable("it changes what it imported, or a plain value")
        changed.state = state
        if self.joblib and changed.of == Name(*_WRAPPER):
            self._array(state)

    def persistent(self, _: Any) -> None:
        self.push(_VALUE)

    def persistent_from_stack(self, _: Any) -> None:
        self._pop()
        self.push(_VALUE)

    # Imports and calls

    def _imported(self, module: str, name: str) -> Name:
        if self.protocol < 3:  # so does Python's reader: names of Python 2
            renamed = (_compat_pickle.IMPORT_MAPPING.get(module, module), name)
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), renamed)
        if not _MODULE.match(module) or not _MODULE.match(name):
            raise Unreadable(f"it imports '{name[:100]}' from '{module[:100]}', which are no names")
        found = Name(module, name)
        root, _, _ = module.partition(".")
        if root == _BY_VALUE:
            self._by_value(found)
        elif not (self.joblib and found == Name(*_WRAPPER)):
            self.notes.note(self.notes.imports, f"{module}:{name}")
        return found

    def _by_value(self, found: Name) -> None:
        if _NO_CODE.match(found.name) or found.name == "subimport":
            return
        self.notes.note(self.notes.code, f"{self.where}: Python code by value")

    def _call(self, called: Any, arguments: Any) -> None:
        if isinstance(called, Made) and called.by_value:
            self.push(Made(None, by_value=True))
            return
        if not isinstance(called, Name):
            raise Unreadable("it calls something that it computes")
        root, _, _ = called.module.partition(".")
        if root == _BY_VALUE and called.name == "subimport":
            self._module(arguments)
        by_value = root == _BY_VALUE and not _NO_CODE.match(called.name)
        self.push(Made(called, arguments, by_value=by_value))

    def _module(self, arguments: Any) -> None:
        if not isinstance(arguments, tuple) or len(arguments) != 1 or not isinstance(arguments[0], str):
            raise Unreadable("it imports a module whose name it computes")
        if not _MODULE.match(arguments[0]):
            raise Unreadable(f"it imports '{arguments[0][:100]}', which is no module")
        self.notes.note(self.notes.imports, f"{arguments[0]}:")

    def _set(self, key: Any, value: Any) -> None:
        self._refuse_change()
        changed = self.stack[-1]
        if isinstance(changed, dict) and isinstance(key, str):
            changed[key] = value

    def _refuse_change(self) -> None:
        if isinstance(self._top(), Name):
            raise Unreadable("it changes what it imported")

    def _array(self, state: Any) -> None:
        """Pass over the array that joblib writes behind its wrapper; one of objects is a pickle of its own."""
        size, kind = _layout(state)
        if size is None:
            _Machine(self.source, self.notes, self.where, joblib=False).run()
            return
        if isinstance(state.get("numpy_array_alignment_bytes"), int):
            padding = self.source.read(1)
            self.source.skip(padding[0] if padding else 1)
        self.source.skip(size * kind)


def _layout(state: Any) -> tuple[int | None, int]:
    """Return how many values an array has and how many bytes each takes; None for an array of objects."""
    if not isinstance(state, dict):
        _strange()
    shape, dtype = state.get("shape"), state.get("dtype")
    if not isinstance(shape, tuple) or not isinstance(dtype, Made) or dtype.of != Name("numpy", "dtype"):
        _strange()
    code = dtype.arguments[0] if isinstance(dtype.arguments, tuple) and dtype.arguments else None
    found = re.match(r"^([?bBiufcmMSUOV])(\d*)$", code) if isinstance(code, str) else None
    if found is None or not all(type(length) is int and length >= 0 for length in shape):
        _strange()
    kind, width = found[1], int(found[2] or 1)
    if kind == "V" and not _plain_fields(dtype.state, width):
        _strange()
    if kind == "O":
        return None, 0
    count = 1
    for length in shape:
        count *= length
    return count, width * (4 if kind == "U" else 1)


def _plain_fields(state: Any, width: int) -> bool:
    """Tell whether a dtype of fields holds numbers alone, as its pickled state says (`numpy.dtype.__setstate__`)."""
    if not isinstance(state, tuple) or len(state) < 8 or state[2] is not _VALUE or not isinstance(state[4], dict):
        return False
    kinds = [field[0] if isinstance(field, tuple) and field else None for field in state[4].values()]
    codes = [kind.arguments[0] for kind in kinds if isinstance(kind, Made) and kind.arguments]
    plain = [code for code in codes if isinstance(code, str) and re.match(r"^[?bBiufc]\d*$", code)]
    return len(plain) == len(kinds) and state[5] == width and type(state[7]) is int and not state[7] & 1


def _strange() -> Never:
    raise Unreadable("it holds an array of joblib whose layout cannot be told")


_Step = Callable[[_Machine, Any], None]


def _pushes(make: Callable[[Any], Any]) -> _Step:
    return lambda machine, argument: machine.push(make(argument))


def _nothing(_machine: _Machine, _argument: Any) -> None:
    """Change nothing."""


_STEPS: dict[str, _Step] = {
    "PROTO": _Machine.set_protocol,
    "FRAME": _nothing,
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.forget_to_mark,
    "DUP": _Machine.duplicate,
    "EMPTY_TUPLE": _pushes(lambda _: ()),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": _Machine.tuple_to_mark,
    "EMPTY_DICT": _pushes(lambda _: {}),
    "DICT": _Machine.dictionary,
    "EMPTY_LIST": _pushes(lambda _: _VALUE),
    "EMPTY_SET": _pushes(lambda _: _VALUE),
    "LIST": _Machine.collect,
    "FROZENSET": _Machine.collect,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.append_all,
    "ADDITEMS": _Machine.append_all,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "PUT": _Machine.remember,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.recall,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "GLOBAL": _Machine.import_pair,
    "STACK_GLOBAL": _Machine.import_from_stack,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "NEWOBJ_EX": _Machine.new_with_keywords,
    "INST": _Machine.instance,
    "OBJ": _Machine.object_to_mark,
    "BUILD": _Machine.build,
    "PERSID": _Machine.persistent,
    "BINPERSID": _Machine.persistent_from_stack,
    **dict.fromkeys(("NONE", "NEWTRUE", "NEWFALSE"), _pushes(lambda _: _VALUE)),
    **dict.fromkeys(("FLOAT", "BINFLOAT"), _pushes(lambda _: _VALUE)),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _pushes(lambda argument: argument)),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _pushes(lambda argument: argument)),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2"), _pushes(lambda argument: argument)),
    **dict.fromkeys(("LONG", "LONG1", "LONG4"), _pushes(lambda argument: argument)),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE"), _pushes(lambda argument: argument)),
}

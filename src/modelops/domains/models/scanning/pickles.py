"""Pickles, followed opcode by opcode on a stack of symbols: what they import and call, without doing it.

Opcodes are those of `pickletools` (protocols 0 to 5); the stack machine is described in CPython's `Lib/pickletools.py`. Where
Python's own reader is more lenient than this one, the pickle is refused: an honest writer needs none of it.
"""

import _compat_pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from modelops.domains.models.scanning.findings import Notes, Unreadable
from modelops.domains.models.scanning.opcodes import Source
from modelops.domains.models.scanning.symbols import VALUE, Made, Name, layout

_MOST_OPCODES = 20_000_000
_MODULE = re.compile(r"^[^\W\d]\w*(\.[^\W\d]\w*)*$")

_BY_VALUE = "cloudpickle"
_NO_CODE = re.compile(r"^(_make_dict_(keys|values|items)|_make_(empty_)?cell|_cell_set)$")
_WRAPPER = ("joblib.numpy_pickle", "NumpyArrayWrapper")


def walk(stream: IO[bytes], notes: Notes, where: str, *, joblib: bool = False) -> None:
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
            name, argument = self.source.next_opcode()
            if name == "STOP":
                self._pop()
                return
            step = _STEPS.get(name)
            if step is None:
                raise Unreadable(f"it holds the opcode {name}, whose meaning depends on the process that reads it")
            step(self, argument)
        raise Unreadable(f"it has more than {_MOST_OPCODES:,} opcodes")

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
        self.push(VALUE)

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
        self.push(VALUE)

    def persistent_from_stack(self, _: Any) -> None:
        self._pop()
        self.push(VALUE)

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
        size, kind = layout(state)
        if size is None:
            _Machine(self.source, self.notes, self.where, joblib=False).run()
            return
        if isinstance(state.get("numpy_array_alignment_bytes"), int):
            padding = self.source.read(1)
            self.source.skip(padding[0] if padding else 1)
        self.source.skip(size * kind)


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
    "EMPTY_LIST": _pushes(lambda _: VALUE),
    "EMPTY_SET": _pushes(lambda _: VALUE),
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
    **dict.fromkeys(("NONE", "NEWTRUE", "NEWFALSE"), _pushes(lambda _: VALUE)),
    **dict.fromkeys(("FLOAT", "BINFLOAT"), _pushes(lambda _: VALUE)),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _pushes(lambda argument: argument)),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _pushes(lambda argument: argument)),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2"), _pushes(lambda argument: argument)),
    **dict.fromkeys(("LONG", "LONG1", "LONG4"), _pushes(lambda argument: argument)),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE"), _pushes(lambda argument: argument)),
}

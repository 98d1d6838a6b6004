"""MLflow's filters and orders: `metrics.loss < 0.5 AND params."a b" LIKE '%x%' AND attributes.status IN ('FINISHED')`.

Its grammar is a part of SQL: comparisons joined by AND. A key with other signs than letters, digits, `_`, `-`, `.` and `/` is
quoted by backquotes or double quotes; texts are in single or double quotes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelops.contracts.errors import InvalidInput

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*' | "(?:[^"])*")(?![\w.])
    | (?P<number>[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])
    | (?P<operator>!=|<>|<=|>=|=|<|>)
    | (?P<sign>[(),])
    | (?P<name>[A-Za-z_][\w]*(?:\.(?:`[^`]+`|"[^"]+"|[\w./-]+))? | `[^`]+`)
    )""",
    re.VERBOSE,
)
_TEXT_OPERATORS = {"=", "!=", "LIKE", "ILIKE"}
_NUMBER_OPERATORS = {"=", "!=", "<", "<=", ">", ">="}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison of a filter: of which kind the field is, its key, the operator in capitals, and the value."""

    kind: str
    key: str
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class Field:
    """What a filter may do with a kind of field.

    Attributes:
        numbers: Keys that hold numbers; True for all.
        keys: The keys that there are; None for any.
        lists: Keys that may be compared with a list.
        nullable: `IS NULL` may be asked.
        ordered: The keys that may be ordered by; None for any.
    """

    numbers: frozenset[str] | bool = False
    keys: frozenset[str] | None = None
    lists: frozenset[str] = frozenset()
    nullable: bool = False
    ordered: frozenset[str] | None = None


class Grammar:
    """The filters and orders of one kind of resource.

    Args:
        fields: By kind.
        kinds: The words that name a kind, in front of the dot. A name without a dot is of the kind `attribute`.
        aliases: Other names of attributes.
    """

    def __init__(
        self, fields: Mapping[str, Field], kinds: Mapping[str, str], aliases: Mapping[str, str] | None = None
    ) -> None:
        self.fields = fields
        self.kinds = kinds
        self.aliases = aliases or {}

    def read_filter(self, text: str | None) -> list[Comparison]:
        """Return the comparisons of a filter, all of which must hold.

        Raises:
            InvalidInput: it is not of the grammar.
        """
        if text is None or not text.strip():
            return []
        reader = _Reader(_tokens(text), text)
        found = [self._comparison(reader)]
        while not reader.ended:
            word = reader.take("name", "`AND`")
            if word.upper() != "AND":
                raise _bad(text, f"Invalid clause(s) in filter string: '{word}'; comparisons are joined by AND")
            found.append(self._comparison(reader))
        return found

    def read_orders(self, texts: Sequence[str]) -> list[tuple[str, str, bool]]:
        """Return (kind, key, whether descending) of each order.

        Raises:
            InvalidInput: one is not of the grammar, or names a field twice.
        """
        found: list[tuple[str, str, bool]] = []
        for text in texts:
            match = re.fullmatch(r"\s*(.+?)(?:\s+(asc|desc))?\s*", text, re.IGNORECASE | re.DOTALL)
            name = match.group(1) if match else ""
            if match is None or not re.fullmatch(_NAME, name):
                raise InvalidInput(f"Invalid order_by clause '{text}'.", hint="Write a field, then ASC or DESC.")
            kind, key = self._field(name, text)
            ordered = self.fields[kind].ordered
            if ordered is not None and key not in ordered:
                raise InvalidInput(f"Invalid order_by clause '{text}': '{key}' is not ordered by.")
            if any((kind, key) == known[:2] for known in found):
                raise InvalidInput(f"`order_by` contains duplicate fields: {list(texts)}")
            found.append((kind, key, (match.group(2) or "asc").lower() == "desc"))
        return found

    def _comparison(self, reader: "_Reader") -> Comparison:
        kind, key = self._field(reader.take("name", "a field"), reader.text)
        field = self.fields[kind]
        operator = reader.take_operator()
        if operator in ("IS NULL", "IS NOT NULL"):
            if not field.nullable:
                raise _bad(reader.text, f"IS NULL / IS NOT NULL is only supported for tags and params, not for '{key}'")
            return Comparison(kind, key, operator, None)
        is_number = field.numbers if isinstance(field.numbers, bool) else key in field.numbers
        allowed = (
            _NUMBER_OPERATORS if is_number else _TEXT_OPERATORS | ({"IN", "NOT IN"} if key in field.lists else set())
        )
        if operator not in allowed:
            raise _bad(reader.text, f"Invalid comparator '{operator}' not one of {sorted(allowed)}")
        if operator in ("IN", "NOT IN"):
            return Comparison(kind, key, operator, reader.take_list())
        return Comparison(kind, key, operator, reader.take_number(key) if is_number else reader.take_text(kind))

    def _field(self, name: str, text: str) -> tuple[str, str]:
        head, dot, rest = name.partition(".")
        kind = self.kinds.get(head) if dot else "attribute"
        if kind is None:
            raise _bad(text, f"Invalid entity type '{head}'. Valid values are {sorted(self.fields)}")
        key = (rest if dot else head).strip('`"')
        if kind == "attribute":
            key = self.aliases.get(key, key)
        keys = self.fields[kind].keys
        if keys is not None and key not in keys:
            raise _bad(text, f"Invalid {kind} key '{key}' specified. Valid keys are {sorted(keys)}")
        return kind, key


_NAME = r"[A-Za-z_]\w*(?:\.(?:`[^`]+`|\"[^\"]+\"|[\w./ -]+))?|`[^`]+`"


class _Reader:
    """Walks the tokens of a filter."""

    def __init__(self, tokens: list[tuple[str, str]], text: str) -> None:
        self.tokens = tokens
        self.text = text
        self.position = 0

    @property
    def ended(self) -> bool:
        return self.position >= len(self.tokens)

    def take(self, kind: str, what: str) -> str:
        found, written = self._next(what)
        if found != kind:
            raise _bad(self.text, f"expected {what}, found '{written}'")
        return written

    def take_operator(self) -> str:
        kind, written = self._next("an operator")
        if kind == "operator":
            return "!=" if written == "<>" else written
        word = written.upper()
        if kind == "name" and word in ("LIKE", "ILIKE", "IN"):
            return word
        if kind == "name" and word == "NOT" and self._take_word("IN"):
            return "NOT IN"
        if kind == "name" and word == "IS":
            negated = self._take_word("NOT")
            if self._take_word("NULL"):
                return "IS NOT NULL" if negated else "IS NULL"
        raise _bad(self.text, f"expected an operator, found '{written}'")

    def take_number(self, key: str) -> float:
        kind, written = self._next("a number")
        if kind != "number":
            raise _bad(self.text, f"Expected numeric value type for '{key}'. Found {written}")
        return float(written) if re.search(r"[.eE]", written) else int(written)

    def take_text(self, kind: str) -> str:
        found, written = self._next("a text")
        if found != "text":
            raise _bad(self.text, f"Expected a quoted string value for {kind} (e.g. 'my-value'). Got value {written}")
        return _unquoted(written)

    def take_list(self) -> list[str]:
        found: list[str] = []
        self._take_sign("(")
        while True:
            kind, written = self._next("a text")
            if kind != "text":
                raise _bad(
                    self.text, "While parsing a list in the query, expected string value, punctuation, or whitespace"
                )
            found.append(_unquoted(written))
            if self._next("`,` or `)`") == ("sign", ")"):
                return found

    def _take_sign(self, sign: str) -> None:
        if self._next(f"`{sign}`") != ("sign", sign):
            raise _bad(self.text, f"expected `{sign}`")

    def _take_word(self, word: str) -> bool:
        there = not self.ended and self.tokens[self.position][1].upper() == word
        self.position += there
        return there

    def _next(self, what: str) -> tuple[str, str]:
        if self.ended:
            raise _bad(self.text, f"it ends where {what} is expected")
        self.position += 1
        return self.tokens[self.position - 1]


def _unquoted(written: str) -> str:
    return written[1:-1].replace("''", "'") if written[0] == "'" else written[1:-1]


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise _bad(text, f"it cannot be read from character {position + 1} on")
        tokens.append((match.lastgroup, match.group(match.lastgroup)))
        position = match.end()
    return tokens


def _bad(text: str, why: str) -> InvalidInput:
    return InvalidInput(f"Invalid filter '{text[:500]}': {why}.")

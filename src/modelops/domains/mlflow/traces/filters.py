"""The language in which MLflow's clients search traces: conditions joined by AND, and fields to order by.

attributes.status = 'OK' AND timestamp_ms > 1700000000000 AND tags.`my key` LIKE 'a%' AND span.name = 'retrieve'
feedback.relevance >= 0.8 AND expectation.answer IS NOT NULL AND metadata.`mlflow.trace.session` = 's1'
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass

from modelops.contracts.errors import InvalidInput
from modelops.domains.mlflow.traces.patterns import check_pattern

Value = str | float | list[str] | None

NUMERIC = frozenset({"timestamp_ms", "execution_time_ms", "end_time_ms"})
SESSION = "mlflow.trace.session"
SOURCE_RUN = "mlflow.sourceRun"
NAME = "mlflow.traceName"

_KINDS = {
    "attribute": "attribute",
    "attributes": "attribute",
    "trace": "attribute",
    "tag": "tag",
    "tags": "tag",
    "metadata": "metadata",
    "request_metadata": "metadata",
    "span": "span",
    "feedback": "feedback",
    "expectation": "expectation",
    "issue": "issue",
}
_ALIASES = {
    "timestamp": ("attribute", "timestamp_ms"),
    "request_time": ("attribute", "timestamp_ms"),
    "execution_time": ("attribute", "execution_time_ms"),
    "execution_duration": ("attribute", "execution_time_ms"),
    "end_time": ("attribute", "end_time_ms"),
    "trace_id": ("attribute", "request_id"),
    "state": ("attribute", "status"),
    "name": ("tag", NAME),
    "prompt": ("prompt", ""),
    "run_id": ("run", ""),
    "text": ("span", "content"),
}
_ATTRIBUTES = NUMERIC | {"request_id", "status", "client_request_id"}
_ORDERABLE = _ATTRIBUTES | _ALIASES.keys() - {"prompt", "text"} | {"experiment_id"}

_EQUAL = frozenset({"=", "!="})
_PATTERN = _EQUAL | {"LIKE", "ILIKE", "RLIKE"}
_TEXT = _PATTERN | {"IN", "NOT IN"}
_ORDER = frozenset({"<", "<=", ">", ">="})
_PRESENCE = frozenset({"IS NULL", "IS NOT NULL"})
_OPERATORS = {
    "tag": _PATTERN | _PRESENCE,
    "metadata": _PATTERN | _PRESENCE,
    "run": _PATTERN | _PRESENCE,
    "span": _TEXT,
    "feedback": _PATTERN | _ORDER | _PRESENCE,
    "expectation": _PATTERN | _ORDER | _PRESENCE,
    "issue": frozenset({"="}),
    "prompt": frozenset({"="}),
}

_IDENTIFIER = re.compile(r"""(?:[^\s=<>!,()'"`]+|`[^`]*`|"[^"]*")+""")
_OPERATOR = re.compile(r"!=|<>|<=|>=|=|<|>|(?:not\s+in|in|like|ilike|rlike|is\s+not\s+null|is\s+null)\b", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?=[\s,)]|$)")
_STRING = re.compile(r"'((?:[^']|'')*)'|\"((?:[^\"]|\"\")*)\"")
_AND = re.compile(r"and\b", re.IGNORECASE)
_DIRECTION = re.compile(r"(.*?)(?:\s+(asc|desc))?", re.IGNORECASE | re.DOTALL)
_LONGEST = 50_000


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition. `kind` is `attribute`, `tag`, `metadata`, `run`, `prompt`, `span`, `feedback`, `expectation`, `issue`."""

    kind: str
    key: str
    operator: str
    value: Value


@dataclass(frozen=True, slots=True)
class Order:
    """One field to order by."""

    kind: str
    key: str
    ascending: bool


def parse_filter(text: str | None) -> list[Clause]:
    """Return the conditions of a filter; none for an empty one.

    Raises:
        InvalidInput: it cannot be read, or a field does not take the comparison.
    """
    reader = _Reader((text or "").rstrip().removesuffix(";"))
    if reader.ended():
        return []
    clauses = [_clause(reader)]
    while not reader.ended():
        if not reader.take(_AND):
            raise reader.wrong("conditions are joined by AND")
        clauses.append(_clause(reader))
    return clauses


def parse_order(fields: list[str]) -> list[Order]:
    """Return what to order by.

    Raises:
        InvalidInput: a field is not one to order by, or stands there twice.
    """
    found: list[Order] = []
    for text in fields:
        parts = _DIRECTION.fullmatch(text.strip())
        named = _IDENTIFIER.fullmatch(parts[1].strip()) if parts else None
        if parts is None or named is None:
            raise InvalidInput(f"Invalid order_by clause '{text}'.", hint="Write a field, then ASC or DESC.")
        kind, key = _name(named[0], _ORDERABLE)
        if kind not in ("attribute", "tag", "metadata", "run"):
            raise InvalidInput(f"Invalid order_by entity in '{text}': attributes, tags and metadata can be ordered by.")
        if any((one.kind, one.key) == (kind, key) for one in found):
            raise InvalidInput(f"`order_by` contains duplicate fields: '{text}'.")
        found.append(Order(kind, key, (parts[2] or "asc").lower() == "asc"))
    return found


def write_token(offset: int) -> str:
    """Return the token of the page that begins at an offset."""
    return base64.b64encode(json.dumps({"offset": offset}).encode()).decode()


def read_token(token: str | None) -> int:
    """Reverse `write_token`; 0 without one."""
    if not token:
        return 0
    try:
        offset = json.loads(base64.b64decode(token, validate=True))["offset"]
        if not isinstance(offset, int) or not 0 <= offset < 2**40:
            raise ValueError(offset)
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError):
        raise InvalidInput("Invalid page token: it is not one of ours.") from None
    return offset


class _Reader:
    def __init__(self, text: str) -> None:
        if len(text) > _LONGEST:
            raise InvalidInput(f"The filter is longer than {_LONGEST} characters.")
        self.text, self.at = text, 0
        self._skip()

    def _skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def ended(self) -> bool:
        return self.at >= len(self.text)

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
            self._skip()
        return found

    def take_mark(self, mark: str) -> bool:
        if not self.text.startswith(mark, self.at):
            return False
        self.at += 1
        self._skip()
        return True

    def wrong(self, why: str) -> InvalidInput:
        rest = self.text[self.at : self.at + 60]
        return InvalidInput(f"Invalid clause(s) in filter string: {why}, at '{rest}'.")


def _clause(reader: _Reader) -> Clause:
    identifier = reader.take(_IDENTIFIER)
    if identifier is None:
        raise reader.wrong("a field was expected")
    found = reader.take(_OPERATOR)
    if found is None:
        raise reader.wrong("a comparison was expected")
    kind, key = _name(identifier[0], _ATTRIBUTES | _ALIASES.keys())
    operator = "!=" if found[0] == "<>" else " ".join(found[0].upper().split())
    allowed = _allowed(kind, key)
    if operator not in allowed:
        raise InvalidInput(f"Invalid comparator '{operator}' for '{identifier[0]}': not one of {sorted(allowed)}.")
    clause = Clause(kind, key, operator, _value(reader, operator))
    _check_value(clause, identifier[0])
    return clause


def _allowed(kind: str, key: str) -> frozenset[str]:
    if kind == "attribute":
        return _EQUAL | _ORDER if key in NUMERIC else _TEXT
    return frozenset({"LIKE", "ILIKE"}) if (kind, key) == ("span", "content") else _OPERATORS[kind]


def _value(reader: _Reader, operator: str) -> Value:
    if operator in _PRESENCE:
        return None
    if operator in ("IN", "NOT IN"):
        if not reader.take_mark("("):
            raise reader.wrong("a list in parentheses was expected")
        values = [_string(reader)]
        while reader.take_mark(","):
            values.append(_string(reader))
        if not reader.take_mark(")"):
            raise reader.wrong("the list is not closed")
        return values
    if number := reader.take(_NUMBER):
        return float(number[0]) if not number[0].lstrip("+-").isdecimal() else int(number[0])
    return _string(reader)


def _string(reader: _Reader) -> str:
    found = reader.take(_STRING)
    if found is None:
        raise reader.wrong("Expected a quoted string value")
    return found[1].replace("''", "'") if found[1] is not None else found[2].replace('""', '"')


def _check_value(clause: Clause, named: str) -> None:
    number = isinstance(clause.value, int | float)
    if clause.kind == "attribute" and clause.key in NUMERIC:
        if not isinstance(clause.value, int | float) or abs(clause.value) >= 2**63:
            raise InvalidInput(f"'{named}' is compared with a number.")
    elif clause.operator in _ORDER:
        if not number:
            raise InvalidInput(f"Expected a numeric value for '{named}' when using comparator '{clause.operator}'.")
    elif number:
        raise InvalidInput(f"Expected a quoted string value for '{named}'. Got value {clause.value}.")
    elif clause.operator == "RLIKE":
        check_pattern(str(clause.value))
    elif clause.kind == "prompt" and str(clause.value).count("/") != 1:
        raise InvalidInput(
            f"Invalid prompts filter value '{clause.value}'. Expected format: prompt = \"name/version\"."
        )


def _name(identifier: str, attributes: frozenset[str] | set[str]) -> tuple[str, str]:
    head, dot, rest = identifier.partition(".") if not identifier.startswith(("`", '"')) else (identifier, "", "")
    if not dot:
        head, rest = "attribute", identifier
    kind = _KINDS.get(head)
    if kind is None:
        raise InvalidInput(f"Invalid entity type '{head}'. Valid values are {sorted(_KINDS)}.")
    key = _unquote(rest)
    if kind == "attribute":
        if key not in attributes:
            raise InvalidInput(f"Invalid attribute key '{key}' specified. Valid keys are {sorted(attributes)}.")
        return _ALIASES.get(key, ("attribute", key))
    if kind == "span":
        return kind, _span_key(key)
    if not key or (kind == "issue" and key != "id"):
        raise InvalidInput(f"Invalid {kind} field '{key}'.")
    return ("run", "") if (kind, key) == ("metadata", SOURCE_RUN) else (kind, key)


def _span_key(key: str) -> str:
    if key in ("name", "type", "status", "content"):
        return key
    attribute = _unquote(key.removeprefix("attributes."))
    if not key.startswith("attributes.") or not attribute:
        raise InvalidInput(
            f"Invalid span attribute '{key}'. Supported attributes: name, status, type, attributes.<attribute_name>."
        )
    if '"' in attribute:
        raise InvalidInput("The name of a span's attribute in a filter has no quotation mark.")
    return f"attributes.{attribute}"


def _unquote(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in '`"' else text

"""The records of a spool: one a line, `<crc32 in 8 hex digits> <JSON>`, so that damage costs the line it hits and no other."""

import json
import zlib
from typing import Any, NamedTuple

NEWLINE = b"\n"


class Point(NamedTuple):
    """One value of a metric; `time_us` counts microseconds since 1970 in UTC."""

    key: str
    value: float
    step: int
    time_us: int


class Parameter(NamedTuple):
    """One parameter."""

    key: str
    value: Any


class Tag(NamedTuple):
    """One label."""

    key: str
    value: str


class File(NamedTuple):
    """A file of the run; its content lies in the spool as `name`."""

    path: str
    digest: str
    name: str


class End(NamedTuple):
    """The end of the run. With `whole_only`, a run whose record has gaps is not ended as finished but as failed."""

    status: str
    reason: str | None
    whole_only: bool


Entry = Point | Parameter | Tag | File | End


def seal(payload: bytes) -> bytes:
    """Return a payload, which has no line break, as a line with its checksum."""
    return b"%08x %b\n" % (zlib.crc32(payload), payload)


def unseal(line: bytes) -> bytes | None:
    """Return the payload of a line (with or without its line break), or None where its checksum is wrong."""
    line = line.removesuffix(NEWLINE)
    try:
        expected = int(line[:8], 16)
    except ValueError:
        return None
    payload = line[9:]
    return payload if line[8:9] == b" " and zlib.crc32(payload) == expected else None


def write(entry: Entry) -> bytes:
    """Return an entry as a line."""
    match entry:
        case Point():
            content: list[Any] = ["m", entry.time_us, entry.step, {entry.key: entry.value}]
        case Parameter():
            content = ["p", {entry.key: entry.value}]
        case Tag():
            content = ["t", {entry.key: entry.value}]
        case File():
            content = ["a", *entry]
        case End():
            content = ["e", *entry]
    return write_json(content)


def write_json(content: Any) -> bytes:
    """Return JSON as a line."""
    return seal(json.dumps(content, separators=(",", ":")).encode())


def write_points(time_us: int, step: int, pairs: str) -> bytes:
    """Return metrics of one moment as a line; `pairs` are the members of a JSON object, written by `number`."""
    return seal(f'["m",{time_us},{step},{{{pairs}}}]'.encode())


def number(value: float) -> str:
    """Return a float as JSON with Python's names for what JSON lacks."""
    if value - value == 0:
        return repr(value)
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def read(line: bytes) -> list[Entry] | None:
    """Return the entries of a line, or None where it is damaged."""
    payload = unseal(line)
    if payload is None:
        return None
    try:
        kind, *content = json.loads(payload)
        return _entries(kind, content)
    except (ValueError, TypeError, AttributeError):
        return None


def _entries(kind: str, content: list[Any]) -> list[Entry]:
    match kind:
        case "m":
            time_us, step, values = content
            return [Point(key, value, step, time_us) for key, value in values.items()]
        case "p":
            return [Parameter(key, value) for key, value in content[0].items()]
        case "t":
            return [Tag(key, value) for key, value in content[0].items()]
        case "a":
            return [File(*content)]
        case "e":
            return [End(*content)]
    raise ValueError(f"'{kind}' is no kind of record")

"""Decisions about names and versions of data."""

import re

from modelops.contracts.errors import InvalidInput
from modelops.contracts.ids import id_pattern

MAX_VERSION = 2**31 - 1
ANY_DATASET = "-"
"""Stands for the dataset where a version is named by its id."""

_VERSION_ID = re.compile(id_pattern("dsv"))
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_RESERVED = re.compile(r"^(dst|dsv)_[0-9a-f]{32}$")
_FORMATS = {
    "csv": "csv",
    "parquet": "parquet",
    "pq": "parquet",
    "arrow": "arrow",
    "arrows": "arrow",
    "feather": "arrow",
    "ipc": "arrow",
}


def parse_ref(ref: str) -> tuple[str, int | None]:
    """Read `name`, `name:3` or `name:latest` into the name and the version, None for the latest.

    Raises:
        InvalidInput: what stands after the colon is no version.
    """
    name, colon, version = ref.rpartition(":")
    if not colon:
        return ref, None
    return name, parse_version(version)


def parse_version(text: str) -> int | None:
    """Read a version number, or `latest` as None."""
    if text == "latest":
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:11]) <= MAX_VERSION:
        raise InvalidInput(f"'{text[:50]}' is no version.", hint="Write its number, or `latest`.")
    return int(text[:11])


def is_version_id(text: str) -> bool:
    """Tell whether a text is the id of a dataset version, `dsv_…`."""
    return _VERSION_ID.match(text) is not None


def check_name(name: str) -> None:
    """Refuse a name that would read as an id: a reference must mean one thing."""
    if _RESERVED.match(name):
        raise InvalidInput(f"'{name}' has the form of an id, not of a name.", hint="Choose another name.")


def format_of(name: str) -> str | None:
    """Tell a file's format from its name; None where it cannot be told."""
    return _FORMATS.get(name.lower().rpartition(".")[2])


def part_sizes(size: int, part_size: int) -> list[int]:
    """Cut a file of `size` bytes into parts: all but the last have `part_size` bytes; an empty file has none."""
    return [min(part_size, size - start) for start in range(0, size, part_size)]


def parse_range(text: str | None, size: int) -> tuple[int, int] | None:
    """Read a `Range` header (RFC 9110, section 14.2) as where the part begins and what it stops before.

    None means the whole: there is no header, or one that may be ignored, such as of several ranges.

    Raises:
        IndexError: the range lies behind the end.
    """
    match = _RANGE.fullmatch((text or "").strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        if int(match[2]) == 0 or size == 0:
            raise IndexError(text)
        return max(size - int(match[2]), 0), size
    start, stop = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
    if match[2] and int(match[2]) < int(match[1]):
        return None
    if start >= size:
        raise IndexError(text)
    return start, stop

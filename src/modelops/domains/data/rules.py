"""Decisions about names, versions and media types of data."""

import re

from modelops.contracts.errors import InvalidInput
from modelops.contracts.ids import id_pattern

MAX_VERSION = 2**31 - 1
ANY_DATASET = "-"
"""Stands for the dataset where a version is named by its id."""

_RESTRICTED_NAME = r"[A-Za-z0-9!#$&^_.+-]{1,127}"
_PARAMETER = rf' ?; ?{_RESTRICTED_NAME}=({_RESTRICTED_NAME}|"[A-Za-z0-9!#$&^_.+ -]{{0,127}}")'
MEDIA_TYPE = rf"^{_RESTRICTED_NAME}/{_RESTRICTED_NAME}({_PARAMETER})*$"
"""A media type (RFC 6838, section 4.2), with parameters."""

_VERSION_ID = re.compile(id_pattern("dsv"))
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

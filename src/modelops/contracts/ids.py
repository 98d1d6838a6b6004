"""Identifiers: UUIDv7 (RFC 9562) as 32 hex digits behind a prefix that names the kind, `run_0193…`.

UUIDv7 sorts by the time it was made, so a primary-key order is a creation order and keyset paging needs no second
column.
"""

from uuid_utils import uuid7


def new_id(kind: str) -> str:
    """Return a new identifier of `kind`, for example `new_id("run")` -> `run_0193c4…` (unique, sorted by time)."""
    return f"{kind}_{uuid7().hex}"


def id_pattern(kind: str) -> str:
    """Return the regular expression that every identifier of `kind` matches."""
    return rf"^{kind}_[0-9a-f]{{32}}$"

"""The base of every payload, and the field types that several domains share.

Create, Update and Read payloads are separate classes; unknown fields are refused; outputs have no defaults.
"""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, PlainSerializer

T = TypeVar("T")


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time lies outside of the years 1 to 9999 in UTC") from None


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


UtcTime = Annotated[datetime, AfterValidator(_to_utc), PlainSerializer(_rfc3339, when_used="json")]
"""A moment: RFC 3339 in UTC on the wire, an aware datetime in Python."""

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._\- ]*$")]
"""A name a person chose: starts with a letter or digit, then letters, digits, `.`, `_`, `-` and spaces."""

Slug = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
"""A name that may stand in a host name: lower-case letters, digits and inner hyphens, at most 63."""

Text = Annotated[str, Field(max_length=5_000, pattern=r"^[^\x00]*$")]
"""A description: up to 5,000 characters."""

Key = Annotated[str, Field(min_length=1, max_length=250, pattern=r"^[^\x00]+$")]
"""The key of a tag, parameter or metric."""

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
"""The SHA-256 of a content, written `sha256:<64 hex digits>` as OCI writes it."""

Tags = Annotated[dict[Key, Text], Field(max_length=200)]
"""Free labels."""

Json = JsonValue


class Schema(BaseModel):
    """A payload. Unknown fields are refused, so that a misspelt field is an error and not silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings", protected_namespaces=())


class Page(Schema, Generic[T]):
    """One page of a listing in a stable order; `next_cursor` is null on the last one."""

    items: list[T]
    next_cursor: str | None
    total: int | None = Field(description="How many there are in all, where that is cheap to know.")


class Problem(BaseModel):
    """An error on the wire, as RFC 9457 describes it; `code` is stable, `hint` says what to do next."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: str
    request_id: str | None = None


def jsonable(value: Any) -> Any:
    """Return `value` (a schema, or containers of them) as plain JSON types."""
    if isinstance(value, BaseModel):
        return json.loads(value.model_dump_json())  # `model_dump` would leave NaN and infinities as floats
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if isinstance(value, datetime):
        return _rfc3339(value)
    return value

"""Pages of a search that counts its way: the token is the offset of the next one."""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import TypeVar

from modelops.contracts.errors import InvalidInput

T = TypeVar("T")


def page_size(wanted: int, most: int) -> int:
    """Return how many a page holds.

    Raises:
        InvalidInput: it is less than one, or too many.
    """
    if not 1 <= wanted <= most:
        raise InvalidInput(
            f"Invalid value {wanted} for parameter 'max_results' supplied: it must be a positive integer, at most {most}."
        )
    return wanted


def read_token(token: str | None) -> int:
    """Return the offset that a page's token stands for."""
    if not token:
        return 0
    try:
        offset = json.loads(base64.urlsafe_b64decode(token))["offset"]
        if not isinstance(offset, int) or not 0 <= offset < 2**31:
            raise ValueError(offset)
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error):
        raise InvalidInput("Invalid page token.", hint="Send the token of the page before, unchanged.") from None
    return offset


def write_token(offset: int) -> str:
    """Reverse `read_token`."""
    return base64.urlsafe_b64encode(json.dumps({"offset": offset}).encode()).decode()


def cut(rows: Sequence[T], offset: int, limit: int) -> tuple[Sequence[T], str]:
    """Cut a page from rows that were asked for with one too many; the token is empty at the end."""
    return rows[:limit], write_token(offset + limit) if len(rows) > limit else ""

"""Reading what a request of the ordinary lane brings."""

from collections.abc import Mapping

from starlette.requests import Request

from modelops.contracts.errors import InvalidInput, TooLarge


async def read_body(request: Request, limit: int, hint: str) -> bytes:
    """Return a request's body.

    Raises:
        TooLarge: it has more bytes than the limit.
    """
    if (whole_number(request.headers, "content-length") or 0) > limit:
        raise _too_large(limit, hint)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit, hint)
        chunks.append(chunk)
    return b"".join(chunks)


def whole_number(headers: Mapping[str, str], name: str) -> int | None:
    """Return a header's number; None where it is not there.

    Raises:
        InvalidInput: it is no whole number from 0 up to some 10^15.
    """
    text = headers.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidInput(f"The header '{name}' must be a whole number, not '{text[:40]}'.")
    return int(text)


def _too_large(limit: int, hint: str) -> TooLarge:
    return TooLarge(f"The body is larger than {limit:,} bytes, the limit of this deployment.", hint=hint)

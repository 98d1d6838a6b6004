"""Answers of data: files as streams, and a repeated upload's first answer."""

import hashlib
from collections.abc import Callable, Iterable
from typing import BinaryIO

from fastapi import Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from modelops.contracts.errors import IdempotencyMismatch, InvalidInput
from modelops.kernel.context import Context
from modelops.kernel.scope import Scope, outlast_races
from modelops.kernel.tables import IdempotencyRow


class FileAnswer(StreamingResponse):
    """A file as a download, closed when it was sent or the reader is gone.

    Args:
        file: Closed at the end.
        chunks: What is sent.
        media_type: As its uploader named it; a browser saves it and runs nothing in it.
        filename: ASCII.
        digest: Of what is sent, where it is known.
        size: In bytes, where it is known.
    """

    def __init__(
        self,
        file: BinaryIO,
        chunks: Iterable[bytes],
        *,
        media_type: str,
        filename: str,
        digest: str | None = None,
        size: int | None = None,
    ) -> None:
        headers = _headers(media_type, filename)
        if digest is not None:
            headers["ETag"] = f'"{digest}"'
        if size is not None:
            headers["Content-Length"] = str(size)
        super().__init__(chunks, headers=headers)
        self._file = file

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Send the file."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


class PartAnswer(StreamingResponse):
    """A part of a file, as a range request asked for it.

    Args:
        chunks: The bytes of the part.
        span: Where it begins, and what it stops before.
        size: Of the whole, in bytes.
        media_type, filename, digest: Of the whole, as of a `FileAnswer`.
    """

    def __init__(
        self, chunks: Iterable[bytes], span: tuple[int, int], size: int, *, media_type: str, filename: str, digest: str
    ) -> None:
        start, stop = span
        headers = {
            **_headers(media_type, filename),
            "ETag": f'"{digest}"',
            "Content-Length": str(stop - start),
            "Content-Range": f"bytes {start}-{stop - 1}/{size}",
        }
        super().__init__(chunks, status_code=206, headers=headers)


def check_key(scope: Scope) -> None:
    """Refuse an `Idempotency-Key` that could not be kept."""
    key = scope.request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= 200:
        raise InvalidInput("The `Idempotency-Key` must have 1 to 200 characters.")


def create_once(scope: Scope, digest: str, create: Callable[[Context], BaseModel]) -> Response:
    """Create from an uploaded body, in a unit of work; with an `Idempotency-Key` that was used before, answer as then.

    Args:
        scope: The request.
        digest: Of the body: a key stands for one request with one body.
        create: Makes the resource.

    Raises:
        IdempotencyMismatch: the key was used for another request.
    """
    return outlast_races(lambda: _create_once(scope, digest, create))


def _create_once(scope: Scope, digest: str, create: Callable[[Context], BaseModel]) -> Response:
    key = scope.request.headers.get("idempotency-key")
    fingerprint = _fingerprint(scope, digest)
    with scope.work() as ctx:
        kept = ctx.session.get(IdempotencyRow, (ctx.actor.id, key)) if key else None
        if kept is not None and kept.fingerprint != fingerprint:
            raise IdempotencyMismatch(f"The key '{key}' was used before, for another request.")
        if kept is not None:
            headers = {"Idempotency-Replayed": "true"}
            return Response(kept.body, kept.status, headers, media_type="application/json")
        body = create(ctx).model_dump_json()
        if key:
            ctx.session.add(
                IdempotencyRow(
                    actor=ctx.actor.id,
                    key=key,
                    fingerprint=fingerprint,
                    status=201,
                    body=body,
                    etag=None,
                    created_at=ctx.clock.now(),
                )
            )
    return Response(body, 201, media_type="application/json")


def _headers(media_type: str, filename: str) -> dict[str, str]:
    return {
        "Content-Type": media_type,
        "Content-Disposition": f'attachment; filename="{filename}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }


def _fingerprint(scope: Scope, digest: str) -> str:
    request = scope.request
    text = f"{request.method} {request.url.path}?{request.url.query}\n{scope.actor.project_id}\n{digest}"
    return hashlib.sha256(text.encode()).hexdigest()

"""The body of an object as a stream that survives broken connections."""

import io
import random
import time
from typing import Any

from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError, ResponseStreamingError

from modelops.adapters.s3.failures import is_out_of_range, is_taken, translated
from modelops.contracts.errors import Unavailable

_ATTEMPTS = 5
_REPLACED = "The artifact was stored anew while it was read; read it again."


class Body(io.RawIOBase):
    """An object, or a part of it, to be read once; where the connection breaks, it is opened again where it broke.

    Args:
        client: Of boto3.
        bucket, key: The object.
        start, stop: The part, in bytes; up to the object's end without `stop`.

    Raises:
        MissingError: there is no such object.
        Unavailable: the store does not answer, or the object was replaced while it was read.
    """

    def __init__(self, client: Any, bucket: str, key: str, start: int = 0, stop: int | None = None) -> None:
        self._client, self._bucket, self._key = client, bucket, key
        self._position, self._stop = start, stop
        self._etag: str | None = None
        self._stream: Any = None
        self._connect()

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read what comes next."""
        for attempt in range(_ATTEMPTS):
            if self._stream is None:
                return 0
            try:
                data = self._stream.read(len(buffer))
            except (HTTPClientError, IncompleteReadError, ResponseStreamingError, OSError) as broken:
                if attempt == _ATTEMPTS - 1:
                    raise Unavailable(f"The artifact store broke off: {type(broken).__name__}.") from broken
                time.sleep(0.1 * 2**attempt * random.random())  # noqa: S311 - jitter, not a secret
                self._connect()
                continue
            buffer[: len(data)] = data
            self._position += len(data)
            return len(data)
        return 0

    def close(self) -> None:
        """Give the connection back."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        super().close()

    def _connect(self) -> None:
        options: dict[str, Any] = {"IfMatch": self._etag} if self._etag else {}
        if self._position or self._stop is not None:
            options["Range"] = f"bytes={self._position}-{'' if self._stop is None else self._stop - 1}"
        if self._stop is not None and self._position >= self._stop:
            self._stream = None
            return
        with translated(self._bucket, self._key):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._key, **options)
            except ClientError as wrong:
                if is_out_of_range(wrong):
                    self._stream = None
                    return
                if self._etag and is_taken(wrong):
                    raise Unavailable(_REPLACED) from wrong
                raise
        if self._etag not in (None, answer.get("ETag")):  # not every store knows the condition
            answer["Body"].close()
            raise Unavailable(_REPLACED)
        self._etag, self._stream = answer.get("ETag"), answer["Body"]

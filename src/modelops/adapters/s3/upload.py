"""How a file becomes an object: at once, or in parts that are sent side by side."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError

_AT_ONCE = 16 * 1024 * 1024
_PART = 8 * 1024 * 1024
_MOST_PARTS = 10_000
_LANES = 4


def send(client: Any, bucket: str, key: str, file: BinaryIO, size: int, *, only_if_new: bool) -> None:
    """Write a file as an object.

    Args:
        client: Of boto3.
        bucket, key: The object.
        file: Seekable.
        size: Of the file, in bytes.
        only_if_new: Refuse where there is an object of that key (`If-None-Match: *`).

    Raises:
        ClientError: as S3 answers; nothing is kept.
    """
    condition = {"IfNoneMatch": "*"} if only_if_new else {}
    if size <= _AT_ONCE:
        file.seek(0)
        client.put_object(Bucket=bucket, Key=key, Body=file.read(), **condition)
        return
    target = {"Bucket": bucket, "Key": key}
    upload = client.create_multipart_upload(**target)["UploadId"]
    try:
        parts = _send_parts(client, target | {"UploadId": upload}, file, size)
        client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": parts}, **condition)
    except BaseException:
        with suppress(ClientError, BotoCoreError):
            client.abort_multipart_upload(**target, UploadId=upload)
        raise


def _send_parts(client: Any, target: dict[str, Any], file: BinaryIO, size: int) -> list[dict[str, Any]]:
    length = max(_PART, -(-size // _MOST_PARTS))
    failures: list[BaseException] = []

    def send_part(span: tuple[int, int]) -> dict[str, Any]:
        number, start = span
        if failures:  # another part could not be sent: then this one need not be
            raise failures[0]
        try:
            data = os.pread(file.fileno(), min(length, size - start), start)
            answer = client.upload_part(**target, PartNumber=number, Body=data)
        except BaseException as wrong:
            failures.append(wrong)
            raise
        return {"PartNumber": number, "ETag": answer["ETag"]}

    file.flush()
    with ThreadPoolExecutor(_LANES, thread_name_prefix="s3") as pool:
        return list(pool.map(send_part, _spans(size, length)))


def _spans(size: int, length: int) -> Iterator[tuple[int, int]]:
    yield from enumerate(range(0, size, length), start=1)

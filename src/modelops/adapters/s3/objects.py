"""Objects in a bucket.

S3 has no lock and cannot delete an object only if it is old. So whoever deletes old objects first leaves a mark beside the
object, then looks at its age, and removes the mark when the object is gone; whoever writes looks for the mark after writing,
waits until it is gone, and writes again where the object is missing then. In whatever order the steps of the two fall, either
the deleter sees that the object is young, or the writer sees the mark or the gap.
"""

import io
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError

from modelops.adapters.content import CHUNK
from modelops.adapters.objects.port import MissingError, ObjectInfo
from modelops.adapters.s3 import upload
from modelops.adapters.s3.body import Body
from modelops.adapters.s3.failures import is_taken, is_unknown, translated
from modelops.contracts.errors import Unavailable

_MARK = "condemned/"
_MARK_HOLDS_S = 20.0
"""A deleter that has not deleted this long after it left its mark does not any more."""
_MARK_DIES_S = 60.0
"""A mark seen for so long is of a deleter that was killed. Longer than a deletion may hang behind `_MARK_HOLDS_S`."""
_ATTEMPTS = 5
_TICK = timedelta(seconds=1)
_UNFINISHED_AFTER = timedelta(days=1)


class S3Objects:
    """Objects in a bucket of S3. Thread-safe.

    Args:
        client: Of boto3, for S3; see `connect`.
        bucket: Its name; it exists.
        prefix: What every key begins with, without a slash at its end; may be empty.
        spool: A folder for objects that are fetched; what lies there has no name and is gone with the process.
    """

    def __init__(self, client: Any, bucket: str, prefix: str, spool: Path) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._spool = spool
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, name: str, file: BinaryIO, size: int) -> None:
        """Write or replace an object; see `Objects.write`. Large ones are sent in parts."""
        for _ in range(_ATTEMPTS):
            with translated(self._bucket, name):
                self._send(name, file, size)
                self._wait_for_deleters(name)
            if self.head(name) is not None:
                return
        raise Unavailable("The artifact was deleted as often as it was stored.")

    def open(self, name: str, start: int = 0, stop: int | None = None) -> BinaryIO:
        """Open an object or a part of it; see `Objects.open`."""
        return io.BufferedReader(Body(self._client, self._bucket, self._key(name), start, stop), CHUNK)

    def fetch(self, name: str) -> BinaryIO:
        """Download an object into a file without a name; see `Objects.fetch`."""
        with self.open(name) as source:
            fetched = tempfile.TemporaryFile(dir=self._spool)  # noqa: SIM115 - it is what the caller gets
            try:
                while chunk := source.read(CHUNK):
                    fetched.write(chunk)
                fetched.seek(0)
            except BaseException:
                fetched.close()
                raise
        return fetched

    def head(self, name: str) -> ObjectInfo | None:
        """Return what is known of an object, or None."""
        try:
            with translated(self._bucket, name):
                answer = self._client.head_object(Bucket=self._bucket, Key=self._key(name))
        except MissingError:
            return None
        return ObjectInfo(name, answer["ContentLength"], answer["LastModified"])

    def walk(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects in the order of their names; see `Objects.walk`.

        Whoever walks from the beginning cleans up: uploads in parts that were never finished are aborted, too.
        """
        if not after:
            self.drop_unfinished()
        query: dict[str, Any] = {"Bucket": self._bucket, "Prefix": f"{self._key(prefix)}/"}
        if after:
            query["StartAfter"] = self._key(after)
        while True:
            with translated(self._bucket, prefix):
                page = self._client.list_objects_v2(**query)
            for item in page.get("Contents", []):
                yield ObjectInfo(item["Key"][len(self._prefix) :], item["Size"], item["LastModified"])
            if not page.get("IsTruncated"):
                return
            query["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, name: str, *, unless_put_since: datetime | None = None) -> bool:
        """Remove an object; see `Objects.delete`."""
        if self.head(name) is None:
            return False
        if unless_put_since is not None:
            return self._delete_old(name, unless_put_since)
        self._remove(self._key(name))
        return True

    def link(self, name: str, *, seconds: int, filename: str, media_type: str) -> str | None:
        """Return a URL that is signed; see `Objects.link`."""
        url: str = self._client.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self._bucket,
                "Key": self._key(name),
                "ResponseContentDisposition": f'attachment; filename="{filename}"',
                "ResponseContentType": media_type,
            },
            ExpiresIn=seconds,
        )
        return url

    def check(self) -> str:
        """Write, read, list and remove an object; see `Objects.check`."""
        probe = f"check/{time.time_ns()}"
        self.write(probe, io.BytesIO(b"check"), 5)
        with self.open(probe) as file:
            found = file.read()
        listed = [info.name for info in self.walk("check")]
        self.delete(probe)
        if found != b"check" or probe not in listed:
            raise Unavailable(f"The bucket '{self._bucket}' does not give back what was written.")
        return f"objects in the bucket '{self._bucket}' at {self._client.meta.endpoint_url}"

    def make(self) -> bool:
        """Make the bucket, and tell whether it was not there."""
        with translated(self._bucket, "the bucket"):
            known = {bucket["Name"] for bucket in self._client.list_buckets().get("Buckets", [])}
            if self._bucket in known:
                return False
            region = self._client.meta.region_name
            # The service's first region is the one that must not be named.
            where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            self._client.create_bucket(Bucket=self._bucket, **where)
        return True

    def drop_unfinished(self) -> int:
        """Abort uploads in parts whose senders were killed, where the store can tell them; return how many."""
        before = datetime.now(UTC) - _UNFINISHED_AFTER
        try:
            answer = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=self._prefix)
            old = [found for found in answer.get("Uploads", []) if found["Initiated"] < before]
            for found in old:
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=found["Key"], UploadId=found["UploadId"])
        except (ClientError, BotoCoreError):  # not every store knows the question, and the next start asks again
            return 0
        return len(old)

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _send(self, name: str, file: BinaryIO, size: int) -> None:
        """Write an object: with a condition where there seems to be none, so that two writers send it once."""
        if self.head(name) is None:
            try:
                upload.send(self._client, self._bucket, self._key(name), file, size, only_if_new=True)
                return
            except ClientError as wrong:
                if is_taken(wrong):
                    return
                if not is_unknown(wrong):
                    raise
        upload.send(self._client, self._bucket, self._key(name), file, size, only_if_new=False)

    def _delete_old(self, name: str, since: datetime) -> bool:
        mark = self._key(_MARK + name)
        began = time.monotonic()
        if not self._leave_mark(name):
            return False
        try:
            info = self.head(name)
            # S3 tells whole seconds, so an object may be almost one younger than it seems.
            if info is None or info.stored_at + _TICK > since or time.monotonic() - began > _MARK_HOLDS_S:
                return False
            self._remove(self._key(name))
            return True
        finally:
            self._remove(mark)

    def _leave_mark(self, name: str) -> bool:
        """Leave the mark of a deleter, unless another's is there; one that a killed deleter left is removed."""
        mark = self._key(_MARK + name)
        left = self.head(_MARK + name)
        if left is None:
            with translated(self._bucket, name):
                try:
                    self._client.put_object(Bucket=self._bucket, Key=mark, Body=b"", IfNoneMatch="*")
                except ClientError as wrong:
                    if is_taken(wrong):
                        return False
                    if not is_unknown(wrong):
                        raise
                    self._client.put_object(Bucket=self._bucket, Key=mark, Body=b"")
            return True
        if left.stored_at < datetime.now(UTC) - timedelta(seconds=2 * _MARK_DIES_S):
            self._remove(mark)
        return False

    def _wait_for_deleters(self, name: str) -> None:
        deadline, pause = time.monotonic() + _MARK_DIES_S, 0.02
        while self.head(_MARK + name) is not None:
            if time.monotonic() > deadline:
                self._remove(self._key(_MARK + name))
                return
            time.sleep(pause)
            pause = min(pause * 2, 1.0)

    def _remove(self, key: str) -> None:
        with translated(self._bucket, key):
            self._client.delete_object(Bucket=self._bucket, Key=key)

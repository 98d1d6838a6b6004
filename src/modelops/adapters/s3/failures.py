"""What S3 answers instead of a success, as the errors that tell the user what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from modelops.adapters.objects.port import MissingError
from modelops.contracts.errors import StorageFull, Unavailable

_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_FULL = frozenset(
    {"507", "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
)
_NO_BUCKET = frozenset({"NoSuchBucket"})
_DENIED = frozenset(
    {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
)
_TAKEN = frozenset({"412", "PreconditionFailed", "409", "ConditionalRequestConflict"})
_UNKNOWN = frozenset({"501", "NotImplemented"})


def code_of(wrong: ClientError) -> str:
    """Return the code of an answer: S3's own word where it sent one, else the HTTP status."""
    return str(wrong.response.get("Error", {}).get("Code") or _status(wrong))


def is_taken(wrong: ClientError) -> bool:
    """Tell whether a conditional request was refused because its condition does not hold."""
    return code_of(wrong) in _TAKEN or _status(wrong) in (409, 412)


def is_unknown(wrong: ClientError) -> bool:
    """Tell whether the service does not know what was asked of it."""
    return code_of(wrong) in _UNKNOWN or _status(wrong) == 501


def is_out_of_range(wrong: ClientError) -> bool:
    """Tell whether a range lies behind the end of the object."""
    return code_of(wrong) == "InvalidRange" or _status(wrong) == 416


@contextmanager
def translated(bucket: str, name: str = "") -> Iterator[None]:
    """Raise what an answer means.

    Raises:
        MissingError: there is no such object.
        StorageFull: there is no room.
        Unavailable: no bucket, no right, or no answer; the error says which.
    """
    try:
        yield
    except ClientError as wrong:
        raise _meaning(wrong, bucket, name) from wrong
    except (BotoCoreError, OSError) as wrong:
        raise Unavailable(
            f"The artifact store does not answer ({type(wrong).__name__}): {str(wrong)[:300]}.",
            hint="Check S3_ENDPOINT and the network; `mops doctor` tries again.",
        ) from wrong


def _meaning(wrong: ClientError, bucket: str, name: str) -> Exception:
    code = code_of(wrong)
    if code in _NO_BUCKET:
        return Unavailable(f"There is no bucket '{bucket}'.", hint="Make it, or name another in S3_BUCKET.")
    if code in _MISSING:
        return MissingError(name)
    if code in _FULL or _status(wrong) == 507:
        return StorageFull(f"The bucket '{bucket}' takes no more: {code}.")
    if code in _DENIED:
        return Unavailable(
            f"The artifact store refuses the platform's key for the bucket '{bucket}': {code}.",
            hint="Check S3_ACCESS_KEY and S3_SECRET_KEY, and that the key may read, write, list and delete there.",
        )
    text = str(wrong.response.get("Error", {}).get("Message", ""))[:200]
    return Unavailable(f"The artifact store answered {code} for the bucket '{bucket}': {text}.")


def _status(wrong: ClientError) -> int:
    metadata: Any = wrong.response.get("ResponseMetadata", {})
    return int(metadata.get("HTTPStatusCode", 0))

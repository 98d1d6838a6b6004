"""Where artifacts lie, as the settings say: files or a bucket, encrypted or not."""

from pathlib import Path
from typing import TYPE_CHECKING

from modelops.adapters.local.blobs import LocalBlobStore
from modelops.adapters.objects import FileObjects, Keyring, ObjectBlobStore, StackedBlobStore
from modelops.contracts.errors import InvalidInput, MissingExtra
from modelops.contracts.ports import BlobStore
from modelops.contracts.settings import Settings

if TYPE_CHECKING:
    from modelops.adapters.s3 import S3Objects


def open_blobs(settings: Settings) -> BlobStore:
    """Open the blob store.

    What was put into files before the bucket or the keys were named is still read, and moves when it is put again.

    Raises:
        InvalidInput: a setting is of the wrong form.
        MissingExtra: a bucket is named, and boto3 is not installed.
    """
    files, spool = LocalBlobStore(settings.home / "blobs"), settings.home / "tmp"
    keys = _keyring(settings)
    sealed = FileObjects(settings.home / "blobs" / "objects")
    if settings.s3_bucket is None:
        if keys is None and not _any_in(settings.home / "blobs" / "objects" / "sha256"):
            return files
        written = ObjectBlobStore(sealed, spool, keys=keys)
        return StackedBlobStore(written, files) if keys else StackedBlobStore(files, written)
    here = StackedBlobStore(ObjectBlobStore(sealed, spool, keys=keys), files)
    bucket = ObjectBlobStore(_bucket(settings, spool), spool, keys=keys, compress=settings.s3_compress)
    return StackedBlobStore(bucket, here)


def make_bucket(settings: Settings) -> bool:
    """Make the bucket that the settings name, and tell whether it was not there.

    Raises:
        InvalidInput: they name none.
        MissingExtra: boto3 is not installed.
        MLOpsError: the store does not answer, or refuses.
    """
    if settings.s3_bucket is None:
        raise InvalidInput("No bucket is named.", hint="Set `MODELOPS_S3_BUCKET`.")
    return _bucket(settings, settings.home / "tmp").make()


def _bucket(settings: Settings, spool: Path) -> "S3Objects":
    try:
        from modelops.adapters.s3 import S3Objects
        from modelops.adapters.s3.connect import connect
    except ModuleNotFoundError as missing:
        raise MissingExtra(
            f"Artifacts in S3 need the Python package '{missing.name}', which is not installed.",
            hint='Install it: `pip install "modelops[server,s3]"`, or unset S3_BUCKET.',
        ) from missing
    secret = settings.s3_secret_key
    client = connect(
        endpoint=settings.s3_endpoint,
        access_key=settings.s3_access_key,
        secret_key=secret.get_secret_value() if secret else None,
        region=settings.s3_region,
        path_style=settings.s3_path_style,
    )
    return S3Objects(client, settings.s3_bucket or "", settings.s3_prefix, spool)


def _keyring(settings: Settings) -> Keyring | None:
    if settings.encryption_keys is not None and settings.encryption_key_file is not None:
        raise InvalidInput("Both encryption keys and a file of them are set.", hint="Set one of the two.")
    if settings.encryption_keys is not None:
        return Keyring(settings.encryption_keys.get_secret_value())
    if settings.encryption_key_file is None:
        return None
    try:
        return Keyring(settings.encryption_key_file.expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as wrong:
        why = wrong.strerror if isinstance(wrong, OSError) else "it is no text"
        raise InvalidInput(
            f"The file of encryption keys {settings.encryption_key_file} cannot be read: {why}.",
            hint="Check MODELOPS_ENCRYPTION_KEY_FILE.",
        ) from wrong


def _any_in(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())

"""The code of a pipeline's steps: archives of modules."""

import hashlib
import os
import tarfile
import tempfile
from pathlib import Path


class DamagedArchive(Exception):
    """It is no archive of code."""


def cached(archives: Path, digest: str) -> Path | None:
    """Return the archive of a digest, if this machine keeps it and its bytes have that digest."""
    archive = archives / digest.removeprefix("sha256:")
    if not archive.is_file():
        return None
    with archive.open("rb") as file:
        return archive if f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == digest else None


def unpack(archive: Path, to: Path) -> Path:
    """Unpack an archive of code into a folder that does not exist yet, and return that: it is there whole or not at all.

    Raises:
        DamagedArchive: it is none.
    """
    import zstandard

    partial = Path(tempfile.mkdtemp(dir=to.parent, prefix=".code-"))
    try:
        with archive.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                tar.extractall(partial, filter="data")
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as wrong:
        raise DamagedArchive(str(wrong)) from wrong
    os.replace(partial, to)
    return to

"""A deterministic archive: the same files give the same bytes, on any machine, at any time."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from modelops.contracts.errors import MissingExtra, TooLarge

MOST_BYTES = 64 * 1024 * 1024
"""Of the files of one pipeline's code, before they are compressed."""


def pack_files(files: Mapping[str, bytes | Path]) -> bytes:
    """Return a tar, compressed with zstd, of contents, or files that hold them, by their path in it.

    Raises:
        TooLarge: they are more than `MOST_BYTES`.
        MissingExtra: zstandard is not installed.
    """
    try:
        import zstandard
    except ModuleNotFoundError:
        raise MissingExtra(
            "Code is packed with zstandard, which is not installed.", hint='Install "modelops[server]".'
        ) from None
    sizes = {path: len(one) if isinstance(one, bytes) else one.stat().st_size for path, one in files.items()}
    total = sum(sizes.values())
    if total > MOST_BYTES:
        largest = sorted(sizes, key=lambda path: -sizes[path])[:3]
        told = ", ".join(f"{path} ({sizes[path] / 2**20:.1f} MiB)" for path in largest)
        raise TooLarge(
            f"The pipeline's code has {total / 2**20:.1f} MiB; at most {MOST_BYTES // 2**20} MiB are packed. "
            f"The largest: {told}.",
            hint="Keep data out of packages: register it as a dataset, or let a step fetch it.",
        )
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(files):
            one = files[path]
            content = one if isinstance(one, bytes) else one.read_bytes()
            entry = tarfile.TarInfo(path)  # of nobody, at the beginning of time
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return zstandard.ZstdCompressor(level=10, write_content_size=True).compress(plain.getvalue())

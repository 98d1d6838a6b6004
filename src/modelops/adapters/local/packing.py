"""The compressed form of a blob: a Zstandard file (RFC 8878) that knows its content's size and notices damage.

It begins with a skippable frame, which every Zstandard tool passes over, holding the content's size (64 bits) and the
CRC-32 of all that follows, both little-endian; then comes one ordinary frame. So `zstd -d` unpacks a stored blob.
"""

import itertools
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

import zstandard

_LEVEL = 3
_SAMPLE = 128 * 1024
_WORTHWHILE = 0.95
_PIECE = 64 * 1024
_HEADER = struct.Struct("<IIQI")
_MAGIC = 0x184D2A50
_HEADER_PAYLOAD = _HEADER.size - 8


class DamagedError(Exception):
    """The file is not what `write` wrote."""


def write(file: BinaryIO, chunks: Iterable[bytes]) -> bool:
    """Write the content compressed where that pays, else as it is; return whether it was compressed.

    The decision falls on the first 128 KiB, however the chunks are cut, so that a content always takes the same form.
    """
    rest = iter(chunks)
    sample = bytearray()
    while len(sample) < _SAMPLE and (chunk := next(rest, None)) is not None:
        sample += chunk
    chunks = itertools.chain((bytes(sample),), rest)
    if not _pays(bytes(sample[:_SAMPLE])):
        for chunk in chunks:
            file.write(chunk)
        return False
    _compress(file, chunks)
    return True


def read(file: BinaryIO, chunk_size: int) -> Iterator[bytes]:
    """Yield the content in chunks of bounded size.

    Raises:
        DamagedError: a byte is other than written, or some are missing; found at the latest after the last chunk.
    """
    size, checksum = _header(file)
    source = _Summed(file)
    seen = 0
    with zstandard.ZstdDecompressor().stream_reader(cast(BinaryIO, source), read_size=_PIECE, closefd=False) as frames:
        while chunk := _next_chunk(frames, chunk_size):
            seen += len(chunk)
            yield chunk
    source.finish()
    if (seen, source.checksum) != (size, checksum):
        raise DamagedError("The size or the checksum is not the one that was written.")


def content_size(file: BinaryIO) -> int:
    """Return the size of the content as its header tells. Raises DamagedError where there is no header."""
    return _header(file)[0]


class _Summed:
    """A source for the decompressor that sums up everything read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.checksum = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.checksum = zlib.crc32(data, self.checksum)
        return data

    def finish(self) -> None:
        """Take in what the decompressor left, so that bytes behind the frame are noticed too."""
        while self.read(_PIECE):
            pass


def _pays(sample: bytes) -> bool:
    packed = len(zstandard.ZstdCompressor(level=_LEVEL).compress(sample)) + _HEADER.size
    return packed < len(sample) * _WORTHWHILE


def _compress(file: BinaryIO, chunks: Iterable[bytes]) -> None:
    compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
    size = checksum = 0

    def emit(data: bytes) -> None:
        nonlocal checksum
        checksum = zlib.crc32(data, checksum)
        file.write(data)

    file.seek(_HEADER.size)
    for chunk in chunks:
        size += len(chunk)
        emit(compressor.compress(chunk))
    emit(compressor.flush())
    file.seek(0)
    file.write(_HEADER.pack(_MAGIC, _HEADER_PAYLOAD, size, checksum))


def _header(file: BinaryIO) -> tuple[int, int]:
    head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        raise DamagedError("The header is cut off.")
    magic, length, size, checksum = _HEADER.unpack(head)
    if (magic, length) != (_MAGIC, _HEADER_PAYLOAD):
        raise DamagedError("The header is not one of ours.")
    return size, checksum


def _next_chunk(frames: zstandard.ZstdDecompressionReader, size: int) -> bytes:
    try:
        return frames.read(size)
    except zstandard.ZstdError as error:
        raise DamagedError(str(error)) from error

"""The boxed form of a blob: chunks, each compressed where that pays and guarded on its own, so that ranges can be read.

    header     28 bytes: magic, version, whether it is sealed, the size of a chunk, the id of the seal
    records    for each chunk: its length (32 bits), then the guarded chunk
    end        32 bits, all set
    index      guarded: the content's size, and each record's length
    trailer    the length of the guarded index (64 bits), magic

A guarded piece is encrypted by AES-256-GCM (NIST SP 800-38D) under the box's own key, its nonce made from what the piece is
and its number, the header beside it as associated data; in a box that is not sealed it is followed by its CRC-32. So no
piece can be changed, moved, repeated or left out unnoticed; the index tells that all of them are there.
All numbers are little-endian.
"""

import io
import itertools
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHUNK = 1024 * 1024
HEADER = struct.Struct("<4sBBHI16s")
TRAILER = struct.Struct("<Q4s")
_LENGTH = struct.Struct("<I")
_SIZE = struct.Struct("<Q")
_NONCE = struct.Struct("<IQ")
_CRC = struct.Struct("<I")
_MAGIC, _VERSION = b"MOBX", 1
_END = 0xFFFFFFFF
_OF_CHUNKS, _OF_INDEX = 1, 2
_AS_IS, _ZSTD = b"\0", b"\1"
_LEVEL = 3
_WORTHWHILE = 0.95
_MOST = CHUNK + 1024
NO_SEAL = bytes(16)


class DamagedError(Exception):
    """The box is not what `write` wrote, or its key is another."""


class Guard(Protocol):
    """Makes changes noticed."""

    def protect(self, kind: int, number: int, data: bytes) -> bytes:
        """Return the guarded piece."""
        ...

    def verify(self, kind: int, number: int, data: bytes) -> bytes:
        """Reverse `protect`. Raises DamagedError."""
        ...


@dataclass(frozen=True)
class Header:
    """What a box says of itself; `seal` is NO_SEAL in one that is not encrypted."""

    seal: bytes
    chunk: int = CHUNK

    def pack(self) -> bytes:
        """Return the bytes of the header."""
        return HEADER.pack(_MAGIC, _VERSION, self.sealed, 0, self.chunk, self.seal)

    @property
    def sealed(self) -> bool:
        """Tell whether the box is encrypted."""
        return self.seal != NO_SEAL

    def guard(self, key: bytes | None) -> Guard:
        """Return what guards the pieces of this box, under its key if it is sealed."""
        return _Checksum(self.pack()) if key is None else _Cipher(key, self.pack())


class _Checksum:
    def __init__(self, header: bytes) -> None:
        self._header = header

    def protect(self, kind: int, number: int, data: bytes) -> bytes:
        return data + _CRC.pack(self._sum(kind, number, data))

    def verify(self, kind: int, number: int, data: bytes) -> bytes:
        content = data[: -_CRC.size]
        if data[len(content) :] != _CRC.pack(self._sum(kind, number, content)):
            raise DamagedError("A checksum does not hold.")
        return content

    def _sum(self, kind: int, number: int, data: bytes) -> int:
        return zlib.crc32(data, zlib.crc32(self._header + _NONCE.pack(kind, number)))


class _Cipher:
    def __init__(self, key: bytes, header: bytes) -> None:
        self._cipher = AESGCM(key)
        self._header = header

    def protect(self, kind: int, number: int, data: bytes) -> bytes:
        return self._cipher.encrypt(_NONCE.pack(kind, number), data, self._header)

    def verify(self, kind: int, number: int, data: bytes) -> bytes:
        try:
            return self._cipher.decrypt(_NONCE.pack(kind, number), data, self._header)
        except (InvalidTag, ValueError) as wrong:
            raise DamagedError("A piece does not open with its key.") from wrong


@dataclass(frozen=True)
class Index:
    """The size of a box's content, and the length of each of its records, in bytes."""

    size: int
    lengths: tuple[int, ...]

    def start_of(self, number: int) -> int:
        """Return where the record of a chunk begins in the box."""
        return HEADER.size + sum(self.lengths[:number])


def write(file: BinaryIO, content: Iterable[bytes], header: Header, guard: Guard, *, compress: bool) -> None:
    """Write a content as a box."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    file.write(header.pack())
    size = 0
    lengths: list[int] = []
    for number, chunk in enumerate(_recut(content, header.chunk)):
        size += len(chunk)
        piece = guard.protect(_OF_CHUNKS, number, _pack(chunk, compressor if compress else None))
        file.write(_LENGTH.pack(len(piece)) + piece)
        lengths.append(_LENGTH.size + len(piece))
    index = guard.protect(_OF_INDEX, 0, _SIZE.pack(size) + struct.pack(f"<{len(lengths)}I", *lengths))
    file.write(_LENGTH.pack(_END) + index + TRAILER.pack(len(index), _MAGIC))


def read_header(file: BinaryIO) -> Header:
    """Read the header of a box. Raises DamagedError."""
    magic, version, sealed, reserved, chunk, seal = HEADER.unpack(exactly(file, HEADER.size))
    header = Header(seal, chunk)
    if (magic, version, reserved) != (_MAGIC, _VERSION, 0) or chunk != CHUNK or sealed != header.sealed:
        raise DamagedError("The header is not one of ours.")
    return header


def read(file: BinaryIO, guard: Guard) -> Iterator[bytes]:
    """Yield the content of a box whose header was read before.

    Raises:
        DamagedError: any byte is other than written, or some are missing; found at the latest after the last chunk.
    """
    size = 0
    lengths: list[int] = []
    while (length := _LENGTH.unpack(exactly(file, _LENGTH.size))[0]) != _END:
        chunk = _unpack(_piece(file, length), guard, len(lengths))
        size += len(chunk)
        lengths.append(_LENGTH.size + length)
        yield chunk
    rest = _all(file)
    length, magic = TRAILER.unpack(rest[-TRAILER.size :]) if len(rest) >= TRAILER.size else (0, b"")
    if magic != _MAGIC or length != len(rest) - TRAILER.size:
        raise DamagedError("The end is not the one that was written.")
    if parse_index(rest[: -TRAILER.size], guard) != Index(size, tuple(lengths)):
        raise DamagedError("Chunks are missing, or too many.")


def read_records(file: BinaryIO, guard: Guard, first: int, count: int) -> Iterator[bytes]:
    """Yield `count` chunks from a file that stands at the record of chunk `first`. Raises DamagedError."""
    for number in range(first, first + count):
        (length,) = _LENGTH.unpack(exactly(file, _LENGTH.size))
        yield _unpack(_piece(file, length), guard, number)


def parse_index(data: bytes, guard: Guard) -> Index:
    """Open a guarded index. Raises DamagedError."""
    raw = guard.verify(_OF_INDEX, 0, data)
    if len(raw) < _SIZE.size or (len(raw) - _SIZE.size) % _LENGTH.size:
        raise DamagedError("The index is cut off.")
    return Index(
        _SIZE.unpack(raw[: _SIZE.size])[0],
        struct.unpack(f"<{(len(raw) - _SIZE.size) // _LENGTH.size}I", raw[_SIZE.size :]),
    )


def index_span(trailer: bytes, total: int) -> tuple[int, int]:
    """Return where the guarded index lies in a box of `total` bytes that ends with `trailer`. Raises DamagedError."""
    length, magic = TRAILER.unpack(trailer) if len(trailer) == TRAILER.size else (0, b"")
    start = total - TRAILER.size - length
    if magic != _MAGIC or start < HEADER.size + _LENGTH.size:
        raise DamagedError("The end is not the one that was written.")
    return start, total - TRAILER.size


class BoxFile(io.RawIOBase):
    """The content of a box as a seekable file: decrypted as it is read, and never anywhere else than in memory.

    Args:
        file: The box, seekable; closed with this file.
        header, guard: Of the box.

    Raises:
        DamagedError: the end of the box is damaged.
    """

    def __init__(self, file: BinaryIO, header: Header, guard: Guard) -> None:
        self._file, self._header, self._guard = file, header, guard
        total = file.seek(0, io.SEEK_END)
        file.seek(max(total - TRAILER.size, 0))
        start, stop = index_span(file.read(TRAILER.size), total)
        file.seek(start)
        self._index = parse_index(file.read(stop - start), guard)
        self._starts = list(itertools.accumulate(self._index.lengths, initial=HEADER.size))
        self._position = 0
        self._held: tuple[int, bytes] = (-1, b"")

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read from anywhere."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position of the content."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._index.size}[whence]
        if base + offset < 0:
            raise ValueError("A file has no bytes before its beginning.")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position in the content."""
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read up to the end of a chunk."""
        if self._position >= self._index.size:
            return 0
        number, offset = divmod(self._position, self._header.chunk)
        part = self._chunk(number)[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def close(self) -> None:
        """Close the box, too."""
        if not self.closed:
            self._file.close()
        super().close()

    def _chunk(self, number: int) -> bytes:
        if self._held[0] != number:
            self._file.seek(self._starts[number])
            self._held = (number, next(read_records(self._file, self._guard, number, 1)))
        return self._held[1]


def _pack(chunk: bytes, compressor: zstandard.ZstdCompressor | None) -> bytes:
    if compressor is not None:
        packed = compressor.compress(chunk)
        if len(packed) < len(chunk) * _WORTHWHILE:
            return _ZSTD + packed
    return _AS_IS + chunk


def _unpack(piece: bytes, guard: Guard, number: int) -> bytes:
    data = guard.verify(_OF_CHUNKS, number, piece)
    if data[:1] == _AS_IS:
        return data[1:]
    try:
        return zstandard.ZstdDecompressor().decompress(data[1:], max_output_size=CHUNK)
    except zstandard.ZstdError as wrong:
        raise DamagedError(str(wrong)) from wrong


def _recut(content: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Cut a content anew, into chunks of one size and a last one."""
    held = bytearray()
    for chunk in content:
        held += chunk
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)


def _piece(file: BinaryIO, length: int) -> bytes:
    if length > _MOST:
        raise DamagedError("A record is longer than any that is written.")
    return exactly(file, length)


def exactly(file: BinaryIO, size: int) -> bytes:
    """Read so many bytes. Raises DamagedError where there are fewer."""
    parts, missing = [], size
    while missing and (part := file.read(missing)):
        parts.append(part)
        missing -= len(part)
    if missing:
        raise DamagedError("The box is cut off.")
    return b"".join(parts)


def _all(file: BinaryIO) -> bytes:
    parts = []
    while part := file.read(CHUNK):
        parts.append(part)
    return b"".join(parts)

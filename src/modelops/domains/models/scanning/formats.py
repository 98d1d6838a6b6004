"""Files of a package: told apart by their content, unpacked where they are archives, and walked where they are pickles.

A name alone proves nothing, and neither does a beginning: what a loader might find in a file, it is searched for.
"""

import ast
import bz2
import contextlib
import gzip
import json
import lzma
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, BinaryIO, cast

from modelops.domains.models.scanning import configs
from modelops.domains.models.scanning.findings import FileScan, Notes, Reading, Unreadable
from modelops.domains.models.scanning.pickles import walk

_DEEPEST = 6
_MOST_MEMBERS = 50_000
_MOST_UNPACKED = 4 * 1024**3
_MOST_DOCUMENT = 64 * 1024**2
_CHUNK = 1024 * 1024

_ZIP = b"PK\x03\x04"
_NPY = b"\x93NUMPY"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_NATIVE = (b"\x7fELF", b"MZ\x90\x00", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
_COMPRESSED: tuple[tuple[bytes, Callable[[BinaryIO], Any]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file, mode="rb")),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
    (b"]\x00\x00", lzma.LZMAFile),
)
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_LZ4 = b"\x04\x22\x4d\x18"

_DAMAGED = (lzma.LZMAError, zlib.error, EOFError, OSError)

_SUFFIXES = {
    ".pkl": Reading.PICKLE,
    ".pickle": Reading.PICKLE,
    ".cloudpickle": Reading.PICKLE,
    ".dill": Reading.PICKLE,
    ".ckpt": Reading.PICKLE,
    ".pt": Reading.PICKLE,
    ".pth": Reading.PICKLE,
    ".joblib": Reading.JOBLIB,
    ".py": Reading.SOURCE,
    **dict.fromkeys((".pyc", ".pyd", ".so", ".dll", ".dylib"), Reading.COMPILED),
    ".json": Reading.TEXT,
    ".yaml": Reading.TEXT,
    ".yml": Reading.TEXT,
    ".txt": Reading.TEXT,
    ".csv": Reading.TEXT,
    ".md": Reading.TEXT,
    ".html": Reading.TEXT,
    ".toml": Reading.TEXT,
}


def reading_of(path: str) -> Reading:
    """Return how a file is opened, as its name tells."""
    name = path.lower()
    return next((reading for suffix, reading in _SUFFIXES.items() if name.endswith(suffix)), Reading.ANY)


def scan_file(stream: BinaryIO, reading: Reading) -> FileScan:
    """Tell what a file would import and run when a loader opens it.

    Args:
        stream: The file, seekable, at its first byte.
        reading: How it would be opened.
    """
    notes = Notes()
    try:
        _Scan(notes).file(stream, "", reading, 0)
    except Unreadable as wrong:
        return notes.done(str(wrong))
    except Exception as wrong:  # the readers of archives raise whatever hostile bytes lead them to
        return notes.done(f"it is damaged: {type(wrong).__name__}: {str(wrong)[:200]}")
    return notes.done()


class _Scan:
    """One file of a package with all that lies in it. `unpacked` counts the bytes that came out of archives."""

    def __init__(self, notes: Notes) -> None:
        self.notes, self.unpacked = notes, 0

    def file(self, stream: BinaryIO, where: str, reading: Reading, depth: int) -> None:
        if depth > _DEEPEST:
            raise Unreadable(f"archives lie in it more than {_DEEPEST} deep")
        if reading is Reading.SOURCE:
            self.notes.note(self.notes.code, f"{where}: Python source")
            return
        head = stream.read(512)
        stream.seek(0)
        if reading is Reading.ANY and not head.startswith(_ZIP):  # others' marks may be opcodes of a pickle
            self._guess(stream, where)
            stream.seek(0)
        if reading is Reading.COMPILED or head.startswith(_NATIVE):
            self.notes.note(self.notes.unsafe, f"{where}: compiled code")
        elif head.startswith(_ZIP):
            self._zip(stream, where, depth)
        elif head.startswith(_NPY):
            self._npy(stream, where)
        elif head.startswith(_HDF5):
            self._hdf5(stream, where)
        elif head[257:262] == b"ustar" and reading not in (Reading.PICKLE, Reading.JOBLIB):
            self._tar(stream, where, depth)
        elif (unpack := _unpacker(head)) is not None and reading is not Reading.TEXT:
            self._compressed(stream, where, reading, depth, unpack)
        else:
            self._plain(stream, where, reading, depth)

    def _plain(self, stream: BinaryIO, where: str, reading: Reading, depth: int) -> None:
        if reading in (Reading.PICKLE, Reading.JOBLIB):
            walk(stream, self.notes, where, joblib=reading is Reading.JOBLIB)
        # An archive may have anything before it.
        if _is_zip(stream):
            self._zip(stream, where, depth)

    def _guess(self, stream: IO[bytes], where: str) -> None:
        """Tell a pickle by following it: numbers may begin as one does, and old protocols have no mark.

        What ends in nonsense before it has imported anything does no harm to who would open it, and is data.
        """
        guessed = Notes()
        try:
            walk(stream, guessed, where)
        except Unreadable:
            if guessed.imports or guessed.code:
                raise Unreadable("it begins as a pickle that imports, and does not end as one") from None
            return
        self.notes.imports |= guessed.imports
        self.notes.code |= guessed.code

    def _zip(self, stream: BinaryIO, where: str, depth: int) -> None:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            if len(set(names)) < len(names) or len(names) > _MOST_MEMBERS:
                raise Unreadable("it is an archive with too many members, or with two of one name")
            is_script = any(name.endswith("/constants.pkl") for name in names) and any(
                "/code/" in name for name in names
            )
            for member in members:
                if member.is_dir():
                    continue
                inner = reading_of(member.filename)
                if is_script and "/code/" in member.filename:
                    inner = Reading.TEXT  # TorchScript's own language, which reaches nothing but tensors
                if inner is Reading.ANY and self._is_data(archive, member):
                    continue
                with archive.open(member) as opened, self._spooled(opened) as file:
                    if inner is Reading.TEXT:
                        self._document(file, f"{where}!{member.filename}", names)
                    self.file(file, f"{where}!{member.filename}", inner, depth + 1)

    def _is_data(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
        """Tell whether a member is plain data, such as a tensor's numbers: these are large, and so are not unpacked."""
        with archive.open(member) as opened:
            if _is_marked(opened.read(512)):
                return False
        with archive.open(member) as opened:
            self._guess(opened, f"!{member.filename}")
        return True

    def _document(self, file: BinaryIO, where: str, names: list[str]) -> None:
        """Read the JSON by which Keras and skops say what is to be built."""
        name = where.rpartition("!")[2]
        is_keras = name == "config.json" and "metadata.json" in names
        is_skops = name == "schema.json"
        if is_keras or is_skops:
            content = file.read(_MOST_DOCUMENT + 1)
            if len(content) > _MOST_DOCUMENT:
                raise Unreadable(f"its {name} is too long")
            (configs.keras if is_keras else configs.skops)(json.loads(content), self.notes, where)
            file.seek(0)

    def _tar(self, stream: BinaryIO, where: str, depth: int) -> None:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for count, member in enumerate(archive):
                if count > _MOST_MEMBERS:
                    raise Unreadable("it is an archive with too many members")
                opened = archive.extractfile(member) if member.isfile() else None
                if opened is not None:
                    with self._spooled(opened) as file:
                        self.file(file, f"{where}!{member.name}", reading_of(member.name), depth + 1)

    def _compressed(
        self, stream: BinaryIO, where: str, reading: Reading, depth: int, unpack: Callable[[BinaryIO], Any]
    ) -> None:
        if reading is Reading.PICKLE:
            raise Unreadable(
                "it is compressed, and no loader of pickles unpacks it; name it .joblib if joblib wrote it"
            )
        with contextlib.closing(unpack(stream)) as opened, tempfile.SpooledTemporaryFile(max_size=16 * _CHUNK) as file:
            try:
                self._copy(opened.read1, file)
            except _DAMAGED:
                if reading is Reading.JOBLIB:
                    raise
                # Numbers may begin as something compressed does. Else, what came before the damage would have been run.
                file.seek(0)
                self._guess(file, where)
                return
            file.seek(0)
            inner = reading if reading is Reading.JOBLIB else Reading.ANY
            self.file(cast(BinaryIO, file), where, inner, depth + 1)

    def _npy(self, stream: BinaryIO, where: str) -> None:
        start = stream.read(8)
        width = 2 if start[6:7] == b"\x01" else 4
        length = int.from_bytes(stream.read(width), "little")
        if length > _CHUNK:
            raise Unreadable("its header is too long for an array's")
        header = ast.literal_eval(stream.read(length).decode("latin-1").strip())
        if not _are_numbers(header["descr"]):
            walk(stream, self.notes, where)

    def _hdf5(self, stream: BinaryIO, where: str) -> None:
        # Weights alone are numbers. A whole model's configuration may hold marshalled code, and lie compressed.
        behind = b""
        while chunk := stream.read(_CHUNK):
            if b"model_config" in behind + chunk:
                self.notes.note(self.notes.unsafe, f"{where}: a whole model in HDF5, which may hold marshalled code")
                return
            behind = chunk[-16:]

    @contextlib.contextmanager
    def _spooled(self, opened: IO[bytes]) -> Iterator[BinaryIO]:
        """Give a member's content as a file that can be sought in."""
        with tempfile.SpooledTemporaryFile(max_size=16 * _CHUNK) as file:
            self._copy(opened.read, file)
            file.seek(0)
            yield cast(BinaryIO, file)

    def _copy(self, read: Callable[[int], bytes], file: IO[bytes]) -> None:
        while chunk := read(_CHUNK):
            self.unpacked += len(chunk)
            if self.unpacked > _MOST_UNPACKED:
                raise Unreadable("more comes out of it than any model has")
            file.write(chunk)


class _Zlib:
    """What a zlib stream holds."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._inflate = stream, zlib.decompressobj()

    def close(self) -> None:
        """Leave the stream open, as its owner opened it."""

    def read1(self, count: int) -> bytes:
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._stream.read(_CHUNK)
            if not packed:
                raise EOFError("it ends in the middle of what was compressed")
            if found := self._inflate.decompress(packed, count):
                return found
        return b""


def _are_numbers(layout: Any) -> bool:
    """Tell whether the type that an array's header names holds no objects, which would be pickled."""
    if isinstance(layout, str):
        return re.match(r"^[<>|=]?[?bBiufcmMSUV]\d*(\[\w+\])?$", layout) is not None
    fields = layout if isinstance(layout, list) else [None]
    return all(isinstance(field, tuple) and len(field) in (2, 3) and _are_numbers(field[1]) for field in fields)


def _is_marked(head: bytes) -> bool:
    marks = (_ZIP, _NPY, _HDF5, *_NATIVE, b"\x80")
    return head.startswith(marks) or head[257:262] == b"ustar" or _unpacker(head) is not None


def _unpacker(head: bytes) -> Callable[[BinaryIO], Any] | None:
    if head.startswith(_LZ4):
        return _refuse_lz4
    for mark, unpack in _COMPRESSED:
        if head.startswith(mark):
            return unpack
    return _Zlib if head.startswith(_ZLIB) and _inflates(head) else None


def _inflates(head: bytes) -> bool:
    # Two bytes are a weak mark; a text may begin with them.
    try:
        zlib.decompressobj().decompress(head, 1)
    except zlib.error:
        return False
    return True


def _refuse_lz4(_stream: BinaryIO) -> Any:
    raise Unreadable(
        "it is compressed with LZ4, which cannot be looked into here; save it with zlib, gzip, bz2 or lzma"
    )


def _is_zip(stream: BinaryIO) -> bool:
    stream.seek(0)
    found = zipfile.is_zipfile(stream)
    stream.seek(0)
    return found

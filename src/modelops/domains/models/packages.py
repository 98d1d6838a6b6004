"""A model package: a folder of files, the digest that names it, and the signed statement that vouches for it.

The registry signs a version's statement; every loader checks that signature first, then each file against its digest,
and only then opens a file. Both sides use the functions here, so they cannot disagree about what was signed.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from modelops.contracts import signing
from modelops.contracts.errors import ArtifactCorrupted, InvalidInput, SignatureInvalid
from modelops.contracts.schemas import Digest, Schema
from modelops.domains.models.schemas import ModelSignature, ModelVersion, PackageFile

STATEMENT_TYPE = "application/vnd.modelops.model-version.v1+json"
"""The media type that a platform's signature over a model version covers."""

Reader = Callable[[PackageFile], Iterable[bytes]]
"""Gives a file's content in chunks, for packages that do not lie in a folder."""

_CHUNK = 1024 * 1024


class Statement(Schema):
    """What the platform signs about a model version: which files, read how, are which version of what."""

    name: str
    version: int
    project_id: str
    model_version_id: str
    flavour: str
    digest: Digest
    files: list[PackageFile]
    signature: ModelSignature

    def payload(self) -> bytes:
        """Return the bytes that are signed; the order in which the files are listed does not matter."""
        document = self.model_dump(mode="json")
        document["files"] = _listing(self.files)
        return signing.canonical(document)


def digest_of(files: Sequence[PackageFile]) -> str:
    """Return the digest that names a package: of the canonical list of its files, sorted by path.

    Raises:
        InvalidInput: a path leads out of the package, or two files claim one path.
    """
    check_paths(files)
    return signing.digest(signing.canonical(_listing(files)))


def statement(
    *,
    name: str,
    version: int,
    project_id: str,
    model_version_id: str,
    flavour: str,
    digest: str,
    files: Sequence[PackageFile],
    signature: ModelSignature,
) -> bytes:
    """Return the canonical JSON that the platform signs for a version, as a document of `STATEMENT_TYPE`."""
    return Statement(
        name=name,
        version=version,
        project_id=project_id,
        model_version_id=model_version_id,
        flavour=flavour,
        digest=digest,
        files=list(files),
        signature=signature,
    ).payload()


def statement_of(version: ModelVersion) -> Statement:
    """Return the statement that a version's `platform_signature` is over."""
    return Statement(
        name=version.name,
        version=version.version,
        project_id=version.project_id,
        model_version_id=version.id,
        flavour=version.flavour,
        digest=version.digest,
        files=version.files,
        signature=version.signature,
    )


def verify_package(
    source: Path | Reader, subject: Statement, signature: signing.Signature, trusted: Mapping[str, str]
) -> int:
    """Check a package as a loader must, before anything of it is opened: signature first, then every file.

    Args:
        source: The package's folder, or what reads a file of it.
        trusted: The public keys to believe (key id -> base64url of the raw 32 bytes).

    Returns:
        How many bytes were checked.

    Raises:
        SignatureInvalid: the statement is not signed by a trusted key, or its digest is not that of its files.
        ArtifactCorrupted: a file is missing, is no regular file, or has other bytes; or the folder holds more.
        InvalidInput: a path leads out of the package.
    """
    verify_statement(subject, signature, trusted)
    return verify_files(source, subject.files)


def verify_statement(subject: Statement, signature: signing.Signature, trusted: Mapping[str, str]) -> None:
    """Check the signature over a statement, and that the statement's digest is that of the files it lists."""
    signing.verify(trusted, STATEMENT_TYPE, subject.payload(), signature)
    if digest_of(subject.files) != subject.digest:
        raise SignatureInvalid(f"The package's digest {subject.digest} is not the digest of the files it lists.")


def verify_files(source: Path | Reader, files: Sequence[PackageFile]) -> int:
    """Check every file's size and SHA-256, and a folder for files that are not listed. Returns the bytes checked."""
    check_paths(files)
    if isinstance(source, Path):
        _check_nothing_else(source, files)
    for file in files:
        chunks = _read_inside(source, file) if isinstance(source, Path) else source(file)
        _check_content(file, chunks)
    return sum(file.size for file in files)


def check_paths(files: Sequence[PackageFile]) -> None:
    """Refuse paths that lead out of the package, name a file twice, or use a file as a folder."""
    seen: set[str] = set()
    for file in files:
        parts = file.path.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise InvalidInput(f"The path '{file.path}' leads out of the package or is not in its plain form.")
        if file.path in seen:
            raise InvalidInput(f"The package lists the path '{file.path}' twice.")
        seen.add(file.path)
    for path in seen:
        above = {str(parent) for parent in PurePosixPath(path).parents} & seen
        if above:
            raise InvalidInput(f"The package uses '{above.pop()}' both as a file and as a folder.")


def files_of(folder: Path) -> list[PackageFile]:
    """List the files of a folder as a package, with digests and sizes, sorted by path. Links are refused."""
    return [
        PackageFile(path=path, digest=file_digest(folder / path), size=(folder / path).stat().st_size)
        for path in sorted(_walk(folder))
    ]


def file_digest(path: Path) -> str:
    """Return `sha256:<hex>` of a file's content."""
    with path.open("rb") as opened:
        return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"


def _listing(files: Sequence[PackageFile]) -> list[dict[str, object]]:
    return [file.model_dump(mode="json") for file in sorted(files, key=lambda file: file.path)]


def _check_nothing_else(folder: Path, files: Sequence[PackageFile]) -> None:
    # A flavour opens what it finds, so a file that nobody signed must not lie there.
    extra = set(_walk(folder)) - {file.path for file in files}
    if extra:
        raise ArtifactCorrupted(
            f"The package's folder holds files that it does not list: {', '.join(sorted(extra)[:5])}."
        )


def _walk(folder: Path) -> Iterator[str]:
    for base, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            if (Path(base) / name).is_symlink():
                raise ArtifactCorrupted(f"The package holds a link, '{name}'; packages hold plain files only.")
        yield from ((Path(base) / name).relative_to(folder).as_posix() for name in names)


def _read_inside(folder: Path, file: PackageFile) -> Iterator[bytes]:
    with _open_plain(folder, file.path) as opened:
        while chunk := opened.read(_CHUNK):
            yield chunk


def _open_plain(folder: Path, path: str) -> BinaryIO:
    # Links were refused while walking; O_NOFOLLOW closes the moment between that look and this one.
    try:
        handle = os.open(folder / path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError as wrong:
        raise ArtifactCorrupted(f"The package's file '{path}' cannot be read: {wrong.strerror}.") from wrong
    opened = os.fdopen(handle, "rb")
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        opened.close()
        raise ArtifactCorrupted(f"The package's '{path}' is not a plain file.")
    return opened


def _check_content(file: PackageFile, chunks: Iterable[bytes]) -> None:
    hashed, size = hashlib.sha256(), 0
    for chunk in chunks:
        hashed.update(chunk)
        size += len(chunk)
        if size > file.size:
            break
    found = f"sha256:{hashed.hexdigest()}"
    if size != file.size or found != file.digest:
        raise ArtifactCorrupted(
            f"The package's file '{file.path}' is not what was registered: expected {file.digest} of {file.size} bytes."
        )

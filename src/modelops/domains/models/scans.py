"""The files of a version, scanned before it is accepted. What was found in a content is kept, so it is read once."""

from collections.abc import Iterable

from sqlalchemy import select, tuple_
from sqlalchemy.exc import IntegrityError

from modelops.contracts.ports import BlobStore
from modelops.domains.data import service as data
from modelops.domains.models.flavours.mlmodel import FILE, MlModel, parse_mlmodel
from modelops.domains.models.scanning import SCANNER, FileScan, PackageScan, Reading, readings, scan_file
from modelops.domains.models.schemas import PackageFile, VersionCreate
from modelops.domains.models.tables import FileScanRow
from modelops.kernel.context import Context
from modelops.kernel.scope import Scope

Content = tuple[str, Reading]
"""A digest, and how a file of that content is opened."""

_MOST_BYTES = 4 * 1024 * 1024


def scan_ahead(scope: Scope, body: VersionCreate) -> None:
    """Scan the files of a version that is about to be registered, while no transaction is open; keep what was found."""
    with scope.work(write=False) as ctx:
        ctx.require("models.write")
        data.require_artifacts(ctx, [file.digest for file in body.files])
        blobs = ctx.port(BlobStore)
    scan_contents(scope, blobs, body.files)


def scan_contents(scope: Scope, blobs: BlobStore, files: list[PackageFile]) -> None:
    """Scan the files of one package, or of one part of it, that no scan has seen, and keep what was found."""
    wanted = set(_contents(blobs, files)[0].values())
    with scope.work(write=False) as ctx:
        missing = wanted - _kept(ctx, wanted).keys()
    if not missing:
        return
    found = {content: _scan(blobs, content) for content in missing}
    try:
        with scope.place.work(scope.actor) as ctx:
            _keep(ctx, found)
    except IntegrityError:
        return  # another request scanned one of them at this moment, and found the same


def scan_of(ctx: Context, files: list[PackageFile]) -> PackageScan:
    """Return what the files of a package hold. Those that `scan_ahead` has not seen are read now.

    Raises:
        InvalidInput: the package's `MLmodel` is none.
    """
    blobs = ctx.port(BlobStore)
    wanted, described = _contents(blobs, files)
    kept = _kept(ctx, wanted.values())
    found = {content: _scan(blobs, content) for content in set(wanted.values()) if content not in kept}
    if found:
        _keep(ctx, found)
    return PackageScan({path: {**kept, **found}[content] for path, content in wanted.items()}, described)


def _contents(blobs: BlobStore, files: list[PackageFile]) -> tuple[dict[str, Content], MlModel | None]:
    described = next((_described(blobs, file) for file in files if file.path == FILE), None)
    read = readings(files, described)
    return {file.path: (file.digest, read[file.path]) for file in files}, described


def _described(blobs: BlobStore, file: PackageFile) -> MlModel:
    with blobs.open(file.digest) as opened:
        return parse_mlmodel(opened.read(_MOST_BYTES + 1))


def _kept(ctx: Context, wanted: Iterable[Content]) -> dict[Content, FileScan]:
    keys = [(digest, reading.value) for digest, reading in set(wanted)]
    query = select(FileScanRow).where(
        tuple_(FileScanRow.digest, FileScanRow.reading).in_(keys), FileScanRow.scanner == SCANNER
    )
    rows = ctx.session.scalars(query)
    return {(row.digest, Reading(row.reading)): FileScan.model_validate(row.found) for row in rows}


def _keep(ctx: Context, found: dict[Content, FileScan]) -> None:
    for (digest, reading), scan in found.items():
        ctx.session.add(
            FileScanRow(
                digest=digest,
                reading=reading.value,
                scanner=SCANNER,
                found=scan.model_dump(mode="json"),
                scanned_at=ctx.clock.now(),
            )
        )
    ctx.session.flush()


def _scan(blobs: BlobStore, content: Content) -> FileScan:
    digest, reading = content
    with blobs.open(digest) as opened:
        return scan_file(opened, reading)

"""The verdict on a version's files before it is registered; of a version that is made of others, part by part.

A part that names a registered version must have exactly that one's files, and is believed what was found in them when it
was registered. Any other part is scanned by the rules of its own flavour.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from modelops.contracts.errors import InvalidInput
from modelops.contracts.ports import BlobStore
from modelops.domains.data import service as data
from modelops.domains.models.compositions import (
    COMPOSED,
    DOCUMENT,
    MOST_LAYERS,
    Composition,
    Member,
    files_by_part,
    parse_composition,
)
from modelops.domains.models.finding import version_of_ref
from modelops.domains.models.scanning import judge
from modelops.domains.models.scans import scan_contents, scan_of
from modelops.domains.models.schemas import ModelScan, PackageFile, VersionCreate
from modelops.domains.models.tables import ModelVersionRow, VersionMemberRow
from modelops.kernel.context import Context
from modelops.kernel.scope import Scope

_MOST_BYTES = 4 * 1024 * 1024
_MOST_KEPT = 500


@dataclass(frozen=True)
class Judged:
    """What is kept of a package's scan, whether it runs code of its own, and the registered versions it is made of."""

    scan: ModelScan
    runs_code: bool
    members: list[Member] = field(default_factory=list)


def judged(ctx: Context, body: VersionCreate) -> Judged:
    """Judge the files of a version that is about to be registered, those of its parts by their own flavours.

    Raises:
        ScanRefused: a file holds what nobody allowed, or cannot be judged.
        InvalidInput: an `ensemble.json` does not describe the package.
    """
    return _judge(ctx, body, body.flavour, body.files, 1)


def keep_members(ctx: Context, row: ModelVersionRow, members: Iterable[Member]) -> None:
    """Keep which registered versions a version is made of."""
    for place, member in enumerate(members):
        ctx.session.add(
            VersionMemberRow(
                project_id=ctx.project_id,
                version_id=row.id,
                place=place,
                member_id=member.version_id,
                label=f"{member.name}:{member.version}",
            )
        )


def scan_parts_ahead(scope: Scope, body: VersionCreate) -> None:
    """Scan what parts bring that no registered version has, while no transaction is open."""
    with scope.work(write=False) as ctx:
        ctx.require("models.write")
        data.require_artifacts(ctx, [file.digest for file in body.files])
        groups = _unknown_parts(ctx, body.flavour, body.files, 1)
        blobs = ctx.port(BlobStore)
    for files in groups:
        scan_contents(scope, blobs, files)


def _judge(ctx: Context, body: VersionCreate, flavour: str, files: list[PackageFile], layer: int) -> Judged:
    def verdict(part: list[PackageFile]) -> Judged:
        kept, runs_code = judge(
            scan_of(ctx, part),
            flavour,
            runs_code=body.runs_code,
            allow_unsafe=body.allow_unsafe,
            accepted_by=ctx.actor.id,
            more=ctx.settings.model_imports,
        )
        return Judged(kept, runs_code)

    if flavour not in COMPOSED:
        return verdict(files)
    composition = _described(ctx, flavour, files, layer)
    by_part = files_by_part(files, composition.parts)
    found = [verdict(by_part[""])]
    members = []
    for prefix, member in composition.parts.items():
        row = _registered(ctx, member, by_part[prefix])
        if row is not None:
            members.append(member.model_copy(update={"name": row.name, "version": row.version}))
        if row is not None and row.scan is not None:
            _check_layers(ctx, row.flavour, by_part[prefix], layer + 1)
            found.append(Judged(ModelScan.model_validate(row.scan), row.runs_code))
        else:
            found.append(_judge(ctx, body, member.flavour, by_part[prefix], layer + 1))
    scan = ModelScan(
        imports=sorted({name for one in found for name in one.scan.imports})[:_MOST_KEPT],
        code=sorted({where for one in found for where in one.scan.code})[:_MOST_KEPT],
        unsafe=sorted({what for one in found for what in one.scan.unsafe})[:_MOST_KEPT],
        accepted_by=next((one.scan.accepted_by for one in found if one.scan.accepted_by), None),
    )
    return Judged(scan, any(one.runs_code for one in found), members)


def _described(ctx: Context, flavour: str, files: Sequence[PackageFile], layer: int) -> Composition:
    """Return what a package of a composed flavour says of itself."""
    if layer > MOST_LAYERS:
        raise InvalidInput(
            f"Ensembles and chains lie in one another {layer} deep, and {MOST_LAYERS} are taken.",
            hint="Name the innermost members instead.",
        )
    file = next((file for file in files if file.path == DOCUMENT), None)
    if file is None:
        raise InvalidInput(f"A package of the flavour '{flavour}' has a file '{DOCUMENT}', and this one has none.")
    if file.size > _MOST_BYTES:
        raise InvalidInput(f"The file '{DOCUMENT}' has more than {_MOST_BYTES:,} bytes.")
    composition = parse_composition(b"".join(ctx.port(BlobStore).read(file.digest)))
    if composition.kind != flavour:
        raise InvalidInput(
            f"The file '{DOCUMENT}' describes a model of the kind '{composition.kind}', not '{flavour}'."
        )
    return composition


def _check_layers(ctx: Context, flavour: str, files: list[PackageFile], layer: int) -> None:
    if flavour in COMPOSED:
        composition = _described(ctx, flavour, files, layer)
        by_part = files_by_part(files, composition.parts)
        for prefix, member in composition.parts.items():
            _check_layers(ctx, member.flavour, by_part[prefix], layer + 1)


def _unknown_parts(ctx: Context, flavour: str, files: list[PackageFile], layer: int) -> list[list[PackageFile]]:
    """Return the files that a scan must see, each group as its own package has them."""
    if flavour not in COMPOSED:
        return [files]
    composition = _described(ctx, flavour, files, layer)
    by_part = files_by_part(files, composition.parts)
    groups = [by_part[""]]
    for prefix, member in composition.parts.items():
        row = _registered(ctx, member, by_part[prefix])
        if row is None or row.scan is None:
            groups += _unknown_parts(ctx, member.flavour, by_part[prefix], layer + 1)
    return groups


def _registered(ctx: Context, member: Member, files: Sequence[PackageFile]) -> ModelVersionRow | None:
    """Return the registered version that a part says it is; None where it names none.

    Raises:
        NotFound: there is none such in the project.
        InvalidInput: the part has other files, or another flavour.
    """
    if member.version_id is None:
        return None
    row = version_of_ref(ctx, member.version_id)
    own = {(str(file["path"]), str(file["digest"])) for file in row.files}
    if {(file.path, file.digest) for file in files} != own or member.flavour != row.flavour:
        raise InvalidInput(
            f"A part of the package says that it is {row.name}:{row.version}, and has other files.",
            hint=f"Take that version's files as they are, or leave `version_id` out of '{DOCUMENT}'.",
        )
    return row

"""Versions that are made of other versions: checked and judged part by part, and put together from what is registered.

A part that names a registered version must have exactly that one's files, and is believed what was found in them when it
was registered. Any other part is scanned by the rules of its own flavour.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from modelops.contracts import signing
from modelops.contracts.errors import Conflict, InvalidInput
from modelops.contracts.ports import BlobStore
from modelops.domains.data import service as data
from modelops.domains.models.compositions import (
    CHAIN,
    COMPOSED,
    DOCUMENT,
    ENSEMBLE,
    MOST_LAYERS,
    ChainCreate,
    Composition,
    EnsembleCreate,
    Member,
    agreed_inputs,
    agreed_outputs,
    check_steps,
    check_weights,
    files_by_part,
    parse_composition,
)
from modelops.domains.models.finding import version_of_ref
from modelops.domains.models.rules import COMPILED_RECORD
from modelops.domains.models.scanning import judge
from modelops.domains.models.scans import scan_contents, scan_of
from modelops.domains.models.schemas import (
    CompiledForm,
    ModelScan,
    ModelSignature,
    PackageFile,
    ServingForm,
    VersionCreate,
)
from modelops.domains.models.tables import ModelVersionRow, VersionMemberRow
from modelops.kernel.context import Context
from modelops.kernel.scope import Scope

_SAMPLE, _REFERENCE = "sample.json", "reference.json"
_MOST_BYTES = 4 * 1024 * 1024
_MOST_REFERENCE = 64 * 1024 * 1024


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


@dataclass(frozen=True)
class Composed:
    """A version that is to be registered, and the contents of its own that must be stored before."""

    body: VersionCreate
    contents: dict[str, bytes]


def store_ensemble(scope: Scope, body: EnsembleCreate) -> None:
    """Store the files of an ensemble's own, while no transaction is open."""
    _store(scope, lambda ctx: composed_ensemble(ctx, body))


def store_chain(scope: Scope, body: ChainCreate) -> None:
    """Store the files of a chain's own, while no transaction is open."""
    _store(scope, lambda ctx: composed_chain(ctx, body))


def stored(ctx: Context, made: Composed) -> VersionCreate:
    """Return what is to be registered, once its own files are the project's.

    Raises:
        Conflict: a reference meant another version when the files were stored, a moment ago.
    """
    blobs = ctx.port(BlobStore)
    for digest, content in made.contents.items():
        if blobs.stat(digest) is None:
            raise Conflict("One of the references came to mean another version meanwhile.", hint="Ask again.")
        data.add_artifact(ctx, digest, len(content), "application/json")
    return made.body


def composed_ensemble(ctx: Context, body: EnsembleCreate) -> Composed:
    """Return the version that an ensemble of registered versions is."""
    ctx.require("models.write")
    rows = [_usable(version_of_ref(ctx, ref)) for ref in body.members]
    weights = check_weights(body.weights, len(rows))
    members = [_member(row, f"the member {row.name}:{row.version}", w) for row, w in zip(rows, weights, strict=True)]
    told = [(f"{row.name}:{row.version}", ModelSignature.model_validate(row.signature)) for row in rows]
    signature = ModelSignature(
        inputs=agreed_inputs(told), outputs=agreed_outputs(body.method, [signature.outputs for _, signature in told])
    )
    composition = Composition(kind=ENSEMBLE, method=body.method, members=members)
    return _composed(ctx, body, composition, rows, signature)


def composed_chain(ctx: Context, body: ChainCreate) -> Composed:
    """Return the version that a chain of registered versions is."""
    ctx.require("models.write")
    rows = [_usable(version_of_ref(ctx, ref)) for ref in body.steps]
    members = [_member(row, f"the step {row.name}:{row.version}", 1.0) for row in rows]
    told = [(f"{row.name}:{row.version}", ModelSignature.model_validate(row.signature)) for row in rows]
    check_steps(told, body.pass_on)
    signature = ModelSignature(inputs=told[0][1].inputs, outputs=told[-1][1].outputs)
    return _composed(ctx, body, Composition(kind=CHAIN, pass_on=body.pass_on, members=members), rows, signature)


def _composed(
    ctx: Context,
    body: EnsembleCreate | ChainCreate,
    composition: Composition,
    rows: Sequence[ModelVersionRow],
    signature: ModelSignature,
) -> Composed:
    forms = [ServingForm.model_validate(row.serving).runs if row.serving else CompiledForm.PLAIN for row in rows]
    told = "; ".join(f"{row.name}:{row.version} as {form}" for row, form in zip(rows, forms, strict=True))
    record = ServingForm(runs=CompiledForm.PLAIN, why=f"Each member runs in its own form: {told}."[:2_000])
    own = {
        DOCUMENT: composition.model_dump_json(indent=1).encode(),
        COMPILED_RECORD: record.model_dump_json(indent=1).encode(),
    }
    files = [
        PackageFile(path=f"{prefix}{path}", digest=str(file["digest"]), size=int(file["size"]))
        for prefix, row in zip(composition.parts, rows, strict=True)
        for file in row.files
        for path in [str(file["path"])]
    ]
    first = {str(file["path"]): PackageFile.model_validate(file) for file in rows[0].files}
    if _SAMPLE in first and [one.name for one in signature.inputs] == _names(rows[0]):
        files.append(first[_SAMPLE])
        reference = _inputs_only(ctx, first.get(_REFERENCE))
        own |= {} if reference is None else {_REFERENCE: reference}
    files += [
        PackageFile(path=path, digest=signing.digest(content), size=len(content)) for path, content in own.items()
    ]
    version = VersionCreate(
        name=body.name,
        flavour=composition.kind,
        files=files,
        signature=signature,
        requirements=sorted({line for row in rows for line in row.requirements}),
        description=body.description,
        tags=body.tags,
        stage=body.stage,
    )
    return Composed(version, {signing.digest(content): content for content in own.values()})


def _store(scope: Scope, compose: Callable[[Context], Composed]) -> None:
    with scope.work(write=False) as ctx:
        made, blobs = compose(ctx), ctx.port(BlobStore)
    for digest, content in made.contents.items():
        blobs.put([content], expected=digest)


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
        imports=sorted({name for one in found for name in one.scan.imports}),
        code=sorted({where for one in found for where in one.scan.code}),
        unsafe=sorted({what for one in found for what in one.scan.unsafe}),
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


def _usable(row: ModelVersionRow) -> ModelVersionRow:
    if row.undeployable is not None or not row.files:
        raise InvalidInput(
            f"{row.name}:{row.version} cannot be a member. {row.undeployable or 'It has no files.'}",
            hint="Name a version that could be deployed by itself.",
        )
    return row


def _member(row: ModelVersionRow, label: str, weight: float) -> Member:
    return Member(
        flavour=row.flavour,
        label=label,
        signature=ModelSignature.model_validate(row.signature),
        weight=weight,
        name=row.name,
        version=row.version,
        version_id=row.id,
        digest=row.digest,
    )


def _names(row: ModelVersionRow) -> list[str]:
    return [str(feature["name"]) for feature in row.signature["inputs"]]


def _inputs_only(ctx: Context, file: PackageFile | None) -> bytes | None:
    """Return the profile of a member's training inputs, without that of its own predictions; None where it has none."""
    if file is None or file.size > _MOST_REFERENCE:
        return None
    profile = json.loads(b"".join(ctx.port(BlobStore).read(file.digest)))
    return json.dumps({**profile, "outputs": []}).encode()

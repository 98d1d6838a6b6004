"""Ensembles and chains, put together from versions that are registered."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelops.contracts import signing
from modelops.contracts.errors import Conflict, InvalidInput
from modelops.contracts.ports import BlobStore
from modelops.domains.data import service as data
from modelops.domains.models.compositions import (
    CHAIN,
    DOCUMENT,
    ENSEMBLE,
    ChainCreate,
    Composition,
    EnsembleCreate,
    Member,
    agreed_inputs,
    agreed_outputs,
    check_steps,
    check_weights,
)
from modelops.domains.models.finding import version_of_ref
from modelops.domains.models.rules import COMPILED_RECORD
from modelops.domains.models.schemas import (
    CompiledForm,
    ModelSignature,
    PackageFile,
    ServingForm,
    Stage,
    VersionCreate,
)
from modelops.domains.models.tables import ModelVersionRow
from modelops.kernel.context import Context
from modelops.kernel.scope import Scope

_SAMPLE, _REFERENCE = "sample.json", "reference.json"
_MOST_REFERENCE = 4 * 1024 * 1024


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


def _usable(row: ModelVersionRow) -> ModelVersionRow:
    why = "It is retired." if row.stage == Stage.RETIREMENT else row.undeployable
    if why is not None or not row.files:
        raise InvalidInput(
            f"{row.name}:{row.version} cannot be a member. {why or 'It has no files.'}",
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

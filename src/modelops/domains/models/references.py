"""Versions that only say where a model lies: there are no files to verify, to scan or to deploy.

Programs that log many models register each, so they are written by the driver's own statements. Their events are delivered
with the controller's next round.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from modelops.contracts.errors import NotFound
from modelops.contracts.ids import new_id
from modelops.contracts.signing import canonical
from modelops.domains.experiments.searching import find_origin
from modelops.domains.identity.keys import sign_raw
from modelops.domains.identity.schemas import KeyPurpose
from modelops.domains.models.packages import STATEMENT_TYPE, digest_of
from modelops.domains.models.rules import UNPACKAGED, check_name, check_tag
from modelops.domains.models.schemas import ModelSignature, Stage
from modelops.kernel import audit, outbox
from modelops.kernel.database import Raw
from modelops.kernel.scope import Scope, request_id_of

_NO_FILES = digest_of([])
_NO_INPUTS = ModelSignature(inputs=[]).model_dump(mode="json")
_FIND = "SELECT id FROM models WHERE project_id = ? AND name = ? AND deleted_at IS NULL"


@dataclass(frozen=True, slots=True)
class Reference:
    """A version without files, to be registered.

    Attributes:
        model: The name of a model that there is.
        source: Where the model is said to lie.
        why: Says to people why it cannot be deployed.
        run: The run that is said to have made it; one that is not of this project is kept as a claim.
    """

    model: str
    source: str
    why: str
    run: str | None = None
    run_link: str | None = None
    logged_model_id: str | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReferenceVersion:
    """A version without files, as it was registered: what is told of any version, without what only files have."""

    id: str
    name: str
    version: int
    stage: Stage
    run_id: str | None
    logged_model_id: str | None
    claimed_run: str | None
    source: str
    run_link: str | None
    undeployable: str
    description: str
    tags: Mapping[str, str]
    aliases: list[str]
    created_at: datetime
    created_by: str
    updated_at: datetime


async def register_reference(scope: Scope, new: Reference) -> ReferenceVersion:
    """Register a version without files, and return it when it is committed.

    Raises:
        NotFound: there is no such model in the project.
        PermissionDenied: the caller may not register.
    """
    check_name(new.model)
    for key, value in new.tags.items():
        check_tag(key, value)
    return await scope.write(lambda raw: _register(raw, scope, new), permission="models.write")


def _register(raw: Raw, scope: Scope, new: Reference) -> ReferenceVersion:
    place, actor, project = scope.place, scope.actor, scope.project_id
    found = raw.execute(_FIND if raw.on_sqlite else f"{_FIND} FOR UPDATE", (project, new.model)).fetchone()
    if found is None:
        raise NotFound(f"There is no model '{new.model[:250]}' in this project.")
    model, now = found[0], place.clock.now()
    highest = raw.execute("SELECT max(version) FROM model_versions WHERE model_id = ?", (model,)).fetchone()[0]
    run, job = (find_origin(raw, project, new.run) if new.run else None) or (None, None)
    version = ReferenceVersion(
        id=new_id("mver"),
        name=new.model,
        version=(highest or 0) + 1,
        stage=Stage.DEVELOPMENT,
        run_id=run,
        logged_model_id=new.logged_model_id,
        claimed_run=new.run if run is None else None,
        source=new.source,
        run_link=new.run_link,
        undeployable=new.why,
        description=new.description,
        tags=new.tags,
        aliases=[],
        created_at=now,
        created_by=actor.id,
        updated_at=now,
    )
    signed = sign_raw(raw, place, KeyPurpose.MODELS, STATEMENT_TYPE, _statement(project, version))
    moment = raw.moment(now)
    raw.execute(
        "UPDATE models SET latest_version = ?, updated_at = ?, revision = revision + 1 WHERE id = ?",
        (version.version, moment, model),
    )
    raw.execute(
        "INSERT INTO model_versions (id, project_id, model_id, name, version, flavour, stage, digest, files, size, signature,"
        " platform_signature, run_id, job_id, requirements, metrics, parameters, tags, description, source, run_link,"
        " logged_model_id, claimed_run, undeployable, created_at, created_by, updated_at, revision, runs_code)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, '[]', 0, ?, ?, ?, ?, '[]', '{}', '{}', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?)",
        (
            version.id,
            project,
            model,
            version.name,
            version.version,
            UNPACKAGED,
            version.stage,
            _NO_FILES,
            json.dumps(_NO_INPUTS),
            signed.model_dump_json(),
            run,
            job,
            json.dumps(dict(version.tags)),
            version.description,
            version.source,
            version.run_link,
            version.logged_model_id,
            version.claimed_run,
            version.undeployable,
            moment,
            actor.id,
            moment,
            False,
        ),
    )
    facts = {"model": version.name, "version": version.version, "id": version.id, "stage": version.stage}
    origin = {"digest": _NO_FILES, "run_id": run, "job_id": job, "dataset_version_id": None}
    registered = "modelops.models.version_registered"
    outbox.put(raw, place, actor, registered, model, **facts, **origin, runs_code=False, unsafe=False)
    audit.put(raw, place, actor, scope.operation, scope.request.url.path, request_id_of(scope.request))
    return version


def _statement(project: str, version: ReferenceVersion) -> bytes:
    """Return what `packages.statement_of` says of such a version."""
    return canonical(
        {
            "name": version.name,
            "version": version.version,
            "project_id": project,
            "model_version_id": version.id,
            "flavour": UNPACKAGED,
            "digest": _NO_FILES,
            "files": [],
            "signature": _NO_INPUTS,
        }
    )

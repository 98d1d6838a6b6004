"""Versions that only say where a model lies: there are no files to verify, to scan or to deploy.

Programs that log many models register each, so they are written by the driver's own statements. Their events are delivered
with the controller's next round.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelops.contracts.errors import NotFound
from modelops.contracts.ids import new_id
from modelops.domains.experiments.searching import find_origin
from modelops.domains.identity.keys import sign_raw
from modelops.domains.identity.schemas import KeyPurpose
from modelops.domains.models.packages import STATEMENT_TYPE, Statement, digest_of
from modelops.domains.models.rules import UNPACKAGED, check_name, check_tag
from modelops.domains.models.schemas import ModelSignature, ModelVersion, Stage
from modelops.kernel import audit, outbox
from modelops.kernel.database import Raw
from modelops.kernel.scope import Scope, request_id_of

_NO_FILES = digest_of([])
_NO_INPUTS = ModelSignature(inputs=[])
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


async def register_reference(scope: Scope, new: Reference) -> ModelVersion:
    """Register a version without files, and return it when it is committed.

    Raises:
        NotFound: there is no such model in the project.
        PermissionDenied: the caller may not register.
    """
    check_name(new.model)
    for key, value in new.tags.items():
        check_tag(key, value)
    return await scope.write(lambda raw: _register(raw, scope, new), permission="models.write")


def _register(raw: Raw, scope: Scope, new: Reference) -> ModelVersion:
    place, actor, project = scope.place, scope.actor, scope.project_id
    found = raw.execute(_FIND if raw.on_sqlite else f"{_FIND} FOR UPDATE", (project, new.model)).fetchone()
    if found is None:
        raise NotFound(f"There is no model '{new.model[:250]}' in this project.")
    model, now = found[0], place.clock.now()
    highest = raw.execute("SELECT max(version) FROM model_versions WHERE model_id = ?", (model,)).fetchone()[0]
    origin = find_origin(raw, project, new.run) if new.run else None
    subject = Statement.model_construct(
        name=new.model,
        version=(highest or 0) + 1,
        project_id=project,
        model_version_id=new_id("mver"),
        flavour=UNPACKAGED,
        digest=_NO_FILES,
        files=[],
        signature=_NO_INPUTS,
    )
    version = ModelVersion.model_construct(
        id=subject.model_version_id,
        project_id=project,
        model_id=model,
        name=subject.name,
        version=subject.version,
        flavour=subject.flavour,
        stage=Stage.DEVELOPMENT,
        digest=subject.digest,
        files=subject.files,
        size=0,
        signature=subject.signature,
        platform_signature=sign_raw(raw, place, KeyPurpose.MODELS, STATEMENT_TYPE, subject.payload()),
        run_id=origin[0] if origin else None,
        job_id=origin[1] if origin else None,
        dataset_version_id=None,
        parent_version_id=None,
        code_digest=None,
        requirements=[],
        metrics={},
        parameters={},
        tags=dict(new.tags),
        aliases=[],
        description=new.description,
        source=new.source,
        run_link=new.run_link,
        logged_model_id=new.logged_model_id,
        claimed_run=None if origin else new.run,
        undeployable=new.why,
        created_at=now,
        created_by=actor.id,
        updated_at=now,
        revision=1,
        runs_code=False,
        scan=None,
    )
    raw.execute(
        "UPDATE models SET latest_version = ?, updated_at = ?, revision = revision + 1 WHERE id = ?",
        (version.version, raw.moment(now), model),
    )
    _insert(raw, version)
    _tell(raw, scope, version)
    return version


def _insert(raw: Raw, version: ModelVersion) -> None:
    row: dict[str, Any] = {name: getattr(version, name) for name in ModelVersion.model_fields if name != "aliases"}
    for name in ("files", "requirements", "metrics", "parameters", "tags"):
        row[name] = json.dumps(row[name])
    for name in ("signature", "platform_signature"):
        row[name] = row[name].model_dump_json()
    for name in ("created_at", "updated_at"):
        row[name] = raw.moment(row[name])
    holes = ", ".join("?" * len(row))
    raw.execute(f"INSERT INTO model_versions ({', '.join(row)}) VALUES ({holes})", list(row.values()))  # noqa: S608


def _tell(raw: Raw, scope: Scope, version: ModelVersion) -> None:
    outbox.put(
        raw,
        scope.place,
        scope.actor,
        "modelops.models.version_registered",
        version.model_id,
        model=version.name,
        version=version.version,
        id=version.id,
        stage=version.stage,
        digest=version.digest,
        run_id=version.run_id,
        job_id=version.job_id,
        dataset_version_id=None,
        runs_code=False,
        unsafe=False,
    )
    audit.put(raw, scope.place, scope.actor, scope.operation, scope.request.url.path, request_id_of(scope.request))

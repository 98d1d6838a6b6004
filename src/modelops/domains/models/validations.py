"""Validations kept with a version, and the policy that lets no version into a stage without them.

Checks are computed where the data is, so the platform keeps what it is told and by whom: it makes sure that the version,
the champion and the data are those it knows, signs the record, and counts no record that no longer says what was signed.
"""

import json
import shlex
from typing import Any

from modelops.contracts.errors import InvalidInput, SignatureInvalid
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page
from modelops.contracts.signing import Signature, canonical, verify
from modelops.domains.data import service as data
from modelops.domains.identity import service as identity
from modelops.domains.identity.schemas import KeyPurpose
from modelops.domains.models.fields import VALIDATION_FIELDS
from modelops.domains.models.finding import find_model, version_in_path, version_of_ref
from modelops.domains.models.rules import ValidationRequired, check_rules
from modelops.domains.models.schemas import Stage
from modelops.domains.models.tables import ModelRow, ModelVersionRow, PolicyRow, ValidationRow
from modelops.domains.models.validation.schemas import Policy, PolicySet, StageRule, Validation, ValidationCreate
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

VALIDATION_TYPE = "application/vnd.modelops.validation.v1+json"
"""The media type that the platform's signature over a validation covers."""

_UNSIGNED = frozenset({"created_at", "platform_signature"})


def record_validation(ctx: Context, model: str, version: str, body: ValidationCreate) -> Validation:
    """Keep what checks found of a version, under the name of who says so.

    Raises:
        InvalidInput: it is of another package than the version's, or of other data than the dataset version named.
    """
    ctx.require("models.validate")
    subject = version_in_path(ctx, model, version)
    if body.digest != subject.digest:
        raise InvalidInput(
            f"The package that was checked is not that of {subject.name}:{subject.version}.",
            hint="Validate the version as it is registered: mops models validate.",
        )
    champion = version_of_ref(ctx, body.champion) if body.champion is not None else None
    row = ValidationRow(
        id=new_id("val"),
        project_id=ctx.project_id,
        model_version_id=subject.id,
        model=subject.name,
        version=subject.version,
        digest=subject.digest,
        champion=None if champion is None else f"{champion.name}:{champion.version}",
        champion_version_id=None if champion is None else champion.id,
        champion_digest=None if champion is None else champion.digest,
        dataset_version_id=_dataset(ctx, body),
        data_digest=body.data_digest,
        rows=body.rows,
        target=body.target,
        passed=all(check.passed for check in body.checks),
        checks=f"[{','.join(check.model_dump_json() for check in body.checks)}]",
        comment=body.comment,
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
    )
    row.platform_signature = identity.sign_document(ctx, KeyPurpose.MODELS, VALIDATION_TYPE, _payload(row)).model_dump()
    ctx.session.add(row)
    ctx.session.flush()
    failed = [check.name for check in body.checks if not check.passed]
    facts = {"model": row.model, "version": row.version, "id": row.id, "passed": row.passed, "failed": failed}
    ctx.emit("modelops.models.validation_recorded", subject.model_id, **facts)
    return _validation(row)


def list_validations(ctx: Context, model: str, version: str, page: PageQuery) -> Page[Validation]:
    """List what was found of a version, newest first."""
    ctx.require("models.read")
    subject = version_in_path(ctx, model, version)
    query = ctx.query(ValidationRow).where(ValidationRow.model_version_id == subject.id)
    found = list_rows(ctx, query, ValidationRow.id, VALIDATION_FIELDS, page, order="desc")
    return Page(items=[_validation(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def get_validation(ctx: Context, validation: str) -> Validation:
    """Return a validation."""
    ctx.require("models.read")
    return _validation(ctx.one(ValidationRow, f"validation '{validation[:250]}'", ValidationRow.id == validation))


def validations_of(ctx: Context, version_id: str) -> list[Validation]:
    """Return a version's validations, newest first."""
    query = ctx.query(ValidationRow).where(ValidationRow.model_version_id == version_id)
    return [_validation(row) for row in ctx.session.scalars(query.order_by(ValidationRow.id.desc()))]


def get_policy(ctx: Context, model: str) -> Policy:
    """Return what a model's versions need to enter a stage."""
    ctx.require("models.read")
    row = find_model(ctx, model)
    return _policy(row, ctx.session.get(PolicyRow, row.id))


def set_policy(ctx: Context, model: str, body: PolicySet) -> Policy:
    """Say which checks must have passed on a version before it enters a stage."""
    ctx.require("models.govern")
    check_rules(body.rules)
    row = find_model(ctx, model, lock=True)
    policy = ctx.session.get(PolicyRow, row.id)
    rules = body.model_dump(mode="json")["rules"]
    now, who = ctx.clock.now(), ctx.actor.id
    if policy is None:
        policy = PolicyRow(
            model_id=row.id, project_id=ctx.project_id, rules={}, revision=0, updated_at=now, updated_by=who
        )
        ctx.session.add(policy)
    ctx.check_revision(policy)
    policy.rules, policy.updated_at, policy.updated_by = rules, now, who
    ctx.session.flush()
    ctx.emit("modelops.models.policy_set", row.id, model=row.name, rules=rules)
    return _policy(row, policy)


def require_validations(ctx: Context, version: ModelVersionRow, stage: Stage) -> None:
    """Refuse a version the checks that the policy asks for before this stage, where they have not passed.

    Raises:
        ValidationRequired: names what has not passed, and how to run it.
        SignatureInvalid: a result no longer says what the platform signed.
    """
    policy = ctx.session.get(PolicyRow, version.model_id)
    if policy is None or stage not in policy.rules:
        return
    rule = StageRule.model_validate(policy.rules[stage])
    newest = _newest_results(ctx, version, rule)
    lacking = [f"'{name}' has not been run" for name in rule.checks if name not in newest]
    lacking += [f"'{name}' failed ({newest[name][1]})" for name in rule.checks if not newest.get(name, (True, ""))[0]]
    if not lacking:
        return
    listed = " ".join(f"--check {name}" for name in rule.checks)
    who = " Another than who registered it must store the result." if rule.independent else ""
    raise ValidationRequired(
        f"{version.name}:{version.version} cannot enter {stage}: {'; '.join(lacking)[:1_000]}.",
        hint=f"Run: mops models validate {shlex.quote(version.name)} {version.version} --data DATA --target TARGET "
        f"{listed}{who}",
    )


def _newest_results(ctx: Context, version: ModelVersionRow, rule: StageRule) -> dict[str, tuple[bool, str]]:
    """Return by check whether its newest run on this digest passed, and in which validation that was."""
    query = ctx.query(ValidationRow).where(
        ValidationRow.model_version_id == version.id, ValidationRow.digest == version.digest
    )
    if rule.independent:
        query = query.where(ValidationRow.created_by != version.created_by)
    found: dict[str, tuple[bool, str]] = {}
    for row in ctx.session.scalars(query.order_by(ValidationRow.id.desc())):
        wanted = [check for check in json.loads(row.checks) if check["name"] in rule.checks]
        fresh = {check["name"] for check in wanted} - found.keys()
        if fresh:
            _check_signed(ctx, row)
        for name in fresh:  # a check may have been run several times at once, such as on slices by two columns
            found[name] = all(check["passed"] for check in wanted if check["name"] == name), row.id
        if len(found) == len(set(rule.checks)):
            break
    return found


def _dataset(ctx: Context, body: ValidationCreate) -> str | None:
    if body.dataset_version_id is None:
        return None
    version = data.resolve_dataset_version(ctx, body.dataset_version_id)
    if version.table_digest != body.data_digest or version.rows != body.rows:
        raise InvalidInput(f"The data that was used is not {version.dataset}:{version.version}.")
    return version.id


def _check_signed(ctx: Context, row: ValidationRow) -> None:
    try:
        signature = Signature.model_validate(row.platform_signature)
        verify(identity.list_public_keys(ctx, KeyPurpose.MODELS), VALIDATION_TYPE, _payload(row), signature)
    except (SignatureInvalid, ValueError) as wrong:
        raise SignatureInvalid(
            f"The validation '{row.id}' no longer says what the platform signed.", hint="Run it again."
        ) from wrong


def _payload(row: ValidationRow) -> bytes:
    said: dict[str, Any] = {
        column.key: getattr(row, column.key)
        for column in ValidationRow.__table__.columns
        if column.key not in _UNSIGNED
    }
    return canonical({**said, "created_at": row.created_at.isoformat()})


def _validation(row: ValidationRow) -> Validation:
    own = {name: getattr(row, name) for name in Validation.model_fields}
    return Validation.model_validate({**own, "checks": json.loads(row.checks)})


def _policy(model: ModelRow, row: PolicyRow | None) -> Policy:
    if row is None:
        return Policy(model=model.name, rules={}, updated_at=None, updated_by=None, revision=0)
    rules = {Stage(stage): StageRule.model_validate(rule) for stage, rule in row.rules.items()}
    return Policy(
        model=model.name, rules=rules, updated_at=row.updated_at, updated_by=row.updated_by, revision=row.revision
    )

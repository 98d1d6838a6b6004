"""Model cards (Mitchell et al. 2019) in the form of the Hugging Face Hub: YAML front matter with `model-index`, then Markdown.

What the platform knows fills the card: lineage, metrics, signature, validations, approvals. People write the rest.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from modelops.contracts.errors import NotFound
from modelops.domains.data import service as data
from modelops.domains.models.approvals import approvals_of
from modelops.domains.models.finding import to_version, version_in_path
from modelops.domains.models.lineage import get_lineage
from modelops.domains.models.schemas import Approval, ModelVersion
from modelops.domains.models.tables import CardRow, ModelVersionRow
from modelops.domains.models.validation.schemas import Validation
from modelops.domains.models.validations import validations_of
from modelops.domains.models.views import CardSet, LineageNode, ModelCard, Section
from modelops.domains.models.yaml import to_yaml
from modelops.kernel.context import Context

_LIBRARIES = {"torch": "pytorch", "pytorch": "pytorch", "callable": None}
_CLASSES = ("accuracy", "f1", "auc", "precision", "recall", "log_loss")
_NUMBERS = ("rmse", "mae", "mse", "r2", "mape")
_HEADINGS = {
    Section.INTENDED_USE: "Intended use",
    Section.OUT_OF_SCOPE: "Out of scope",
    Section.LIMITATIONS: "Limitations",
    Section.ETHICS: "Ethical considerations",
    Section.TRAINING_DATA: "Training data",
    Section.TRAINING_PROCEDURE: "Training procedure",
    Section.EVALUATION: "Evaluation",
}
_LAST_HEADINGS = {
    Section.ENVIRONMENTAL_IMPACT: "Environmental impact",
    Section.CITATION: "Citation",
    Section.CONTACT: "Contact",
}


def get_card(ctx: Context, model: str, version: str) -> ModelCard:
    """Return a version's model card, filled with what is known now."""
    ctx.require("models.read")
    return _card(ctx, version_in_path(ctx, model, version))


def set_card(ctx: Context, model: str, version: str, body: CardSet) -> ModelCard:
    """Write on a version's card what only people know."""
    ctx.require("models.write")
    subject = version_in_path(ctx, model, version)
    now, who = ctx.clock.now(), ctx.actor.id
    row = ctx.session.get(CardRow, subject.id, with_for_update=True)
    if row is None:
        row = CardRow(
            model_version_id=subject.id,
            project_id=ctx.project_id,
            model_id=subject.model_id,
            version=subject.version,
            said={},
            revision=0,
            updated_at=now,
            updated_by=who,
        )
        ctx.session.add(row)
    ctx.check_revision(row)
    row.said, row.updated_at, row.updated_by = body.model_dump(mode="json"), now, who
    ctx.session.flush()
    ctx.emit("modelops.models.card_written", subject.model_id, model=subject.name, version=subject.version)
    return _card(ctx, subject)


def _card(ctx: Context, row: ModelVersionRow) -> ModelCard:
    query = ctx.query(CardRow).where(CardRow.model_id == row.model_id, CardRow.version <= row.version)
    written = ctx.session.scalars(query.order_by(CardRow.version.desc()).limit(1)).first()
    said = CardSet.model_validate(written.said) if written is not None else CardSet()
    own = written if written is not None and written.version == row.version else None
    version, validations = to_version(ctx, row), validations_of(ctx, row.id)
    metadata = _metadata(ctx, version, said, validations)
    body = _body(ctx, version, said, validations)
    return ModelCard(
        **said.model_dump(),
        model=version.name,
        version=version.version,
        written_for=None if written is None else written.version,
        metadata=metadata,
        markdown=f"---\n{to_yaml(metadata)}---\n\n{body}",
        updated_at=None if own is None else own.updated_at,
        updated_by=None if own is None else own.updated_by,
        revision=0 if own is None else own.revision,
    )


def _metadata(ctx: Context, version: ModelVersion, said: CardSet, validations: list[Validation]) -> dict[str, Any]:
    """Return the front matter: the keys that the Hub's card data knows, without those of which nothing is known."""
    tested = _tested(validations)
    names = [*version.metrics, *(name for validation in tested for name in _figures(validation))]
    dataset = _dataset_name(ctx, version.dataset_version_id)
    task = said.pipeline_tag or _task(names)
    found = {
        "language": said.language,
        "license": said.license,
        "library_name": _LIBRARIES.get(version.flavour, version.flavour),
        "pipeline_tag": task,
        "tags": list(dict.fromkeys([*said.tags, "modelops"])),
        "datasets": [] if dataset is None else [dataset.partition(":")[0]],
        "metrics": list(dict.fromkeys(names)),
        "base_model": said.base_model,
        "model-index": _index(ctx, version, task or "other", tested),
    }
    return {key: value for key, value in found.items() if value not in (None, [])}


def _index(ctx: Context, version: ModelVersion, task: str, tested: list[Validation]) -> list[dict[str, Any]]:
    results = []
    if version.metrics:
        results.append(_result(task, _dataset_name(ctx, version.dataset_version_id), version.metrics.items()))
    for validation in tested:
        name = _dataset_name(ctx, validation.dataset_version_id) or validation.data_digest
        results.append(_result(task, name, _figures(validation).items()))
    return [{"name": f"{version.name}:{version.version}", "results": results}] if results else []


def _result(task: str, dataset: str | None, metrics: Iterable[tuple[str, float]]) -> dict[str, Any]:
    name = dataset or "not recorded"
    return {
        "task": {"type": task},
        "dataset": {"name": name, "type": name.partition(":")[0] if dataset else "unknown"},
        "metrics": [{"type": key, "value": value, "name": key} for key, value in metrics],
    }


def _tested(validations: list[Validation]) -> list[Validation]:
    """Return the newest validation on each table that has figures of the model's quality."""
    newest: dict[str, Validation] = {}
    for validation in validations:
        if _figures(validation):
            newest.setdefault(validation.data_digest, validation)
    return list(newest.values())


def _figures(validation: Validation) -> dict[str, float]:
    ran = [check for check in validation.checks if check.name == "metrics"]
    return {name: value for check in ran for name, value in check.figures.items() if not name.startswith("champion.")}


def _task(metrics: Sequence[str]) -> str | None:
    words = " ".join(metrics).lower()
    if any(word in words for word in _CLASSES):
        return "tabular-classification"
    return "tabular-regression" if any(word in words for word in _NUMBERS) else None


def _dataset_name(ctx: Context, version_id: str | None) -> str | None:
    if version_id is None:
        return None
    try:
        found = data.resolve_dataset_version(ctx, version_id)
    except NotFound:
        return version_id
    return f"{found.dataset}:{found.version}"


def _body(ctx: Context, version: ModelVersion, said: CardSet, validations: list[Validation]) -> str:
    parts = [f"# {version.name} {version.version}", said.sections.get(Section.DESCRIPTION) or version.description]
    parts += _written(said, _HEADINGS)
    parts += ["## Facts", _table(("", ""), _facts(version))]
    inputs = [(one.name, str(one.type), "yes" if one.required else "may be null") for one in version.signature.inputs]
    parts += ["## Inputs", _table(("feature", "type", "required"), inputs)]
    if version.metrics:
        parts += ["## Metrics", _table(("metric", "value"), [(k, f"{v:.6g}") for k, v in version.metrics.items()])]
    if validations:
        parts += ["## Validations", *map(_validation, validations[:10])]
    approvals = approvals_of(ctx, version.id)
    if approvals:
        parts += [
            "## Approvals",
            _table(("stage", "state", "asked by", "decided by", "comment"), map(_approval, approvals)),
        ]
    lineage = get_lineage(ctx, version.model_id, version.id)
    if lineage.upstream:
        parts += ["## Lineage", "\n".join(_tree(lineage.upstream, 0))]
    parts += _written(said, _LAST_HEADINGS)
    return "\n\n".join(part for part in parts if part) + "\n"


def _written(said: CardSet, headings: dict[Section, str]) -> list[str]:
    found = [(heading, said.sections[section]) for section, heading in headings.items() if said.sections.get(section)]
    return [part for heading, text in found for part in (f"## {heading}", text.strip())]


def _facts(version: ModelVersion) -> list[tuple[str, str]]:
    return [
        ("stage", str(version.stage)),
        ("flavour", version.flavour),
        ("digest", f"`{version.digest}`"),
        ("size", f"{version.size} bytes"),
        ("registered", f"{version.created_at:%Y-%m-%d %H:%M} UTC by {version.created_by}"),
        ("signed by key", f"`{version.platform_signature.key_id}`"),
        ("requirements", ", ".join(version.requirements) or "-"),
    ]


def _validation(validation: Validation) -> str:
    against = f" against {validation.champion}" if validation.champion else ""
    head = f"On {validation.rows} rows{against}, {validation.created_at:%Y-%m-%d} by {validation.created_by}:"
    rows = [(one.name, "passed" if one.passed else "failed", one.reason) for one in validation.checks]
    return f"{head}\n\n{_table(('check', 'result', 'reason'), rows)}"


def _approval(approval: Approval) -> tuple[str, ...]:
    comment = approval.decision_comment or approval.request_comment
    return str(approval.stage), str(approval.state), approval.requested_by, approval.decided_by or "-", comment


def _tree(nodes: Sequence[LineageNode], depth: int) -> list[str]:
    lines = []
    for node in nodes:
        detail = f" ({_cell(node.detail)})" if node.detail else ""
        lines.append(f"{'  ' * depth}- {node.relation} {node.kind} {_cell(node.name)}{detail}")
        lines += _tree(node.children, depth + 1)
    return lines


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())

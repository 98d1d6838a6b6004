"""Versions side by side."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.contracts.schemas import Json
from modelops.domains.data import service as data
from modelops.domains.experiments import service as experiments
from modelops.domains.experiments.schemas import Run
from modelops.domains.models.finding import to_version, version_of_ref
from modelops.domains.models.schemas import Feature, ModelVersion
from modelops.domains.models.validations import validations_of
from modelops.domains.models.views import Compared, VersionComparison
from modelops.kernel.context import Context

_FACTS = ("stage", "flavour", "aliases", "digest", "size", "run_id", "job_id", "parent_version_id", "code_digest")
_ABOUT = ("description", "created_by")
_REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9._-]+)\s*(.*)$")


def compare_versions(ctx: Context, refs: Sequence[str]) -> VersionComparison:
    """Return two or more versions, of one model or of several, side by side.

    Raises:
        InvalidInput: one comes twice.
    """
    ctx.require("models.read")
    found = [to_version(ctx, version_of_ref(ctx, ref)) for ref in refs]
    if len({version.id for version in found}) < len(found):
        raise InvalidInput("One version comes twice.", hint="Name versions that differ.")
    runs = [_run(ctx, version) for version in found]
    return VersionComparison(
        versions=[f"{version.name}:{version.version}" for version in found],
        ids=[version.id for version in found],
        facts=_aligned([_facts(ctx, version) for version in found]),
        metrics=_aligned(
            [{**(run.metrics if run else {}), **one.metrics} for one, run in zip(found, runs, strict=True)]
        ),
        parameters=_aligned(
            [{**(run.parameters if run else {}), **one.parameters} for one, run in zip(found, runs, strict=True)]
        ),
        inputs=_aligned([_columns(version.signature.inputs) for version in found]),
        outputs=_aligned([_columns(version.signature.outputs) for version in found]),
        requirements=_aligned([_packages(version.requirements) for version in found]),
        checks=_aligned([_checks(ctx, version) for version in found]),
    )


def _run(ctx: Context, version: ModelVersion) -> Run | None:
    try:
        return experiments.find_run(ctx, version.run_id) if version.run_id is not None else None
    except NotFound:
        return None


def _facts(ctx: Context, version: ModelVersion) -> dict[str, Any]:
    found: dict[str, Any] = {name: getattr(version, name) for name in _FACTS}
    found["data"] = _data(ctx, version)
    found |= {name: getattr(version, name) for name in _ABOUT}
    found |= {f"tags.{name}": value for name, value in version.tags.items()}
    return {name: value for name, value in found.items() if value not in (None, "", [])}


def _data(ctx: Context, version: ModelVersion) -> str | None:
    if version.dataset_version_id is None:
        return None
    try:
        found = data.resolve_dataset_version(ctx, version.dataset_version_id)
    except NotFound:
        return version.dataset_version_id
    return f"{found.dataset}:{found.version}"


def _columns(features: Iterable[Feature]) -> dict[str, str]:
    return {one.name: str(one.type) if one.required else f"{one.type} or null" for one in features}


def _packages(requirements: Iterable[str]) -> dict[str, str]:
    """Return versions by package; what reads as neither stands for itself."""
    read = [(line, _REQUIREMENT.match(line)) for line in requirements]
    return {match[1] if match else line: match[2].removeprefix("==") if match else "" for line, match in read}


def _checks(ctx: Context, version: ModelVersion) -> dict[str, str]:
    newest: dict[str, str] = {}
    for validation in reversed(validations_of(ctx, version.id)):
        ran = {check.name for check in validation.checks}
        failed = {check.name for check in validation.checks if not check.passed}
        newest |= {name: "failed" if name in failed else "passed" for name in ran}
    return newest


def _aligned(facts: Sequence[Mapping[str, Any]]) -> list[Compared]:
    names = dict.fromkeys(name for one in facts for name in one)
    rows = [(name, [_json(one.get(name)) for one in facts]) for name in names]
    return [Compared(name=name, values=values, same=all(v == values[0] for v in values)) for name, values in rows]


def _json(value: Any) -> Json:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value

"""The platform's resources as MLflow's clients read them."""

from collections.abc import Iterable
from typing import Any

from modelops.domains.mlflow.experiments import Pair
from modelops.domains.mlflow.protocol import milliseconds, pairs
from modelops.domains.mlflow.rules import stage_name
from modelops.domains.models.references import ReferenceVersion
from modelops.domains.models.schemas import Model, ModelVersion

VERSION_ROOT = "mlflow-artifacts:/versions/"
"""Under which a version's own files lie in the artifact proxy's tree: immutable, whatever happens to where they came from."""


def tags_of(entries: Iterable[Pair]) -> dict[str, str]:
    """Return a list of `key` and `value` as a mapping; the last word on a key counts."""
    return {entry.key: entry.value for entry in entries}


def version_view(version: ModelVersion | ReferenceVersion) -> dict[str, Any]:
    """Return a model version."""
    return {
        "name": version.name,
        "version": str(version.version),
        "creation_timestamp": milliseconds(version.created_at),
        "last_updated_timestamp": milliseconds(version.updated_at or version.created_at),
        "user_id": version.created_by,
        "current_stage": stage_name(version.stage),
        "description": version.description,
        "source": version.source or f"{VERSION_ROOT}{version.id}",
        "run_id": version.run_id or version.claimed_run or "",
        "status": "READY",
        "status_message": version.undeployable or "",
        "tags": pairs(version.tags),
        "run_link": version.run_link or "",
        "aliases": version.aliases,
        "model_id": version.logged_model_id or "",
    }


def model_view(model: Model, versions: Iterable[ModelVersion]) -> dict[str, Any]:
    """Return a registered model with the newest version of each of MLflow's stages.

    Args:
        versions: The newest of each of the platform's stages, of any models, by number.
    """
    newest = newest_by_name(version for version in versions if version.model_id == model.id)
    return {
        "name": model.name,
        "creation_timestamp": milliseconds(model.created_at),
        "last_updated_timestamp": milliseconds(model.updated_at or model.created_at),
        "user_id": model.created_by,
        "description": model.description,
        "latest_versions": [version_view(version) for version in newest.values()],
        "tags": pairs(model.tags),
        "aliases": [{"alias": alias, "version": str(version)} for alias, version in model.aliases.items()],
    }


def newest_by_name(versions: Iterable[ModelVersion]) -> dict[str, ModelVersion]:
    """Return the newest version of each of MLflow's stages, of one model's."""
    newest: dict[str, ModelVersion] = {}
    for version in versions:
        name = stage_name(version.stage)
        if name not in newest or newest[name].version < version.version:
            newest[name] = version
    return newest

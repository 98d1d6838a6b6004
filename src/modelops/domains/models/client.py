"""The client of the registry."""

from collections.abc import Mapping
from typing import Any

from modelops.contracts.rest import Group
from modelops.contracts.schemas import Page
from modelops.domains.models.schemas import (
    AliasSet,
    Approval,
    ApprovalCreate,
    ApprovalDecision,
    Model,
    ModelCreate,
    ModelMetrics,
    ModelUpdate,
    ModelVersion,
    Stage,
    StageChange,
    StageRecord,
    Verification,
    VersionCreate,
)


class Models(Group):
    """Models, versions, stages, aliases and approvals. Listings take `limit`, `cursor`, `filter` and `order_by`.

    To register a model object, `ModelRegistry.register_model` is more convenient.
    """

    def create_model(self, name: str, *, description: str = "", tags: Mapping[str, str] | None = None) -> Model:
        """Make a model, still without versions."""
        return self._post(Model, "/models", ModelCreate(name=name, description=description, tags=dict(tags or {})))

    def list_models(self, **page: Any) -> Page[Model]:
        """List the project's models."""
        return self._list(Model, "/models", **page)

    def get_model(self, model: str) -> Model:
        """Return a model, by name or id."""
        return self._get(Model, f"/models/{model}")

    def update_model(
        self,
        model: str,
        *,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        revision: int | None = None,
    ) -> Model:
        """Change a model; with `revision`, only while it is still at that one."""
        body = ModelUpdate(description=description, tags=None if tags is None else dict(tags))
        return self._patch(Model, f"/models/{model}", body, revision)

    def register_version(self, body: VersionCreate) -> ModelVersion:
        """Register a version from files that were uploaded before; the model is made if it is new."""
        return self._post(ModelVersion, "/models/register", body)

    def list_versions(self, model: str, **page: Any) -> Page[ModelVersion]:
        """List a model's versions, newest first."""
        return self._list(ModelVersion, f"/models/{model}/versions", **page)

    def get_version(self, model: str, version: int | str = "latest") -> ModelVersion:
        """Return a version by number, `latest` or `@alias`."""
        return self._get(ModelVersion, f"/models/{model}/versions/{version}")

    def verify_version(self, model: str, version: int | str = "latest") -> Verification:
        """Check a version's signature, and its stored files against their digests."""
        return self._post(Verification, f"/models/{model}/versions/{version}/verify")

    def set_stage(
        self, model: str, stage: Stage | str, *, version: int | None = None, comment: str = ""
    ) -> ModelVersion:
        """Move a version (the latest, where none is named) to a stage."""
        body = StageChange(stage=Stage(stage), version=version, comment=comment)
        return self._post(ModelVersion, f"/models/{model}/stage", body)

    def list_stage_history(self, model: str, **page: Any) -> Page[StageRecord]:
        """List the moves of a model's versions, newest first."""
        return self._list(StageRecord, f"/models/{model}/stage-history", **page)

    def set_alias(self, model: str, alias: str, version: int) -> Model:
        """Point an alias at a version."""
        return self._put(Model, f"/models/{model}/aliases/{alias}", AliasSet(version=version))

    def delete_alias(self, model: str, alias: str) -> None:
        """Take an alias away."""
        self._delete(f"/models/{model}/aliases/{alias}")

    def list_metrics(self, **page: Any) -> Page[ModelMetrics]:
        """List the metrics that versions were registered with, newest first."""
        return self._list(ModelMetrics, "/models/metrics", **page)

    def request_approval(
        self,
        model: str,
        version: int | str = "latest",
        *,
        stage: Stage | str = Stage.PRODUCTION,
        comment: str = "",
    ) -> Approval:
        """Ask for a version to be approved for a stage."""
        body = ApprovalCreate(stage=Stage(stage), comment=comment)
        return self._post(Approval, f"/models/{model}/versions/{version}/approvals", body)

    def list_approvals(self, **page: Any) -> Page[Approval]:
        """List requests for approval, newest first."""
        return self._list(Approval, "/approvals", **page)

    def decide_approval(self, approval: str, *, approve: bool, comment: str = "") -> Approval:
        """Approve or reject a request; who asked cannot."""
        body = ApprovalDecision(approve=approve, comment=comment)
        return self._post(Approval, f"/approvals/{approval}/decision", body)

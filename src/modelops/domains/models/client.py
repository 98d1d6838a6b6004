"""The client of the registry."""

from collections.abc import Mapping
from typing import Any

from modelops.contracts.rest import Group
from modelops.contracts.schemas import Page
from modelops.domains.models.rules import (
    AliasRefused,
    ApprovalRefused,
    ApprovalRequired,
    ScanRefused,
    StageTransitionRefused,
)
from modelops.domains.models.schemas import (
    AliasSet,
    Approval,
    ApprovalCreate,
    ApprovalDecision,
    BundleCheck,
    BundleVerification,
    Model,
    ModelCreate,
    ModelMetrics,
    ModelUpdate,
    ModelVersion,
    SignedBundle,
    Stage,
    StageChange,
    StageRecord,
    Verification,
    VersionCreate,
)

# The errors too, so that a client far away can raise them.
__all__ = ["AliasRefused", "ApprovalRefused", "ApprovalRequired", "Models", "ScanRefused", "StageTransitionRefused"]


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
        """Register a version from files that were uploaded before; the model is made if it is new.

        Raises:
            ScanRefused: the files import or bring what nobody allowed, or cannot be judged.
        """
        return self._post(ModelVersion, "/models/register", body)

    def list_versions(self, model: str, **page: Any) -> Page[ModelVersion]:
        """List a model's versions, newest first."""
        return self._list(ModelVersion, f"/models/{model}/versions", **page)

    def get_version(self, model: str, version: int | str = "latest") -> ModelVersion:
        """Return a version by number, `latest`, `@alias` or id (then `-` may stand for the model)."""
        return self._get(ModelVersion, f"/models/{model}/versions/{version}")

    def verify_version(self, model: str, version: int | str = "latest") -> Verification:
        """Check a version's signature, and its stored files against their digests."""
        return self._post(Verification, f"/models/{model}/versions/{version}/verify")

    def sign_version(self, model: str, version: int | str = "latest") -> SignedBundle:
        """Have the platform sign a version's files in the OpenSSF model-signing format."""
        return self._post(SignedBundle, f"/models/{model}/versions/{version}/sign")

    def verify_bundle(
        self, model: str, version: int | str, *, bundle: Mapping[str, Any], public_key: str
    ) -> BundleVerification:
        """Check whether somebody's signature in the OpenSSF model-signing format is over exactly a version's files.

        Raises:
            SignatureInvalid: it is not the key's, or over other files.
        """
        body = BundleCheck(bundle=dict(bundle), public_key=public_key)
        return self._post(BundleVerification, f"/models/{model}/versions/{version}/verify-bundle", body)

    def set_stage(
        self,
        model: str,
        stage: Stage | str,
        *,
        version: int | None = None,
        comment: str = "",
        revision: int | None = None,
    ) -> ModelVersion:
        """Move a version (the latest, where none is named) to a stage; with `revision`, only while it is still at that.

        Raises:
            StageTransitionRefused: the stage cannot be reached from where the version is.
            ApprovalRequired: the stage needs an approval that is not there.
            SignatureInvalid: the approval or the version was changed behind the platform's back.
        """
        body = StageChange(stage=Stage(stage), version=version, comment=comment)
        return self._post(ModelVersion, f"/models/{model}/stage", body, headers=_if_match(revision))

    def list_stage_history(self, model: str, **page: Any) -> Page[StageRecord]:
        """List the moves of a model's versions, newest first."""
        return self._list(StageRecord, f"/models/{model}/stage-history", **page)

    def set_alias(self, model: str, alias: str, version: int, *, revision: int | None = None) -> Model:
        """Point an alias at a version; with `revision`, only while the model is still at that one.

        Raises:
            AliasRefused: the version is retired, or the alias is not for it.
        """
        body = AliasSet(version=version)
        return self._put(Model, f"/models/{model}/aliases/{alias}", body, headers=_if_match(revision))

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
        """Approve or reject a request; who asked cannot.

        Raises:
            ApprovalRefused: it was decided before.
            PermissionDenied: the caller asked for it, or may not approve.
        """
        body = ApprovalDecision(approve=approve, comment=comment)
        return self._post(Approval, f"/approvals/{approval}/decision", body)


def _if_match(revision: int | None) -> dict[str, str]:
    return {} if revision is None else {"If-Match": f'"{revision}"'}

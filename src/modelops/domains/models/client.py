"""The client of the registry."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from modelops.contracts.rest import Group
from modelops.contracts.schemas import Page
from modelops.domains.models.compositions import ChainCreate, EnsembleCreate, Method, PassOn
from modelops.domains.models.rules import (
    AliasRefused,
    ApprovalRefused,
    ApprovalRequired,
    DeletionRefused,
    ScanRefused,
    StageTransitionRefused,
    ValidationRequired,
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
    ModelRename,
    ModelUpdate,
    ModelVersion,
    SignedBundle,
    Stage,
    StageChange,
    StageRecord,
    Verification,
    VersionCreate,
    VersionUpdate,
)
from modelops.domains.models.validation.schemas import Policy, PolicySet, StageRule, Validation, ValidationCreate
from modelops.domains.models.views import CardSet, Lineage, ModelCard, VersionComparison

# The errors too, so that a client far away can raise them.
__all__ = [
    "AliasRefused",
    "ApprovalRefused",
    "ApprovalRequired",
    "DeletionRefused",
    "Models",
    "ScanRefused",
    "StageTransitionRefused",
    "ValidationRequired",
]


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
        return self._get(Model, f"/models/{_part(model)}")

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
        return self._patch(Model, f"/models/{_part(model)}", body, revision)

    def register_version(self, body: VersionCreate) -> ModelVersion:
        """Register a version from files that were uploaded before; the model is made if it is new.

        Raises:
            ScanRefused: the files import or bring what nobody allowed, or cannot be judged.
        """
        return self._post(ModelVersion, "/models/register", body)

    def register_ensemble(
        self,
        name: str,
        members: Sequence[str],
        *,
        method: Method | str = Method.AVERAGE,
        weights: Sequence[float] | None = None,
        **facts: Any,
    ) -> ModelVersion:
        """Register an ensemble of registered versions: `name`, `name:3`, `name@alias`. Nothing is up- or downloaded.

        Args:
            name: The ensemble's name.
            members: Versions that take the same features.
            method: `average` or `vote`. A stack is fitted: `modelops.ModelEnsemble`.
            weights: One a member; all alike where left out.
            facts: `description`, `tags` and `stage`.
        """
        given = None if weights is None else list(weights)
        body = EnsembleCreate.model_validate(
            {"name": name, "members": list(members), "method": method, "weights": given, **facts}
        )
        return self._post(ModelVersion, "/models/register/ensemble", body)

    def register_chain(
        self, name: str, steps: Sequence[str], *, pass_on: PassOn | str = PassOn.PREDICTIONS, **facts: Any
    ) -> ModelVersion:
        """Register a chain of registered versions; what one predicts is what the next takes. Nothing is up- or downloaded.

        Args:
            name: The chain's name.
            steps: Versions, in their order.
            pass_on: What a step that has probabilities gives to the next: `predictions` or `probabilities`.
            facts: `description`, `tags` and `stage`.
        """
        body = ChainCreate.model_validate({"name": name, "steps": list(steps), "pass_on": pass_on, **facts})
        return self._post(ModelVersion, "/models/register/chain", body)

    def rename_model(self, model: str, name: str, *, revision: int | None = None) -> Model:
        """Give a model another name; its versions are signed anew under it."""
        body = ModelRename(name=name)
        return self._post(Model, f"/models/{_part(model)}/rename", body, headers=_if_match(revision))

    def delete_model(self, model: str) -> None:
        """Delete a model and its versions; its name is free again.

        Raises:
            DeletionRefused: one of them is in Production.
        """
        self._delete(f"/models/{_part(model)}")

    def list_versions(self, model: str, **page: Any) -> Page[ModelVersion]:
        """List a model's versions, newest first."""
        return self._list(ModelVersion, f"/models/{_part(model)}/versions", **page)

    def get_version(self, model: str, version: int | str = "latest") -> ModelVersion:
        """Return a version by number, `latest`, `@alias` or id (then `-` may stand for the model)."""
        return self._get(ModelVersion, f"/models/{_part(model)}/versions/{version}")

    def update_version(
        self,
        model: str,
        version: int | str = "latest",
        *,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        revision: int | None = None,
    ) -> ModelVersion:
        """Change a version's description or tags; with `revision`, only while it is still at that one."""
        body = VersionUpdate(description=description, tags=None if tags is None else dict(tags))
        return self._patch(ModelVersion, f"/models/{_part(model)}/versions/{version}", body, revision)

    def delete_version(self, model: str, version: int | str) -> None:
        """Delete a version; its number is not given again, and what serves it goes on.

        Raises:
            DeletionRefused: it is in Production.
        """
        self._delete(f"/models/{_part(model)}/versions/{version}")

    def verify_version(self, model: str, version: int | str = "latest") -> Verification:
        """Check a version's signature, and its stored files against their digests."""
        return self._post(Verification, f"/models/{_part(model)}/versions/{version}/verify")

    def sign_version(self, model: str, version: int | str = "latest") -> SignedBundle:
        """Have the platform sign a version's files in the OpenSSF model-signing format."""
        return self._post(SignedBundle, f"/models/{_part(model)}/versions/{version}/sign")

    def verify_bundle(
        self, model: str, version: int | str, *, bundle: Mapping[str, Any], public_key: str
    ) -> BundleVerification:
        """Check whether somebody's signature in the OpenSSF model-signing format is over exactly a version's files.

        Raises:
            SignatureInvalid: it is not the key's, or over other files.
        """
        body = BundleCheck(bundle=dict(bundle), public_key=public_key)
        return self._post(BundleVerification, f"/models/{_part(model)}/versions/{version}/verify-bundle", body)

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
            ValidationRequired: the model's policy asks for checks that have not passed on this version.
            SignatureInvalid: the approval, a validation or the version was changed behind the platform's back.
        """
        body = StageChange(stage=Stage(stage), version=version, comment=comment)
        return self._post(ModelVersion, f"/models/{_part(model)}/stage", body, headers=_if_match(revision))

    def list_stage_history(self, model: str, **page: Any) -> Page[StageRecord]:
        """List the moves of a model's versions, newest first."""
        return self._list(StageRecord, f"/models/{_part(model)}/stage-history", **page)

    def set_alias(self, model: str, alias: str, version: int, *, revision: int | None = None) -> Model:
        """Point an alias at a version; with `revision`, only while the model is still at that one.

        Raises:
            AliasRefused: the version is retired, or the alias is not for it.
        """
        body = AliasSet(version=version)
        return self._put(Model, f"/models/{_part(model)}/aliases/{_part(alias)}", body, headers=_if_match(revision))

    def delete_alias(self, model: str, alias: str) -> None:
        """Take an alias away."""
        self._delete(f"/models/{_part(model)}/aliases/{_part(alias)}")

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
        return self._post(Approval, f"/models/{_part(model)}/versions/{version}/approvals", body)

    def record_validation(self, model: str, version: int | str, body: ValidationCreate) -> Validation:
        """Keep what checks found of a version; `ModelValidation` runs them and does it."""
        return self._post(Validation, f"/models/{_part(model)}/versions/{version}/validations", body)

    def list_validations(self, model: str, version: int | str = "latest", **page: Any) -> Page[Validation]:
        """List what was found of a version, newest first."""
        return self._list(Validation, f"/models/{_part(model)}/versions/{version}/validations", **page)

    def get_validation(self, validation: str) -> Validation:
        """Return a validation."""
        return self._get(Validation, f"/validations/{validation}")

    def get_policy(self, model: str) -> Policy:
        """Return what a model's versions need to enter a stage."""
        return self._get(Policy, f"/models/{_part(model)}/policy")

    def set_policy(
        self, model: str, rules: Mapping[Any, StageRule | Sequence[str]], *, revision: int | None = None
    ) -> Policy:
        """Say which checks must have passed on a version before it enters a stage: `{"Production": ["metrics"]}`."""
        made = {
            Stage(stage): rule if isinstance(rule, StageRule) else StageRule(checks=list(rule))
            for stage, rule in rules.items()
        }
        return self._put(Policy, f"/models/{_part(model)}/policy", PolicySet(rules=made), headers=_if_match(revision))

    def get_card(self, model: str, version: int | str = "latest") -> ModelCard:
        """Return a version's model card, filled with what is known now; `markdown` is the file."""
        return self._get(ModelCard, f"/models/{_part(model)}/versions/{version}/card")

    def set_card(
        self, model: str, version: int | str, body: CardSet | None = None, *, revision: int | None = None, **said: Any
    ) -> ModelCard:
        """Write on a version's card what only people know: `sections`, `license`, `tags`, …, or all of it as `body`."""
        written = body if body is not None else CardSet(**said)
        path = f"/models/{_part(model)}/versions/{version}/card"
        return self._put(ModelCard, path, written, headers=_if_match(revision))

    def get_lineage(self, model: str, version: int | str = "latest") -> Lineage:
        """Return where a version comes from and what came of it."""
        return self._get(Lineage, f"/models/{_part(model)}/versions/{version}/lineage")

    def compare_versions(self, *versions: str) -> VersionComparison:
        """Return versions (`name:3`, `name@alias`, `mver_…`) side by side."""
        return self._get(VersionComparison, "/model-comparisons", version=list(versions))

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


def _part(name: str) -> str:
    """Return a name as a part of a path."""
    return quote(name, safe="")


def _if_match(revision: int | None) -> dict[str, str]:
    return {} if revision is None else {"If-Match": f'"{revision}"'}

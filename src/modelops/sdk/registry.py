"""Registering, loading and promoting models from Python: `ModelRegistry`."""

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.contracts.ids import id_pattern
from modelops.contracts.schemas import jsonable
from modelops.contracts.signing import digest
from modelops.domains.models.exporting import export_version
from modelops.domains.models.loading import load_version
from modelops.domains.models.rules import ANY_MODEL, is_version_id, parse_ref
from modelops.domains.models.schemas import Approval, ModelVersion, PackageFile, Stage, VersionCreate
from modelops.sdk.client import Client
from modelops.sdk.packaging import write_package

if TYPE_CHECKING:
    from modelops.domains.models.flavours import Predictor

T = TypeVar("T")

_RUN_ID = re.compile(id_pattern("run"))


class ModelRegistry:
    """The registry of a platform. Close it, or use it as a context manager, where it opened its own connection.

    Args:
        backend: A client, a platform's address, or None for the one of the settings (in this process, where none is named).
        project: The project, where `backend` is no client.
    """

    def __init__(self, backend: Client | str | None = None, *, project: str | None = None) -> None:
        self.client = backend if isinstance(backend, Client) else Client(backend, project=project)
        self._owned = not isinstance(backend, Client)

    def register_model(
        self,
        name: str,
        model: Any,
        experiment_id: str | None = None,
        stage: Stage | str = Stage.DEVELOPMENT,
        *,
        sample: Any = None,
        outputs: Any = None,
        feature_names: Sequence[str] | None = None,
        metrics: Mapping[str, float] | None = None,
        parameters: Mapping[str, Any] | None = None,
        dataset_version_id: str | None = None,
        parent: str | None = None,
        code: bytes | str | None = None,
        tags: Mapping[str, str] | None = None,
        description: str = "",
        runs_code: bool = False,
        allow_unsafe: bool = False,
        compile: bool = True,  # noqa: A002 - what people look for
    ) -> ModelVersion:
        """Save a model, upload it, and register it as the next version of `name`, signed by the platform.

        Args:
            name: The model's name; the model is made if it is new.
            model: A model of a library that an installed flavour is for (scikit-learn, XGBoost, LightGBM, PyOD, ONNX,
                PyTorch, Keras), a `ModelEnsemble` or `ModelChain`, the `Path` of an MLflow model folder, or any callable
                that takes rows.
            experiment_id: The id of the run that made it; or an experiment, by name or id, whose newest run did.
            stage: Development or Registration.
            sample: Inputs it was trained on, shape (rows, features): a frame, an array, an Arrow table or records. The
                signature, the reference for drift and the background for explanations are made from them. Without them,
                every feature is taken for a number, and the version can be neither explained nor watched for drift.
            outputs: What it predicts on `sample`, shape (rows,); predicted here where they are not given.
            feature_names: The names of an array's columns.
            metrics: How good it is.
            parameters: What it was trained with.
            dataset_version_id: The data it was trained on: an id, or `name:3`.
            parent: The version that it was made from, such as by further training: `name:3`, `name@alias`, or an id.
            code: The training code, for its digest.
            tags: Labels.
            description: What it is for.
            runs_code: Take the Python code that a model folder brings. Code of an object in memory is taken anyway.
            allow_unsafe: Take what the registry's scan of the files refuses; needs the permission `models.unsafe`.
            compile: Look for a faster form of the model, to serve it in. What came of it stands in the version's `serving`.

        Raises:
            ScanRefused: the saved files import what models have no need of, or cannot be judged.
            InvalidInput: no flavour can save the model, the sample is no table, or the model fails on it.
            NotFound: the run, experiment or dataset version is none of the project's.
        """
        run = None if experiment_id is None else self._run_of(experiment_id)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            package = write_package(
                place, model, sample=sample, outputs=outputs, feature_names=feature_names, compiled=compile
            )
            held = {file.digest for version in getattr(model, "versions", ()) for file in version.files}
            self._upload(place, [file for file in package.files if file.digest not in held])
        body = VersionCreate(
            name=name,
            flavour=package.flavour,
            files=package.files,
            signature=package.signature,
            run_id=run,
            dataset_version_id=dataset_version_id,
            parent_version_id=parent,
            code_digest=None if code is None else digest(code.encode() if isinstance(code, str) else code),
            requirements=package.requirements,
            metrics={key: float(value) for key, value in (metrics or {}).items()},
            parameters=jsonable(dict(parameters or {})),
            tags=dict(tags or {}),
            description=description,
            stage=Stage(stage),
            # The object was in this process's memory, with its code; files from elsewhere are not vouched for.
            runs_code=runs_code or not isinstance(model, Path),
            allow_unsafe=allow_unsafe,
        )
        return self.client.models.register_version(body)

    def get_model(
        self,
        name: str,
        *,
        stage: Stage | str | None = None,
        version: int | None = None,
        alias: str | None = None,
    ) -> ModelVersion:
        """Return a version of a model: the one named, the one an alias points at, the newest in a stage, or the newest.

        Raises:
            NotFound: there is none.
            InvalidInput: more than one of `stage`, `version` and `alias` is given.
        """
        if sum(choice is not None for choice in (stage, version, alias)) > 1:
            raise InvalidInput("Give one of `stage`, `version` and `alias`, not several.")
        if stage is not None:
            return self._newest_in(name, Stage(stage))
        if alias is not None:
            return self.client.models.get_version(name, f"@{alias}")
        return self.client.models.get_version(name, "latest" if version is None else version)

    def find_version(self, ref: str) -> ModelVersion:
        """Return what `name`, `name:3`, `name@alias` or `mver_…` names."""
        if is_version_id(ref):
            return self.client.models.get_version(ANY_MODEL, ref)
        name, number, alias = parse_ref(ref)
        return self.get_model(name, version=number, alias=alias)

    def load_model(self, ref: str) -> "Predictor":
        """Download a version (`name`, `name:3`, `name@alias`, `mver_…`), verify its signature and files, and load it.

        Raises:
            SignatureInvalid: the platform did not sign it so; nothing was opened.
            ArtifactCorrupted: a file is not what was signed; nothing was opened.
        """
        return load_version(self.client.rest, self.find_version(ref))

    def download_model(self, ref: str, folder: Path) -> ModelVersion:
        """Download a version's files into an empty folder, with their OpenSSF signature in `model.sig`.

        The signature is checked with OpenSSF's own tool by `model_signing verify key`, and the key that
        `client.models.sign_version` gives.
        """
        found = self.find_version(ref)
        return export_version(self.client.models, self.client.data, found.name, found.version, folder)

    def request_approval(self, name: str, version: int | None = None, *, comment: str = "") -> Approval:
        """Ask for a version (the latest, where none is named) to be approved for Production."""
        return self.client.models.request_approval(name, version or "latest", comment=comment)

    def approve(self, approval_id: str, *, comment: str = "") -> Approval:
        """Approve what somebody else asked for."""
        return self.client.models.decide_approval(approval_id, approve=True, comment=comment)

    def promote_model(
        self, name: str, stage: Stage | str = Stage.PRODUCTION, *, version: int | None = None, comment: str = ""
    ) -> ModelVersion:
        """Move a version (the latest, where none is named) to a stage.

        Raises:
            ApprovalRequired: the stage needs an approval that is not there.
            ValidationRequired: the model's policy asks for checks that have not passed on this version.
            StageTransitionRefused: the stage cannot be reached from where the version is.
        """
        return self.client.models.set_stage(name, Stage(stage), version=version, comment=comment)

    def close(self) -> None:
        """Close the connection, if the registry opened it."""
        if self._owned:
            self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run_of(self, experiment_id: str) -> str:
        if _RUN_ID.match(experiment_id):
            return experiment_id
        runs = self.client.experiments.list_runs(experiment_id, limit=1).items
        if not runs:
            raise NotFound(
                f"The experiment '{experiment_id}' has no runs yet.", hint="Name the run that made the model."
            )
        return runs[0].id

    def _newest_in(self, name: str, stage: Stage) -> ModelVersion:
        found = self.client.models.list_versions(name, filter=f'stage = "{stage}"', limit=1).items
        if not found:
            raise NotFound(
                f"The model '{name}' has no version in {stage}.", hint=f"See: mops models list-versions {name}"
            )
        return found[0]

    def _upload(self, folder: Path, files: list[PackageFile]) -> None:
        for file in files:
            self.client.data.upload_artifact(folder / file.path, digest=file.digest)


def register_model(name: str, model: Any, *, backend: Client | str | None = None, **facts: Any) -> ModelVersion:
    """Register a model with the registry of the settings. Takes what `ModelRegistry.register_model` takes."""
    return _with_registry(backend, lambda registry: registry.register_model(name, model, **facts))


def promote_model(
    name: str, stage: Stage | str = Stage.PRODUCTION, *, backend: Client | str | None = None, **facts: Any
) -> ModelVersion:
    """Move a version with the registry of the settings. Takes what `ModelRegistry.promote_model` takes."""
    return _with_registry(backend, lambda registry: registry.promote_model(name, stage, **facts))


def _with_registry(backend: Client | str | None, act: Callable[[ModelRegistry], T]) -> T:
    with ModelRegistry(backend) as registry:
        return act(registry)

"""Registering, loading and promoting models from Python: `ModelRegistry`."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import jsonable
from modelops.contracts.signing import digest
from modelops.domains.models.flavours import flavour, flavour_for
from modelops.domains.models.packages import files_of, statement_of, verify_package, verify_statement
from modelops.domains.models.schemas import Approval, ModelVersion, PackageFile, Stage, VersionCreate
from modelops.sdk.client import Client

if TYPE_CHECKING:
    from modelops.domains.models.flavours import Predictor

SAMPLE_ROWS = 100


class ModelRegistry:
    """The registry of a platform.

    Args:
        backend: A client, a platform's address, or None for the one of the settings (in this process, where none is named).
        project: The project, where `backend` is no client.
    """

    def __init__(self, backend: Client | str | None = None, *, project: str | None = None) -> None:
        self.client = backend if isinstance(backend, Client) else Client(backend, project=project)

    def register_model(
        self,
        name: str,
        model: Any,
        experiment_id: str | None = None,
        stage: Stage | str = Stage.DEVELOPMENT,
        *,
        sample: Any,
        outputs: Any = None,
        feature_names: list[str] | None = None,
        metrics: Mapping[str, float] | None = None,
        parameters: Mapping[str, Any] | None = None,
        dataset_version_id: str | None = None,
        code: bytes | None = None,
        tags: Mapping[str, str] | None = None,
        description: str = "",
    ) -> ModelVersion:
        """Save a model, upload it, and register it as the next version of `name`, signed by the platform.

        Args:
            name: The model's name; the model is made if it is new.
            model: A scikit-learn estimator or pipeline, or any callable that takes rows.
            experiment_id: The id of the run that made it.
            stage: Development or Registration.
            sample: Inputs it was trained on, shape (rows, features): a frame, an array, an Arrow table or records. The
                signature, the reference for drift and the background for explanations are made from them.
            outputs: What it predicts on `sample`, shape (rows,); predicted here where they are not given.
            feature_names: The names of an array's columns.
            metrics: How good it is.
            parameters: What it was trained with.
            dataset_version_id: The data it was trained on.
            code: The training code, for its digest.
            tags: Labels.
            description: What it is for.

        Raises:
            InvalidInput: no flavour can save the model, or the sample is no table.
        """
        if len(sample) == 0:
            raise InvalidInput("The sample has no rows.", hint="Give some rows that the model was trained on.")
        kind = flavour_for(model)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            kind.save(model, place)
            given = outputs if outputs is not None else _predict(kind.load(place), sample)
            signature = _write_facts(place, sample, given, feature_names)
            files = self._upload(place, files_of(place))
        body = VersionCreate(
            name=name,
            flavour=kind.name,
            files=files,
            signature=signature,
            run_id=experiment_id,
            dataset_version_id=dataset_version_id,
            code_digest=digest(code) if code is not None else None,
            requirements=kind.requirements(model),
            metrics={key: float(value) for key, value in (metrics or {}).items()},
            parameters=jsonable(dict(parameters or {})),
            tags=dict(tags or {}),
            description=description,
            stage=Stage(stage),
        )
        return self.client.models.register_version(body)

    def get_model(self, name: str, *, version: int | None = None, alias: str | None = None) -> ModelVersion:
        """Return a version of a model: the one named, the one an alias points at, or the latest."""
        return self.client.models.get_version(name, f"@{alias}" if alias else version or "latest")

    def load_model(self, ref: str) -> "Predictor":
        """Download a version (`name`, `name:3`, `name@alias`), verify its signature and files, and load it.

        Raises:
            SignatureInvalid: the platform did not sign it so; nothing was opened.
            ArtifactCorrupted: a file is not what was signed; nothing was opened.
        """
        from modelops.domains.models.rules import parse_ref

        name, number, alias = parse_ref(ref)
        version = self.get_model(name, version=number, alias=alias)
        keys = {
            key.id: key.public_key for key in self.client.identity.list_signing_keys().items if key.purpose == "models"
        }
        verify_statement(statement_of(version), version.platform_signature, keys)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            for file in version.files:
                (place / file.path).parent.mkdir(parents=True, exist_ok=True)
                self.client.data.download_artifact(file.digest, place / file.path)
            verify_package(place, statement_of(version), version.platform_signature, keys)
            return flavour(version.flavour).load(place)

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
            StageTransitionRefused: the stage cannot be reached from where the version is.
        """
        return self.client.models.set_stage(name, Stage(stage), version=version, comment=comment)

    def _upload(self, folder: Path, files: list[PackageFile]) -> list[PackageFile]:
        for file in files:
            self.client.data.upload_artifact(folder / file.path, digest=file.digest)
        return files


def register_model(name: str, model: Any, *, backend: Client | str | None = None, **facts: Any) -> ModelVersion:
    """Register a model with the registry of the settings. Takes what `ModelRegistry.register_model` takes."""
    return _with_registry(backend, lambda registry: registry.register_model(name, model, **facts))


def promote_model(
    name: str, stage: Stage | str = Stage.PRODUCTION, *, backend: Client | str | None = None, **facts: Any
) -> ModelVersion:
    """Move a version with the registry of the settings. Takes what `ModelRegistry.promote_model` takes."""
    return _with_registry(backend, lambda registry: registry.promote_model(name, stage, **facts))


def _with_registry(backend: Client | str | None, act: Callable[[ModelRegistry], ModelVersion]) -> ModelVersion:
    if isinstance(backend, Client):
        return act(ModelRegistry(backend))
    with Client(backend) as client:
        return act(ModelRegistry(client))


def _predict(predictor: "Predictor", sample: Any) -> Any:
    from modelops.domains.models.signatures import infer_signature

    names = [feature.name for feature in infer_signature(sample).inputs]
    return predictor.predict(_rows(sample, names) if not predictor.wants_columns else sample)


def _write_facts(folder: Path, sample: Any, outputs: Any, feature_names: list[str] | None) -> Any:
    """Write what is known of the inputs beside the model, and return its signature."""
    import json

    from modelops.domains.models.signatures import infer_signature
    from modelops.domains.monitoring.sketches import build_reference

    signature = infer_signature(sample, outputs, feature_names)
    names = [feature.name for feature in signature.inputs]
    rows = _records(sample, names)
    step = max(1, len(rows) // SAMPLE_ROWS)
    background = {"columns": names, "rows": rows[::step][:SAMPLE_ROWS]}
    (folder / "sample.json").write_text(json.dumps(jsonable(background), allow_nan=False), encoding="utf-8")
    reference = build_reference(_rows(sample, names), outputs, input_names=names)
    (folder / "reference.json").write_text(reference.model_dump_json(), encoding="utf-8")
    return signature


def _rows(sample: Any, names: list[str]) -> Any:
    """Return a sample as a float array where it is numeric, else as an array of objects; shape (rows, features)."""
    import numpy as np

    table = np.array(
        [[None if cell is None else cell for cell in row] for row in _records(sample, names)], dtype=object
    )
    try:
        return table.astype(np.float64)
    except (TypeError, ValueError):
        return table


def _records(sample: Any, names: list[str]) -> list[list[Any]]:
    """Return a sample as lists of JSON values in the order of `names`; NaN is null."""
    if hasattr(sample, "to_pylist"):
        return [[_cell(row[name]) for name in names] for row in sample.to_pylist()]
    if hasattr(sample, "to_dict") and hasattr(sample, "columns"):
        return [[_cell(row[name]) for name in names] for row in sample.to_dict("records")]
    if hasattr(sample, "tolist"):
        return [[_cell(cell) for cell in row] for row in sample.tolist()]
    return [
        [_cell(row[name]) for name in names] if isinstance(row, Mapping) else [_cell(c) for c in row] for row in sample
    ]


def _cell(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and value != value else value

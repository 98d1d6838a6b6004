"""MLflow's model folder: its file `MLmodel`, read and written without MLflow.

`MLmodel` is a YAML document that names, for each flavour, how to load the folder's files, and what the model takes and
gives. The format is described at https://mlflow.org/docs/latest/ml/model/ ; the columns' types are those of
`mlflow.types.DataType`.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.schemas import Feature, FeatureType, ModelSignature, ModelVersion

FILE = "MLmodel"
PYFUNC = "python_function"
LOADER = "modelops.domains.models.flavours.pyfunc"
"""The module by which MLflow's `python_function` loads a package of one of this platform's own flavours."""

_MOST_BYTES = 4 * 1024 * 1024
_NUMBER, _INTEGER = FeatureType.NUMBER, FeatureType.INTEGER
_FROM_COLUMN = {
    "boolean": FeatureType.BOOLEAN,
    "integer": _INTEGER,
    "long": _INTEGER,
    "float": _NUMBER,
    "double": _NUMBER,
    "string": FeatureType.STRING,
    "datetime": FeatureType.STRING,
}
_TO_COLUMN = {
    FeatureType.BOOLEAN: "boolean",
    _INTEGER: "long",
    _NUMBER: "double",
    FeatureType.STRING: "string",
}
_DTYPE = re.compile(r"^(?P<kind>float|u?int|bool|str|object|<U|<M8)")
_FROM_DTYPE = {"float": _NUMBER, "int": _INTEGER, "uint": _INTEGER, "bool": FeatureType.BOOLEAN}
_KNOWN = ("flavors", "signature", "run_id", "model_uuid", "model_id", "mlflow_version", "utc_time_created")


@dataclass(frozen=True)
class MlModel:
    """What a file `MLmodel` says.

    Attributes:
        flavors: The flavours by name, each with its own facts; `python_function` among them, mostly.
        inputs: The columns or tensors it takes, as MLflow describes them; None where it does not say.
        outputs: The same for what it gives.
        params: Parameters that a call may carry, as MLflow describes them.
        run_id: The run that logged it.
        model_uuid: Its own id, 32 hex digits.
        model_id: The logged model's id, `m-…`.
        mlflow_version: What wrote it.
        utc_time_created: When, as a text.
        rest: Whatever else stands in the document, kept as it is.
    """

    flavors: dict[str, dict[str, Any]]
    inputs: list[dict[str, Any]] | None = None
    outputs: list[dict[str, Any]] | None = None
    params: list[dict[str, Any]] | None = None
    run_id: str | None = None
    model_uuid: str | None = None
    model_id: str | None = None
    mlflow_version: str | None = None
    utc_time_created: str | None = None
    rest: dict[str, Any] = field(default_factory=dict)

    @property
    def signature(self) -> ModelSignature | None:
        """Return the signature in this platform's terms; None where it is missing or describes no table of columns."""
        inputs = None if self.inputs is None else _features(self.inputs, "x")
        if not inputs:
            return None
        return ModelSignature(inputs=inputs, outputs=_output_features(self.outputs or []))


def read_mlmodel(folder: Path) -> MlModel:
    """Read the `MLmodel` of a model folder. Raises as `parse_mlmodel`, and where there is none."""
    path = folder / FILE
    if not path.is_file():
        raise InvalidInput(f"There is no file {FILE}, so this is no MLflow model.")
    with path.open("rb") as opened:
        return parse_mlmodel(opened.read(_MOST_BYTES + 1))


def parse_mlmodel(content: bytes) -> MlModel:
    """Read the content of a file `MLmodel`.

    Raises:
        InvalidInput: it is no YAML, or does not say what such a file must.
    """
    document = _yaml(content)
    flavors = document.get("flavors")
    if not isinstance(flavors, dict) or not all(isinstance(facts, dict) for facts in flavors.values()):
        raise InvalidInput(f"The file {FILE} names no flavours.")
    signature = document.get("signature") or {}
    if not isinstance(signature, dict):
        raise InvalidInput(f"The signature in {FILE} is no mapping.")
    return MlModel(
        flavors={str(name): facts for name, facts in flavors.items()},
        inputs=_described(signature.get("inputs"), "inputs"),
        outputs=_described(signature.get("outputs"), "outputs"),
        params=_described(signature.get("params"), "params"),
        **{name: _text(document.get(name)) for name in _KNOWN[2:]},
        rest={str(name): value for name, value in document.items() if name not in _KNOWN},
    )


def write_mlmodel(folder: Path, model: MlModel) -> Path:
    """Write the file `MLmodel` into a model folder, and return its path."""
    path = folder / FILE
    path.write_bytes(format_mlmodel(model))
    return path


def format_mlmodel(model: MlModel) -> bytes:
    """Return the content of the file `MLmodel`, in UTF-8."""
    import yaml

    document: dict[str, Any] = {**model.rest, "flavors": model.flavors}
    document |= {name: getattr(model, name) for name in _KNOWN[2:] if getattr(model, name) is not None}
    if model.inputs is not None or model.outputs is not None:
        parts = {"inputs": model.inputs, "outputs": model.outputs, "params": model.params}
        document["signature"] = {name: None if part is None else json.dumps(part) for name, part in parts.items()}
    text: str = yaml.safe_dump(document, sort_keys=True, allow_unicode=True)
    return text.encode()


def to_columns(features: Sequence[Feature]) -> list[dict[str, Any]]:
    """Return columns as MLflow describes them."""
    return [
        {"type": _TO_COLUMN[feature.type], "name": feature.name, "required": feature.required} for feature in features
    ]


def describe_version(version: ModelVersion) -> MlModel:
    """Return the `MLmodel` by which MLflow's clients load a version of one of this platform's own flavours.

    All of them are offered as `python_function`, whose loader needs this package beside MLflow; those that MLflow lays out
    alike also by their own name.
    """
    loader: dict[str, Any] = {"loader_module": LOADER, "data": ".", "flavour": version.flavour}
    flavors = {PYFUNC: loader}
    versions = dict(line.split("==", 1) for line in version.requirements if "==" in line)
    native = _NATIVE.get(version.flavour)
    if native is not None:
        version_key, package, facts = native
        flavors[version.flavour] = {**facts, version_key: versions.get(package), "code": None}
    return MlModel(
        flavors=flavors,
        inputs=to_columns(version.signature.inputs),
        outputs=to_columns(version.signature.outputs) or None,
        run_id=version.run_id,
        model_uuid=version.digest.removeprefix("sha256:")[:32],
        utc_time_created=version.created_at.strftime("%Y-%m-%d %H:%M:%S.%f"),
    )


_NATIVE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sklearn": (
        "sklearn_version",
        "scikit-learn",
        {"pickled_model": "model.pkl", "serialization_format": "cloudpickle", "skops_trusted_types": None},
    ),
    "onnx": ("onnx_version", "onnx", {"data": "model.onnx", "providers": ["CPUExecutionProvider"]}),
}


def _yaml(content: bytes) -> dict[str, Any]:
    import yaml

    if len(content) > _MOST_BYTES:
        raise InvalidInput(f"The file {FILE} has more than {_MOST_BYTES:,} bytes.")
    try:
        document = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as wrong:
        raise InvalidInput(f"The file {FILE} is no YAML: {str(wrong)[:200]}.") from wrong
    if not isinstance(document, dict):
        raise InvalidInput(f"The file {FILE} holds no mapping.")
    return document


def _described(text: Any, part: str) -> list[dict[str, Any]] | None:
    if text is None:
        return None
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError) as wrong:
        raise InvalidInput(f"The signature's {part} in {FILE} are no JSON: {wrong}.") from wrong
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InvalidInput(f"The signature's {part} in {FILE} are no list of columns.")
    return found


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _features(described: list[dict[str, Any]], prefix: str) -> list[Feature] | None:
    """Return columns as features; None where one of them is no column of numbers, texts or booleans."""
    if len(described) == 1 and described[0].get("type") == "tensor" and described[0].get("name") is None:
        return _tensor_features(described[0], prefix)
    found = [_feature(column, f"{prefix}{index}") for index, column in enumerate(described)]
    features = [feature for feature in found if feature is not None]
    return features if len(features) == len(found) else None


def _feature(column: dict[str, Any], name: str) -> Feature | None:
    known = str(column.get("name") or name)
    required = bool(column.get("required", not column.get("optional", False)))
    if column.get("type") == "tensor":
        dtype, shape = _tensor(column)
        kind = dtype if len(shape) == 1 else None
    else:
        kind = _FROM_COLUMN.get(str(column.get("type")))
    return None if kind is None or len(known) > 250 else Feature(name=known, type=kind, required=required)


def _tensor_features(described: dict[str, Any], prefix: str) -> list[Feature] | None:
    kind, shape = _tensor(described)
    width = shape[1] if len(shape) == 2 else None
    if kind is None or not isinstance(width, int) or not 1 <= width <= 10_000:
        return None
    return [Feature(name=f"{prefix}{index}", type=kind) for index in range(width)]


def _tensor(described: dict[str, Any]) -> tuple[FeatureType | None, list[Any]]:
    spec = described.get("tensor-spec")
    spec = spec if isinstance(spec, dict) else {}
    found, shape = _DTYPE.match(str(spec.get("dtype"))), spec.get("shape")
    kind = _FROM_DTYPE.get(found["kind"], FeatureType.STRING) if found else None
    return kind, shape if isinstance(shape, list) else []


def _output_features(described: list[dict[str, Any]]) -> list[Feature]:
    """Return what is known of the outputs; nothing where they are no columns."""
    if len(described) == 1 and described[0].get("name") is None:
        kind, shape = _tensor(described[0]) if described[0].get("type") == "tensor" else (None, [])
        if len(shape) == 1 and kind is not None:
            return [Feature(name="prediction", type=kind)]
        if described[0].get("type") != "tensor":
            single = _feature(described[0], "prediction")
            return [] if single is None else [single]
    return _features(described, "prediction_") or []

"""What the protocol tells of a server and its model."""

from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from modelops.domains.models.flavours import Predictor
from modelops.domains.models.schemas import FeatureType
from modelops.domains.serving.schemas import VariantDocument
from modelops.runtime.serving.openinference.inputs import MATRIX, takes_matrix
from modelops.runtime.serving.openinference.outputs import PREDICTIONS, PROBABILITIES

_DATATYPES = {
    FeatureType.NUMBER: "FP64",
    FeatureType.INTEGER: "INT64",
    FeatureType.BOOLEAN: "BOOL",
    FeatureType.STRING: "BYTES",
}


def server_metadata() -> dict[str, Any]:
    """Return the answer to `GET /v2`."""
    return {"name": "modelops", "version": version("modelops"), "extensions": ["binary_tensor_data"]}


def model_metadata(variant: VariantDocument, versions: list[int], predictor: Predictor) -> dict[str, Any]:
    """Return the answer to `GET /v2/models/{model}`; `versions` are those of the model that can be asked."""
    features = variant.signature.inputs
    if takes_matrix(variant.signature):
        inputs = [{"name": MATRIX, "datatype": "FP64", "shape": [-1, len(features)]}]
    else:
        inputs = [{"name": one.name, "datatype": _DATATYPES[one.type], "shape": [-1]} for one in features]
    told = variant.signature.outputs
    outputs: list[dict[str, Any]] = [
        {"name": PREDICTIONS, "datatype": _DATATYPES[told[0].type] if len(told) == 1 else "FP64", "shape": [-1]}
    ]
    if predictor.classes is not None:
        outputs.append({"name": PROBABILITIES, "datatype": "FP64", "shape": [-1, len(predictor.classes)]})
    return {
        "name": variant.model,
        "versions": [str(version) for version in versions],
        "platform": f"modelops_{variant.flavour}",
        "inputs": inputs,
        "outputs": outputs,
    }


def model_paths(variant: VariantDocument) -> tuple[str, str]:
    """Return the paths of the model, without and with its version, as they stand in a request's first line."""
    path = f"/v2/models/{quote(variant.model, safe='')}"
    return path, f"{path}/versions/{variant.version}"

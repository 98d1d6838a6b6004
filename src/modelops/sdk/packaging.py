"""From a model object to the folder of files that is registered: the model, and what is known of its inputs.

Beside the model's own files lie `sample.json`, up to 100 rows of training inputs (the background of explanations), and
`reference.json`, the profile of all of them (what drift is measured against). Runtimes check both against the signature
when they load a package, so a sample that does not fit is refused here, where its owner can still mend it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.compositions import COMPOSED
from modelops.domains.models.flavours import KnowsInputs, TracesRows, flavour_for
from modelops.domains.models.packages import files_of
from modelops.domains.models.schemas import Feature, ModelSignature, PackageFile

if TYPE_CHECKING:
    from modelops.domains.models.flavours import Flavour
    from modelops.sdk.samples import Sample

SAMPLE, REFERENCE = "sample.json", "reference.json"
SAMPLE_ROWS = 100

_COMPILED = ("lightgbm", "mlflow", "sklearn", "xgboost")


@dataclass(frozen=True)
class Package:
    """A folder that is ready to be uploaded and registered."""

    flavour: str
    files: list[PackageFile]
    signature: ModelSignature
    requirements: list[str]


def write_package(
    folder: Path,
    model: Any,
    *,
    sample: Any = None,
    outputs: Any = None,
    feature_names: Sequence[str] | None = None,
    compiled: bool | None = None,
) -> Package:
    """Save a model, and what is known of its inputs, into an empty folder.

    Args:
        folder: Where; it exists and is empty.
        model: An object that an installed flavour knows.
        sample: Inputs it was trained on, shape (rows, features): a frame, an Arrow table, an array or records. Without
            it, every feature is taken for a number, and the package holds neither sample nor reference.
        outputs: What it predicts on `sample`, shape (rows,) or (rows, outputs); predicted here where they are not given.
        feature_names: The names of the inputs, where `sample` has none, or other ones.
        compiled: Whether to compile it for serving; None leaves that to the runtime that loads it.

    Raises:
        InvalidInput: no flavour can save the model, the sample is no table or does not fit, or the model fails on it.
    """
    kind = flavour_for(model)
    known = kind.signature(model) if isinstance(kind, KnowsInputs) else None
    names = _names(model, sample, feature_names, known)
    _save(kind, model, folder, sample, names)
    if sample is not None:
        signature = _describe(folder, kind, model, sample, outputs, names)
    else:
        signature = known if known is not None and feature_names is None else _signature_without_sample(model, names)
    if compiled is not None:
        _compile(folder, kind, signature, may=compiled, opened=sample is not None or not isinstance(model, Path))
    return Package(
        flavour=kind.name, files=files_of(folder), signature=signature, requirements=kind.requirements(model)
    )


def _save(kind: "Flavour", model: Any, folder: Path, sample: Any, names: list[str] | None) -> None:
    if sample is None or not isinstance(kind, TracesRows):
        kind.save(model, folder)
        return
    from modelops.sdk.samples import Sample

    kind.save_with_rows(model, folder, Sample(sample, names).for_predictor(wants_columns=False))


def _compile(folder: Path, kind: "Flavour", signature: ModelSignature, *, may: bool, opened: bool) -> None:
    """Write the form in which the model is served. Files from elsewhere that nobody had to open yet stay closed."""
    from modelops.domains.models.compiling import write_compiled, write_plain

    if not may:
        write_plain(folder, "It was registered with compile=False.")
        return
    if kind.name in COMPOSED:
        write_plain(folder, "Each member runs in its own form, which its part of the package names.")
        return
    if kind.name not in _COMPILED:
        write_plain(folder, f"There is no faster form for models of the flavour '{kind.name}'.")
        return
    if not opened:
        return
    background = folder / SAMPLE
    rows = json.loads(background.read_bytes())["rows"] if background.is_file() else None
    try:
        predictor = kind.load(folder)
    except Exception as wrong:
        write_plain(folder, f"The saved model could not be loaded to compile it: {type(wrong).__name__}.")
        return
    write_compiled(folder, predictor, signature, rows)


def _names(model: Any, sample: Any, given: Sequence[str] | None, known: ModelSignature | None) -> list[str] | None:
    """Return the names of the inputs: as given, or those the model was fitted with where the sample has none."""
    from modelops.sdk.samples import has_names

    if given is not None:
        return [str(name) for name in given]
    if has_names(sample):
        return None
    return _fitted_names(model) or (None if known is None else [feature.name for feature in known.inputs])


def _fitted_names(model: Any) -> list[str] | None:
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def _signature_without_sample(model: Any, names: list[str] | None) -> ModelSignature:
    count = getattr(model, "n_features_in_", None)
    if names is None and isinstance(count, int):
        names = [f"x{index}" for index in range(count)]
    if not names:
        raise InvalidInput(
            "What the model takes cannot be told from the model alone.",
            hint="Give `sample`, some rows that it was trained on, or `feature_names` where all of them are numbers.",
        )
    _check_names(model, names)
    return ModelSignature(inputs=[Feature(name=name) for name in names])


def _describe(
    folder: Path, kind: "Flavour", model: Any, sample: Any, outputs: Any, names: list[str] | None
) -> ModelSignature:
    """Write what is known of the inputs beside the model, and return its signature."""
    from modelops.domains.monitoring.sketches import build_reference
    from modelops.sdk.samples import Sample, one_column, output_features, plain_outputs

    inputs = Sample(sample, names)
    _check_names(model, inputs.names)
    said = plain_outputs(outputs) if outputs is not None else _predict(folder, kind, inputs)
    if len(said) != inputs.rows:
        raise InvalidInput(f"The sample has {inputs.rows} rows, and there are {len(said)} outputs.")
    signature = ModelSignature(inputs=inputs.features, outputs=output_features(said))
    background = {"columns": inputs.names, "rows": _background(signature, inputs)}
    reference = build_reference(inputs.for_reference(), one_column(said), input_names=inputs.names)
    (folder / SAMPLE).write_text(json.dumps(background, allow_nan=False), encoding="utf-8")
    (folder / REFERENCE).write_text(reference.model_dump_json(), encoding="utf-8")
    return signature


def _check_names(model: Any, names: list[str]) -> None:
    """Refuse names in another number or order than the model was fitted with: it would be silently wrong."""
    fitted, count = _fitted_names(model), getattr(model, "n_features_in_", None)
    if isinstance(count, int) and count != len(names):
        raise InvalidInput(f"The model was fitted on {count} features, and there are {len(names)}: {names[:5]}….")
    if fitted is not None and fitted != names and set(fitted) == set(names):
        raise InvalidInput(
            f"The model was fitted on {fitted[:5]}…, and the sample has {names[:5]}…, in another order.",
            hint="Give the sample with its columns in the order that the model was fitted with.",
        )


def _predict(folder: Path, kind: "Flavour", inputs: "Sample") -> Any:
    """Return what the saved model says on the sample, which also shows that it can be loaded again."""
    from modelops.sdk.samples import plain_outputs

    try:
        predictor = kind.load(folder)
        return plain_outputs(predictor.predict(inputs.for_predictor(predictor.wants_columns)))
    except InvalidInput:
        raise
    except Exception as wrong:
        raise InvalidInput(
            f"The model fails on the sample: {type(wrong).__name__}: {str(wrong)[:300]}.",
            hint="Give inputs as the model was trained on; or give `outputs` too, and it is not asked.",
        ) from wrong


def _background(signature: ModelSignature, inputs: "Sample") -> list[list[Any]]:
    from modelops.domains.models.instances import check_instances

    rows = inputs.some(SAMPLE_ROWS)
    try:
        check_instances(signature, rows)
    except InvalidInput as wrong:
        raise InvalidInput(
            f"The sample holds what a caller could not send: {wrong.detail}",
            hint="Give rows of finite numbers, texts and booleans, with null for what is missing.",
        ) from wrong
    return rows

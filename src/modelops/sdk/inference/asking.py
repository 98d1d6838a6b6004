"""A batch's rows as a model takes them, and what it says of them as columns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from modelops.contracts.errors import DeploymentError, InvalidInput
from modelops.domains.models.flavours import Predictor
from modelops.domains.models.schemas import Feature, FeatureType, ModelSignature
from modelops.domains.models.validation.columns import as_columns, inputs_of

PREDICTION, PROBABILITY = "prediction", "probability_"


def said_of(
    predictor: Predictor, signature: ModelSignature, batch: pa.RecordBatch, first: int, kept: Sequence[str]
) -> pa.RecordBatch:
    """Return the columns kept of a batch, then `prediction`, then `probability_<class>` where the model gives any.

    Args:
        first: The number of the batch's first row, counted from 0.
        kept: Columns of the batch that come along.

    Raises:
        InvalidInput: a row does not fit the signature; it is named.
        DeploymentError: the model raised, or said not one thing a row.
    """
    names = [feature.name for feature in signature.inputs]
    columns = as_columns(pa.Table.from_batches([batch.select(names)]))
    rows = inputs_of(signature, columns, predictor.wants_columns)
    for feature in signature.inputs:
        _check(feature, batch.column(feature.name), columns[feature.name], first)
    try:
        predictions = predictor.predict(rows)
        chances = None if predictor.classes is None else np.asarray(predictor.predict_proba(rows), dtype=np.float64)
    except Exception as wrong:
        rows_said = f"rows {first:,} to {first + batch.num_rows - 1:,}"
        raise DeploymentError(
            f"The model raised {type(wrong).__name__} for {rows_said}: {str(wrong)[:300]}.",
            hint="What came before is kept; correct the rows or the model, and run it again.",
        ) from wrong
    found = {name: batch.column(name) for name in kept}
    found[PREDICTION] = _as_arrow(predictions, batch.num_rows)
    if chances is not None and predictor.classes is not None:
        if chances.shape != (batch.num_rows, len(predictor.classes)):
            raise DeploymentError(f"The model gave probabilities of shape {chances.shape} for {batch.num_rows} rows.")
        found |= {f"{PROBABILITY}{name}": pa.array(chances[:, place]) for place, name in enumerate(predictor.classes)}
    return pa.RecordBatch.from_pydict(found)


def check_columns(signature: ModelSignature, schema: pa.Schema, kept: Sequence[str], classes: list[Any] | None) -> None:
    """Refuse a table that lacks a feature or a column to be kept, or whose columns would have an answer's name.

    Raises:
        InvalidInput: names the column.
    """
    if not signature.inputs:
        raise InvalidInput("The version has no signature, so nothing tells which columns it takes.")
    for name in (*(feature.name for feature in signature.inputs), *kept):
        if name not in schema.names:
            raise InvalidInput(f"The table has no column '{name}'.", hint=f"It has: {', '.join(schema.names[:20])}.")
    answers = {PREDICTION, *(f"{PROBABILITY}{name}" for name in classes or ())}
    for name in kept:
        if name in answers:
            raise InvalidInput(f"The column '{name}' cannot be kept: an answer has its name.")


def _check(feature: Feature, column: pa.Array, values: Any, first: int) -> None:
    """Refuse what the signature does: null where a value is required, and a fraction where a whole number is."""
    if feature.required:
        missing = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        if missing.any():
            _refuse(first + int(missing.argmax()), feature, "is required", "it is null")
    if feature.type is FeatureType.INTEGER and values.dtype.kind == "f":
        broken = (values != np.floor(values)) & ~np.isnan(values)
        if broken.any():
            place = int(broken.argmax())
            _refuse(first + place, feature, "must be an integer", f"it is {values[place]:g}")
    if feature.type is FeatureType.STRING and not _is_text(column.type):
        _refuse(first, feature, "must be a string", f"the column is of {column.type}")
    if feature.type is FeatureType.BOOLEAN and not pa.types.is_boolean(column.type):
        _refuse(first, feature, "must be true or false", f"the column is of {column.type}")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _refuse(row: int, feature: Feature, rule: str, came: str) -> None:
    raise InvalidInput(
        f"Row {row:,}, feature '{feature.name[:100]}': {rule}; {came}.",
        hint="Rows are counted from 0.",
        extra={"row": row, "feature": feature.name},
    )


def _as_arrow(predictions: Any, rows: int) -> pa.Array:
    values = predictions if isinstance(predictions, list) else np.asarray(predictions)
    if len(values) != rows:
        raise DeploymentError(f"The model gave {len(values)} predictions for {rows} rows.")
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if isinstance(values, np.ndarray) and values.ndim > 1:
        values = values.tolist()
    return pa.array(values)

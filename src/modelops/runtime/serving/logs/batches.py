"""Logged predictions as Arrow record batches: a row for each row that was predicted."""

import json
import time
from typing import Any

import numpy as np
import pyarrow as pa

from modelops.domains.models.schemas import FeatureType
from modelops.runtime.serving.logs.logged import Logged
from modelops.runtime.serving.predicting import plain

METADATA = b"modelops"
"""Under this key a file's schema tells, in JSON, whose predictions it holds."""

_TYPES = {
    FeatureType.NUMBER: pa.float64(),
    FeatureType.INTEGER: pa.int64(),
    FeatureType.BOOLEAN: pa.bool_(),
    FeatureType.STRING: pa.string(),
}
_OWN = [
    ("request_id", pa.string()),
    ("row", pa.int32()),
    ("time", pa.timestamp("us", "UTC")),
    ("latency_ms", pa.float64()),
]


def batch_of(logged: Logged) -> Any:
    """Return the record batch of what is logged."""
    about = logged.about
    places = np.concatenate([np.arange(entry.start, entry.start + entry.length) for entry in logged.entries])
    fields, columns = list(_OWN), _own_columns(logged)
    if about.inputs:
        for index, feature in enumerate(about.signature.inputs):
            column = logged.rows[feature.name] if isinstance(logged.rows, dict) else logged.rows[:, index]
            fields.append((f"input.{feature.name}", _TYPES[feature.type]))
            columns.append(_values(column[places], _TYPES[feature.type]))
    if about.outputs:
        predictions = _predictions(logged.answer.values, places)
        fields.append(("prediction", predictions.type))
        columns.append(predictions)
        if about.classes is not None and logged.answer.probabilities is not None:
            for index, label in enumerate(about.classes):
                fields.append((f"probability.{label}", pa.float64()))
                columns.append(pa.array(logged.answer.probabilities[places, index]))
    schema = pa.schema(fields, metadata={METADATA: json.dumps(about.facts)})
    return pa.record_batch(columns, schema=schema)


def _own_columns(logged: Logged) -> list[Any]:
    offset = time.time() - time.perf_counter()
    entries, counts = logged.entries, [entry.length for entry in logged.entries]
    moments = [round((entry.began + offset) * 1e6) for entry in entries]
    latencies = [1000 * (logged.answered - entry.began) for entry in entries]
    return [
        pa.array(np.repeat(np.array([entry.request_id for entry in entries], dtype=object), counts), pa.string()),
        pa.array(np.concatenate([np.arange(count) for count in counts]), pa.int32()),
        pa.array(np.repeat(moments, counts), pa.timestamp("us", "UTC")),
        pa.array(np.repeat(latencies, counts), pa.float64()),
    ]


def _values(column: Any, kind: Any) -> Any:
    """Return values of a feature; NaN, as which predictors see null, is null again."""
    if column.dtype.kind == "f":
        missing = np.isnan(column)
        if kind == pa.int64():
            return pa.array(np.where(missing, 0, column).astype(np.int64), kind, mask=missing)
        return pa.array(column.astype(np.float64), kind, mask=missing)
    if column.dtype.kind == "O":
        return pa.array([None if isinstance(value, float) else value for value in column], kind)
    return pa.array(column).cast(kind)


def _predictions(values: Any, places: Any) -> Any:
    """Return predictions as numbers, booleans or texts where they all are such, and else as JSON texts."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        kind = {"f": pa.float64(), "i": pa.int64(), "b": pa.bool_()}.get(values.dtype.kind)
        if kind is not None:
            return pa.array(values[places]).cast(kind)
    listed = plain(values)
    found = [listed[place] for place in places]
    if all(isinstance(value, str) for value in found):
        return pa.array(found, pa.string())
    return pa.array([json.dumps(value, ensure_ascii=False) for value in found], pa.string())

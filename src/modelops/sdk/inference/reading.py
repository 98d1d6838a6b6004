"""The table that a model is asked for: a file, batch by batch, the same batches each time."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from modelops.contracts.errors import InvalidInput
from modelops.domains.data.reading import Source, TypeConflict, open_table
from modelops.domains.data.rules import format_of
from modelops.domains.data.schemas import DataFormat
from modelops.domains.models.schemas import FeatureType, ModelSignature

_ARROW = {
    FeatureType.NUMBER: pa.float64(),
    FeatureType.INTEGER: pa.float64(),
    FeatureType.STRING: pa.string(),
    FeatureType.BOOLEAN: pa.bool_(),
}
_ATTEMPTS = 50
_PLACE = re.compile(r"In CSV column #(\d+): ")


@dataclass(frozen=True)
class Table:
    """A file that is read as a table. `rows` is None where only reading it would tell."""

    path: Path
    kind: DataFormat
    schema: pa.Schema
    types: dict[str, pa.DataType]
    rows: int | None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Return the batches, from the first.

        Raises:
            InvalidInput: a value does not fit its column.
        """
        with self.path.open("rb") as file:
            yield from _batches(file, self.kind, self.types)[1]


def kind_of(path: Path) -> DataFormat:
    """Tell a file's format from its name.

    Raises:
        InvalidInput: it does not tell.
    """
    kind = format_of(path.name)
    if kind is None:
        raise InvalidInput(
            f"Which format '{path.name}' has cannot be told from its name.", hint="Name it .parquet, .csv or .arrow."
        )
    return DataFormat(kind)


def read_table(path: Path, signature: ModelSignature) -> Table:
    """Look at a file; one of CSV is read through once, so that each column has one type from its first row to its last.

    Raises:
        InvalidInput: it is no table, or a feature's values are not of the feature's type.
    """
    if not path.is_file():
        raise InvalidInput(
            f"There is no file '{path}'.", hint="Name a Parquet, CSV or Arrow file, or a dataset version."
        )
    kind = kind_of(path)
    try:
        with path.open("rb") as file:
            if kind is not DataFormat.CSV:
                rows = pq.ParquetFile(file).metadata.num_rows if kind is DataFormat.PARQUET else None
                return Table(path, kind, _batches(file, kind, {})[0], {}, rows)
            return _read_csv(path, file, signature)
    except pa.ArrowException as wrong:
        raise InvalidInput(f"The file '{path.name}' cannot be read as {kind.value}: {str(wrong)[:300]}.") from wrong


def _read_csv(path: Path, file: BinaryIO, signature: ModelSignature) -> Table:
    features = {feature.name: _ARROW[feature.type] for feature in signature.inputs}
    types = dict(features)
    for _ in range(_ATTEMPTS):
        try:
            schema, batches = _batches(file, DataFormat.CSV, types)
            return Table(path, DataFormat.CSV, schema, types, sum(batch.num_rows for batch in batches))
        except TypeConflict as conflict:
            if conflict.column in features:
                raise _no_such(conflict.column, path, str(conflict.__cause__)) from conflict
            types[conflict.column] = conflict.wider
        except pa.ArrowInvalid as wrong:  # what the first rows hold is told at once, and by the column's place
            place = _PLACE.match(str(wrong))
            if place is None:
                raise
            name = _batches(file, DataFormat.CSV, {})[0].names[int(place[1])]
            raise _no_such(name, path, str(wrong)) from wrong
    raise InvalidInput(f"The types of too many columns of '{path.name}' change on the way.", hint="Send it as Parquet.")


def _no_such(column: str, path: Path, why: str) -> InvalidInput:
    return InvalidInput(
        f"The column '{column}' of '{path.name}' holds what the model's signature does not take: {why[:300]}."
    )


def _batches(
    file: BinaryIO, kind: DataFormat, types: dict[str, pa.DataType]
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    return open_table(Source(file), kind, types)

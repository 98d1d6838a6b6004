"""Payloads of artifacts and datasets."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelops.contracts.schemas import Digest, Json, Name, Schema, Tags, Text, UtcTime

DatasetRef = Annotated[
    str,
    Field(
        min_length=1,
        max_length=250,
        description="A dataset version: `name` (its latest), `name:3`, or the id of a version, `dsv_…`.",
    ),
]


class Artifact(Schema):
    """A blob that the project holds. `size` is in bytes, of the content."""

    digest: Digest
    size: int
    media_type: str
    created_at: UtcTime
    created_by: str


class DataFormat(StrEnum):
    """The file formats a dataset version can be made from and downloaded as."""

    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


class DatasetCreate(Schema):
    """A new dataset, still without versions."""

    name: Name
    description: Text = ""
    tags: Tags = {}


class DatasetUpdate(Schema):
    """What may change on a dataset; a field left out stays."""

    description: Text | None = None
    tags: Tags | None = None


class Dataset(Schema):
    """A named sequence of immutable versions."""

    id: str
    project_id: str
    name: str
    description: str
    tags: dict[str, str]
    latest_version: int | None
    created_at: UtcTime
    created_by: str
    revision: int


class Column(Schema):
    """A column: its name and Arrow type (`double`, `int64`, `string`, …)."""

    name: str
    type: str
    nullable: bool


class ColumnProfile(Schema):
    """What a column holds. Moments and `quantiles` (at 0, 1, 5, 25, 50, 75, 95, 99, 100 percent) are of numeric columns,
    `top` (the most frequent values with their counts) of the others; null elsewhere."""

    name: str
    count: int
    missing: int
    distinct: Annotated[int | None, Field(description="Exact up to 10,000 values; null beyond.")]
    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    quantiles: list[float] | None
    top: list[tuple[str, int]] | None


class DatasetVersion(Schema):
    """An immutable table. `digest` is of the bytes that were uploaded, `table_digest` of the Parquet file that jobs read."""

    id: str
    dataset_id: str
    dataset: str
    version: int
    format: DataFormat
    digest: Digest
    table_digest: Digest
    rows: int
    size: int
    columns: list[Column]
    profile: list[ColumnProfile]
    parents: Annotated[list[str], Field(description="Ids of the dataset versions that this one was made from.")]
    created_at: UtcTime
    created_by: str


class Preview(Schema):
    """The first rows of a version, values in JSON form."""

    columns: list[str]
    rows: list[list[Json]]
    total_rows: int

"""Payloads of artifacts and datasets."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelops.contracts.schemas import Digest, Json, Name, Schema, Tags, Text, UtcTime

_RESTRICTED_NAME = r"[A-Za-z0-9!#$&^_.+-]{1,127}"
_PARAMETER = rf' ?; ?{_RESTRICTED_NAME}=({_RESTRICTED_NAME}|"[A-Za-z0-9!#$&^_.+ -]{{0,127}}")'
MEDIA_TYPE = rf"^{_RESTRICTED_NAME}/{_RESTRICTED_NAME}({_PARAMETER})*$"
"""A media type (RFC 6838, section 4.2), with parameters."""

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


class UploadState(StrEnum):
    """How far an upload in parts is."""

    OPEN = "open"
    COMPLETED = "completed"


class UploadCreate(Schema):
    """A file that will be sent in parts. `size` is in bytes."""

    digest: Digest
    size: Annotated[int, Field(ge=0, le=2**60)]
    media_type: Annotated[str, Field(max_length=200, pattern=MEDIA_TYPE)] = "application/octet-stream"


class Upload(Schema):
    """A file that is sent in parts: all but the last have `part_size` bytes, and their numbers begin at 1.

    `received` are the numbers of the parts that are there; they stay there until the upload is completed, deleted, or not
    heard of for the time of the setting `upload_ttl_s`.
    """

    id: str
    project_id: str
    digest: Digest
    size: int
    media_type: str
    part_size: int
    parts: int
    received: list[int]
    state: UploadState
    created_at: UtcTime
    created_by: str


class UploadPart(Schema):
    """A part that has arrived."""

    number: int
    size: int
    digest: Digest


class GarbageCollection(Schema):
    """What a look at every stored blob found and did. Sizes are in bytes, as they are stored.

    `unheld` blobs are referred to by nothing; `waiting` are those of them whose time of grace is not over.
    """

    dry_run: bool
    examined: int
    examined_size: int
    unheld: int
    unheld_size: int
    waiting: int
    removed: int
    removed_size: int


class KeyRotation(Schema):
    """What a pass over the keys of encrypted artifacts did. `failed` are digests of blobs that no key at hand opens."""

    rewrapped: int
    current: int
    failed: list[Digest]


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

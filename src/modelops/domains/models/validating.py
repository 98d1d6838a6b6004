"""Validating a registered version, on the machine that calls: download, verify, run the checks, and keep what they found."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.contracts.rest import Rest
from modelops.domains.data.client import Data
from modelops.domains.data.rules import ANY_DATASET, format_of
from modelops.domains.data.rules import is_version_id as is_dataset_version_id
from modelops.domains.data.rules import parse_ref as parse_dataset_ref
from modelops.domains.data.schemas import DataFormat, DatasetVersion
from modelops.domains.data.tabular import to_parquet
from modelops.domains.models.client import Models
from modelops.domains.models.loading import load_version
from modelops.domains.models.rules import ANY_MODEL, CHAMPION, is_version_id, parse_ref
from modelops.domains.models.schemas import ModelVersion
from modelops.domains.models.validation.columns import Column, as_columns, digest_of_columns
from modelops.domains.models.validation.pipeline import make_trial
from modelops.domains.models.validation.schemas import CheckResult, Task, Validation, ValidationCreate
from modelops.domains.models.validation.trial import Contender, Trial


@dataclass(frozen=True)
class Prepared:
    """A registered version and what it is compared with, both loaded, on a table. `data_digest` is the table's, and
    `dataset_version_id` tells where the platform holds it."""

    version: ModelVersion
    champion: ModelVersion | None
    trial: Trial
    data_digest: str
    dataset_version_id: str | None


def prepare(
    rest: Rest, ref: str, data: Any, target: str, *, champion: str | None = None, task: Task | str | None = None
) -> Prepared:
    """Download, verify and load what checks are run on.

    Args:
        rest: The connection.
        ref: The candidate: `name`, `name:3`, `name@alias`, or an id.
        data: A dataset version (`name:3`), the path of a CSV, Parquet or Arrow file, or a table.
        target: The column with the truth.
        champion: The version to compare with; by default the model's alias `champion`, where it has one.
        task: By default told from the model and the truth.

    Raises:
        InvalidInput: the data is no table, lacks the target or a feature, or misses truth.
        SignatureInvalid, ArtifactCorrupted: a package is not what was signed.
    """
    models = Models(rest)
    candidate = find_version(models, ref)
    rival = find_version(models, champion) if champion is not None else _champion_of(models, candidate)
    columns, data_digest, dataset = _read(Data(rest), data)
    against = None if rival is None else _contender(rest, rival)
    trial = make_trial(_contender(rest, candidate), against, columns, target, task)
    return Prepared(candidate, rival, trial, data_digest, dataset)


def keep(rest: Rest, prepared: Prepared, checks: list[CheckResult], comment: str = "") -> Validation:
    """Keep with the version what checks found of it."""
    body = ValidationCreate(
        digest=prepared.version.digest,
        champion=None if prepared.champion is None else prepared.champion.id,
        dataset_version_id=prepared.dataset_version_id,
        data_digest=prepared.data_digest,
        rows=prepared.trial.rows,
        target=prepared.trial.target,
        checks=checks,
        comment=comment,
    )
    return Models(rest).record_validation(prepared.version.name, prepared.version.version, body)


def find_version(models: Models, ref: str) -> ModelVersion:
    """Return what `name`, `name:3`, `name@alias` or `mver_…` names."""
    if is_version_id(ref):
        return models.get_version(ANY_MODEL, ref)
    name, number, alias = parse_ref(ref)
    return models.get_version(name, f"@{alias}" if alias is not None else number or "latest")


def _champion_of(models: Models, candidate: ModelVersion) -> ModelVersion | None:
    try:
        found = models.get_version(candidate.model_id, f"@{CHAMPION}")
    except NotFound:
        return None
    return None if found.id == candidate.id else found


def _contender(rest: Rest, version: ModelVersion) -> Contender:
    return Contender(f"{version.name}:{version.version}", load_version(rest, version), version.signature)


def _read(data: Data, given: Any) -> tuple[dict[str, Column], str, str | None]:
    """Return a table's columns, its digest, and the dataset version that it is."""
    if isinstance(given, str | Path) and Path(given).is_file():
        return *_read_file(Path(given)), None
    if isinstance(given, str):
        version = _dataset_version(data, given)
        return as_columns(data.load_table(version.id)), version.table_digest, version.id
    columns = as_columns(given)
    return columns, digest_of_columns(columns), None


def _read_file(path: Path) -> tuple[dict[str, Column], str]:
    """Read a file as the platform would when it is uploaded, and return its digest, too."""
    import pyarrow.parquet as pq

    kind = format_of(path.name)
    if kind is None:
        raise InvalidInput(
            f"What '{path.name}' holds cannot be told from its name.", hint="Name it .csv, .parquet or .arrow."
        )
    table = io.BytesIO()
    with path.open("rb") as source:
        digest = f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}"
        source.seek(0)
        to_parquet(source, DataFormat(kind), table)
    table.seek(0)
    return as_columns(pq.read_table(table)), digest


def _dataset_version(data: Data, ref: str) -> DatasetVersion:
    if is_dataset_version_id(ref):
        return data.get_dataset_version(ANY_DATASET, ref)
    name, version = parse_dataset_ref(ref)
    return data.get_dataset_version(name, version or "latest")

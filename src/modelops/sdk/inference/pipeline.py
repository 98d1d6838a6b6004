"""`InferencePipeline`: from a version and a table to a file of predictions, begun again where it was stopped."""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import Schema
from modelops.sdk.client import Client
from modelops.sdk.connected import Connected

if TYPE_CHECKING:
    from modelops.domains.models.schemas import ModelVersion

Progress = Callable[[int, int | None], None]
"""Told how many rows are done, and of how many, where that is known."""

ALL = "*"
"""Stands for every column of the table."""


class InferenceResult(Schema):
    """What came of a run. `resumed_rows` were answered by an earlier one that was stopped; `seconds` is this one's time."""

    model: str
    version: int
    rows: int
    resumed_rows: int
    columns: list[str]
    output: str
    seconds: float


class InferencePipeline(Connected):
    """Asks a registered version for every row of a table, on this machine. The table need not fit in memory.

    Close it, or use it as a context manager, where it opened its own connection.

    Args:
        model: `name` (its latest version), `name:3`, `name@alias`, or an id.
        backend: A client, a platform's address, or None for the one of the settings; opened at the first need.
        keep: Columns of the table to keep beside the predictions; `["*"]` keeps all.
        project: The project, where `backend` is no client.
    """

    def __init__(
        self,
        model: str,
        backend: Client | str | None = None,
        *,
        keep: Sequence[str] = (),
        project: str | None = None,
    ) -> None:
        super().__init__(backend, project=project)
        self.model = model
        self.keep = tuple(keep)

    def run(
        self, source: Path | str, output: Path | str, *, resume: bool = True, progress: Progress | None = None
    ) -> InferenceResult:
        """Predict every row of a table into a file.

        What is answered is kept as it comes, in a hidden folder beside the output: a run that was stopped, however, goes on
        from there when it is run again. The output is there whole, or not at all.

        Args:
            source: A Parquet, CSV or Arrow file, or a dataset version (`name:3`). It has a column for each feature.
            output: A Parquet, CSV or Arrow file, by its name's ending; one that is there is replaced. Its columns: those
                kept, `prediction`, and `probability_<class>` where the model gives probabilities.
            resume: False begins anew.
            progress: Told after each batch.

        Raises:
            InvalidInput: a file is no table, lacks a feature, or a row does not fit the signature.
            Conflict: the parts that are there answer another table or version, or another process writes them.
            SignatureInvalid, ArtifactCorrupted: the package is not what was signed; nothing was opened.
            DeploymentError: the model raised.
        """
        from modelops.domains.models.loading import load_version
        from modelops.domains.models.validating import find_version
        from modelops.sdk.inference.asking import check_columns, said_of
        from modelops.sdk.inference.parts import Job, Parts
        from modelops.sdk.inference.reading import kind_of, read_table

        began, target = time.monotonic(), Path(output)
        kind = kind_of(target)
        if not target.parent.is_dir():
            raise InvalidInput(f"There is no folder '{target.parent}'.", hint="Make it first.")
        version = find_version(self.client.models, self.model)
        with ExitStack() as stack:
            path, name = self._local(source, stack)
            table = read_table(path, version.signature)
            kept = table.schema.names if ALL in self.keep else list(dict.fromkeys(self.keep))
            parts = Parts(target)
            stack.enter_context(parts.opened())
            facts = path.stat()
            job = Job(
                source=name,
                source_size=facts.st_size,
                source_changed_ns=facts.st_mtime_ns if name == str(path.absolute()) else 0,
                model_version_id=version.id,
                digest=version.digest,
                kept=kept,
            )
            there = parts.resume(job, afresh=not resume)
            predictor = load_version(self.client.rest, version)
            check_columns(version.signature, table.schema, kept, predictor.classes)
            rows = resumed = count = 0
            for count, batch in enumerate(table.batches(), 1):
                if count > there:
                    parts.add(count - 1, said_of(predictor, version.signature, batch, rows, kept))
                else:
                    resumed += batch.num_rows
                rows += batch.num_rows
                if progress is not None:
                    progress(rows, table.rows)
            if not rows:
                raise InvalidInput(f"'{name}' has no rows.")
            columns = parts.join(count, kind, _facts(version))
        return InferenceResult(
            model=version.name,
            version=version.version,
            rows=rows,
            resumed_rows=resumed,
            columns=columns,
            output=str(target),
            seconds=time.monotonic() - began,
        )

    def _local(self, source: Path | str, stack: ExitStack) -> tuple[Path, str]:
        """Return a table's file, fetched if it is a dataset version, and what names it for good."""
        path = Path(source)
        if isinstance(source, Path) or path.exists() or path.suffix or "/" in source:
            return path, str(path.absolute())
        from modelops.domains.data.rules import parse_ref

        dataset, number = parse_ref(source)
        version = self.client.data.get_dataset_version(dataset, number or "latest")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        target = folder / "table.parquet"
        self.client.data.download_dataset_version(dataset, version.version, to=target, format="parquet")
        return target, version.id


def _facts(version: "ModelVersion") -> dict[str, str]:
    return {
        "modelops.model": version.name,
        "modelops.version": str(version.version),
        "modelops.digest": version.digest,
    }

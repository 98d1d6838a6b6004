"""Validating a candidate before its promotion, from Python: `ModelValidation`."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import Schema
from modelops.domains.models.validation.schemas import CheckResult, Task, Validation, as_text
from modelops.sdk.client import Client
from modelops.sdk.connected import Connected

if TYPE_CHECKING:
    from modelops.domains.models.validation.columns import Column
    from modelops.domains.models.validation.pipeline import ValidationPipeline
    from modelops.domains.models.validation.trial import Contender, Trial


class ValidationResult(Schema):
    """What checks found, kept nowhere."""

    checks: list[CheckResult]

    @property
    def passed(self) -> bool:
        """Tell whether all of them passed."""
        return all(check.passed for check in self.checks)

    def __str__(self) -> str:
        return as_text(self.checks)


class ModelValidation(Connected):
    """Runs checks of a candidate against the champion, here, and keeps what they found with the version.

    Close it, or use it as a context manager, where it opened its own connection.

    Args:
        backend: A client, a platform's address, or None for the one of the settings; opened at the first need.
        pipeline: The checks; by default all that need no parameter.
        project: The project, where `backend` is no client.
    """

    def __init__(
        self,
        backend: Client | str | None = None,
        *,
        pipeline: "ValidationPipeline | None" = None,
        project: str | None = None,
    ) -> None:
        super().__init__(backend, project=project)
        self.pipeline = pipeline

    def validate(
        self,
        candidate: str,
        data: Any,
        target: str,
        *,
        champion: str | None = None,
        task: Task | str | None = None,
        comment: str = "",
    ) -> Validation:
        """Validate a registered version, and keep the result with it.

        Args:
            candidate: `name` (its latest version), `name:3`, `name@alias`, or an id.
            data: A dataset version (`name:3`), the path of a CSV, Parquet or Arrow file, or a table, with the features, the
                target, and any other columns to slice by. Shape (rows, columns).
            target: The column with the truth.
            champion: The version to compare with; by default the model's alias `champion`, where it has one.
            task: `classification` or `regression`; by default told from the model and the truth.
            comment: Kept with the result.

        Raises:
            InvalidInput: the data is no table, lacks the target or a feature, or misses truth.
            SignatureInvalid, ArtifactCorrupted: a package is not what was signed; nothing was opened.
        """
        from modelops.domains.models.validating import keep, prepare

        rest = self.client.rest
        prepared = prepare(rest, candidate, data, target, champion=champion, task=task)
        return keep(rest, prepared, self._checks().run(prepared.trial), comment)

    def check(
        self, candidate: Any, data: Any, target: str, *, champion: Any = None, task: Task | str | None = None
    ) -> ValidationResult:
        """Run the checks on model objects, or on versions, and keep nothing.

        Args:
            candidate: A model object that an installed flavour knows, or a reference to a version.
            data: A table, as `validate` takes it. A model object is given all of its columns but the target, or those
                that it was fitted on by name.
            target: The column with the truth.
            champion: The same as `candidate`, or None.
            task: As for `validate`.
        """
        if isinstance(candidate, str):
            from modelops.domains.models.validating import prepare

            if champion is not None and not isinstance(champion, str):
                raise InvalidInput("Candidate and champion are both versions, or both model objects.")
            trial = prepare(self.client.rest, candidate, data, target, champion=champion, task=task).trial
        else:
            trial = _trial(candidate, champion, data, target, task)
        return ValidationResult(checks=self._checks().run(trial))

    def _checks(self) -> "ValidationPipeline":
        from modelops.domains.models.validation.pipeline import ValidationPipeline

        return self.pipeline or ValidationPipeline()


def _trial(candidate: Any, champion: Any, data: Any, target: str, task: Task | str | None) -> "Trial":
    from modelops.domains.models.validation.columns import as_columns
    from modelops.domains.models.validation.pipeline import make_trial

    columns = as_columns(data)
    against = None if champion is None else _contender("champion", champion, columns, target)
    return make_trial(_contender("candidate", candidate, columns, target), against, columns, target, task)


def _contender(label: str, model: Any, columns: "dict[str, Column]", target: str) -> "Contender":
    """Take a model object as the platform would: saved, loaded again, and with the types of what it takes."""
    from modelops.domains.models.flavours import flavour_for
    from modelops.domains.models.schemas import ModelSignature
    from modelops.domains.models.signatures import infer_signature
    from modelops.domains.models.validation.columns import plain
    from modelops.domains.models.validation.trial import Contender

    kind = flavour_for(model)
    with tempfile.TemporaryDirectory() as folder:
        kind.save(model, Path(folder))
        predictor = kind.load(Path(folder))
    names = predictor.feature_names or [name for name in columns if name != target]
    missing = [name for name in names if name not in columns]
    if missing:
        raise InvalidInput(f"The data lacks what the {label} was fitted on, such as '{missing[0]}'.")
    features = []
    for name in names:
        column = columns[name]
        numeric = column.dtype.kind in "fiub"
        cells = column.reshape(-1, 1) if numeric else [[plain(value)] for value in column]
        features += infer_signature(cells, feature_names=[name]).inputs
    return Contender(label, predictor, ModelSignature(inputs=features))

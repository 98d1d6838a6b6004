"""What ensembles and chains in memory have in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.compositions import DOCUMENT, Composition
from modelops.domains.models.ensembles.chains import ChainPredictor
from modelops.domains.models.ensembles.predictors import EnsemblePredictor
from modelops.domains.models.schemas import ModelVersion
from modelops.sdk.client import Client
from modelops.sdk.parts import Part
from modelops.sdk.registry import ModelRegistry
from modelops.sdk.samples import Sample, has_names

SAID_BY_SERVER = frozenset({"description", "tags", "stage"})
"""What can be said of a version that the platform puts together by itself."""


class Whole(ABC):
    """What ensembles and chains share."""

    composed_as: str

    def __init__(
        self, models: Sequence[Any], what: str, weights: Sequence[float], backend: ModelRegistry | Client | str | None
    ) -> None:
        self._backend = backend
        self._owned: ModelRegistry | None = None
        self._named: list[str] | None = None
        self._parts = [
            Part(model, what, place, weight, lambda: self._registry)
            for place, (model, weight) in enumerate(zip(models, weights, strict=True))
        ]

    @property
    def members(self) -> list[str]:
        """What each part is: `name:3` of a registered version, else the class of the object."""
        return [part.told for part in self._parts]

    @property
    def versions(self) -> list[ModelVersion]:
        """The registered versions among the parts."""
        return [part.version for part in self._parts if part.version is not None]

    @property
    def feature_names_in_(self) -> list[str] | None:
        """The names of the features it takes, in order; None where no part knows them."""
        return next((part.names for part in self._takes() if part.names is not None), None)

    @property
    def n_features_in_(self) -> int | None:
        """How many features it takes; None where no part knows it."""
        return next((part.count for part in self._takes() if part.count is not None), None)

    def predict(self, X: Any) -> Any:  # noqa: N803 - as scikit-learn has it
        """Return predictions for a frame or an array, shape (rows, features)."""
        predictor = self._predictor()
        return predictor.predict(self._rows(X, predictor.wants_columns))

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        """Return class probabilities, shape (rows, classes), in the order of `classes`.

        Raises:
            InvalidInput: there are none, such as of a vote.
        """
        predictor = self._predictor()
        if predictor.classes is None:
            raise InvalidInput(f"This {self.composed_as} gives no probabilities.", hint="Ask `predict`.")
        return predictor.predict_proba(self._rows(X, predictor.wants_columns))

    @property
    def classes(self) -> list[Any] | None:
        """What the columns of `predict_proba` stand for; None where there are no probabilities."""
        return self._predictor().classes

    def requirements(self) -> list[str]:
        """Return the pinned packages that its parts need."""
        return sorted({line for part in self._every_part() for line in part.requirements()})

    def close(self) -> None:
        """Close the connection, if one was opened here."""
        if self._owned is not None:
            self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _registry(self) -> ModelRegistry:
        if isinstance(self._backend, ModelRegistry):
            return self._backend
        if self._owned is None:
            self._owned = ModelRegistry(self._backend)
        return self._owned

    def _register(self, name: str, sample: Any, facts: Mapping[str, Any]) -> ModelVersion:
        """Register it with its parts in memory; files of registered versions are not sent again."""
        given = facts.get("feature_names")
        if given is not None or has_names(sample):
            self._named = list(given) if given is not None else Sample(sample).names
        return self._registry.register_model(name, self, sample=sample, **facts)

    def _all_registered(self) -> bool:
        return all(part.version is not None for part in self._parts)

    def _rows(self, table: Any, wants_columns: bool) -> Any:
        names = self.feature_names_in_
        sample = Sample(table, None if has_names(table) else names)
        rows = sample.for_predictor(wants_columns)
        if names is None or sample.names == names or set(sample.names) != set(names):
            return rows
        if isinstance(rows, dict):
            return {name: rows[name] for name in names}
        return rows[:, [sample.names.index(name) for name in names]]

    def _takes(self) -> list[Part]:
        """Return the parts that take what the whole takes."""
        return self._parts

    def _every_part(self) -> list[Part]:
        return self._parts

    @abstractmethod
    def _predictor(self) -> EnsemblePredictor | ChainPredictor: ...


def write_document(folder: Path, document: Composition) -> list[str]:
    """Write `ensemble.json` into a package's folder, and return all of its files."""
    (folder / DOCUMENT).write_text(document.model_dump_json(indent=1), encoding="utf-8")
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

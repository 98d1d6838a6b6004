"""A part of a whole: a registered version, or a model in memory, on its way into an ensemble or a chain."""

import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.compositions import Member
from modelops.domains.models.ensembles.members import Loaded
from modelops.domains.models.flavours import flavour_for
from modelops.domains.models.schemas import ModelVersion
from modelops.sdk.packaging import write_package
from modelops.sdk.registry import ModelRegistry
from modelops.sdk.stacking import fitted


class Part:
    """A part of an ensemble or a chain.

    Args:
        model: A reference to a registered version, or an object that an installed flavour knows.
        what: What errors call it, such as `the member`.
        place: Which it is, from 0.
        registry: Gives the registry, for a reference.
    """

    def __init__(self, model: Any, what: str, place: int, weight: float, registry: Callable[[], ModelRegistry]) -> None:
        self._model, self._what, self._place, self._registry = model, what, place, registry
        self.weight = weight

    @cached_property
    def version(self) -> ModelVersion | None:
        """The registered version; None of a model in memory."""
        return self._registry().find_version(self._model) if isinstance(self._model, str) else None

    @property
    def told(self) -> str:
        """What it is, for people."""
        if self.version is not None:
            return f"{self.version.name}:{self.version.version}"
        return getattr(self._model, "__name__", type(self._model).__name__)

    @property
    def label(self) -> str:
        """What errors call it."""
        return f"{self._what} {self.told}" if self.version is not None else f"{self._what} {self._place} ({self.told})"

    @property
    def names(self) -> list[str] | None:
        """The names of the features it takes, in its order; None where it does not know them."""
        if self.version is not None:
            return [feature.name for feature in self.version.signature.inputs]
        names = getattr(self._model, "feature_names_in_", None)
        return None if names is None else [str(name) for name in names]

    @property
    def count(self) -> int | None:
        """How many features it takes; None where it does not know that."""
        if self.version is not None:
            return len(self.version.signature.inputs)
        count = getattr(self._model, "n_features_in_", None)
        return count if isinstance(count, int) else None

    @cached_property
    def loaded(self) -> Loaded:
        """The part as the platform would ask it, not compiled."""
        if self.version is not None:
            predictor = self._registry().load_model(self.version.id)
        else:
            kind = flavour_for(self._model)
            with tempfile.TemporaryDirectory() as folder:
                kind.save(self._model, Path(folder))
                predictor = kind.load(Path(folder))
        return Loaded(self.label, predictor, predictor, self.weight, self.names)

    def requirements(self) -> list[str]:
        """Return the pinned packages that it needs."""
        if self.version is not None:
            return self.version.requirements
        return flavour_for(self._model).requirements(self._model)

    def estimator(self) -> Any:
        """Return what can be copied and fitted again.

        Raises:
            InvalidInput: it cannot be.
        """
        model = self._model if self.version is None else self.loaded.predictor.model
        if not (hasattr(model, "fit") and hasattr(model, "get_params")):
            raise InvalidInput(
                f"{self.label} cannot be fitted again: a {type(model).__name__} is no estimator.",
                hint='Leave the members as they are: cv="prefit", and give rows that they have not seen.',
            )
        return model

    def refitted(self, table: Any, target: Any) -> "Part":
        """Return the same kind of model, fitted on other rows."""
        return Part(fitted(self.estimator(), table, target), self._what, self._place, self.weight, self._registry)

    def write(self, folder: Path, rows: Any, names: list[str] | None) -> Member:
        """Write the part's package into a folder of its own, and return what `ensemble.json` says of it."""
        folder.mkdir(parents=True)
        version = self.version
        if version is not None:
            self._registry().download_model(version.id, folder)
            (folder / "model.sig").unlink()
            return Member(
                flavour=version.flavour,
                label=self.label,
                signature=version.signature,
                weight=self.weight,
                name=version.name,
                version=version.version,
                version_id=version.id,
                digest=version.digest,
            )
        if rows is None and names is None and self.count is None:
            kind = flavour_for(self._model)
            kind.save(self._model, folder)
            return Member(flavour=kind.name, label=self.label, weight=self.weight)
        package = write_package(folder, self._model, sample=_table(rows), feature_names=names, compiled=True)
        return Member(flavour=package.flavour, label=self.label, signature=package.signature, weight=self.weight)


def _table(rows: Any) -> Any:
    """Return rows as a sample: columns by name as an Arrow table."""
    if not isinstance(rows, dict):
        return rows
    import pyarrow as pa

    return pa.table({name: pa.array(column.tolist(), from_pandas=True) for name, column in rows.items()})

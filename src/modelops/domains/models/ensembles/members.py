"""Members on their way into memory, and what is asked of each."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from modelops.contracts.errors import InvalidInput, MLOpsError
from modelops.domains.models.compiling import open_compiled
from modelops.domains.models.compositions import DOCUMENT, Composition, Member, parse_composition
from modelops.domains.models.flavours import AnswersAtOnce, Predictor, flavour
from modelops.domains.models.flavours.rows import matrix
from modelops.domains.models.schemas import CompiledForm

_SAMPLE = "sample.json"


class MemberFailed(RuntimeError):
    """A member raised, or gave something that fits nothing; the message names it."""


@dataclass(frozen=True)
class Loaded:
    """A member that can be asked.

    Attributes:
        label: What errors call it.
        predictor: What to ask.
        plain: The same model as it was saved, where `predictor` is a compiled form of it.
        names: The names of its inputs, in its order; None where they are not known.
        order: Where its inputs lie in the matrix that the ensemble gets; None where they lie alike.
        runs: The form it is asked in.
    """

    label: str
    predictor: Predictor
    plain: Predictor
    weight: float
    names: list[str] | None
    order: list[int] | None = None
    runs: CompiledForm = CompiledForm.PLAIN

    def as_saved(self) -> "Loaded":
        """Return the member in the form in which it was saved."""
        return replace(self, predictor=self.plain, runs=CompiledForm.PLAIN)

    def rows(self, rows: Any) -> Any:
        """Return an ensemble's rows as this member takes them."""
        if isinstance(rows, dict):
            named = self.names is not None and set(self.names) == set(rows)
            own = {name: rows[name] for name in self.names or ()} if named else rows
            numeric = all(np.asarray(column).dtype.kind in "fiu" for column in own.values())
            return matrix(own, self.names) if numeric and not self.predictor.wants_columns else own
        return rows if self.order is None else rows[:, self.order]

    def answer(self, rows: Any) -> tuple[Any, Any]:
        """Return predictions, one a row, and probabilities, or None.

        Raises:
            MemberFailed: the model raised, or gave another number of either.
        """
        try:
            said, shares = self._ask(rows)
            shares = None if shares is None else np.asarray(shares, dtype=np.float64)
        except Exception as wrong:
            raise MemberFailed(f"{self.label} raised {type(wrong).__name__}: {str(wrong)[:300]}") from wrong
        count = _count(rows)
        if not hasattr(said, "__len__") or len(said) != count:
            raise MemberFailed(f"{self.label} gave {_length(said)} for {count} rows")
        if shares is not None and shares.shape != (wanted := (count, len(self.predictor.classes or []))):
            raise MemberFailed(f"{self.label} gave probabilities of shape {shares.shape}, not {wanted}")
        return said, shares

    @cached_property
    def _ask(self) -> Callable[[Any], tuple[Any, Any]]:
        """Gives predictions, and probabilities or None; found out once, since asking what a predictor can takes long."""
        predictor = self.predictor
        if isinstance(predictor, AnswersAtOnce):
            return predictor.answer
        if predictor.classes is None:
            return lambda rows: (predictor.predict(rows), None)
        return lambda rows: (predictor.predict(rows), predictor.predict_proba(rows))

    def values(self, rows: Any) -> Any:
        """Return predictions as numbers, shape (rows,) or (rows, outputs).

        Raises:
            MemberFailed: they are none.
        """
        said = self.answer(self.rows(rows))[0]
        try:
            numbers = np.asarray(said, dtype=np.float64)
        except (ValueError, TypeError) as wrong:
            raise MemberFailed(f"{self.label} gave predictions that are no numbers") from wrong
        return numbers[:, 0] if numbers.ndim == 2 and numbers.shape[1] == 1 else numbers


def read_composition(folder: Path) -> Composition:
    """Read the `ensemble.json` of a package's folder. Raises `InvalidInput` where it is none."""
    path = folder / DOCUMENT
    if not path.is_file():
        raise InvalidInput(f"The package has no file '{DOCUMENT}'.")
    return parse_composition(path.read_bytes())


def load_members(folder: Path, composition: Composition) -> list[Loaded]:
    """Load the members of a package whose files were verified, each in its compiled form where it has one."""
    loaded = [
        load_member(folder / prefix, member)
        for prefix, member in composition.parts.items()
        if member is not composition.final
    ]
    return loaded if composition.kind == "chain" else in_order(loaded)


def load_member(folder: Path, member: Member) -> Loaded:
    """Load one member.

    Raises:
        MLOpsError: it cannot be loaded; the message names it.
    """
    try:
        predictor = flavour(member.flavour).load(folder)
        names = None if member.signature is None else [feature.name for feature in member.signature.inputs]
        if member.signature is None:
            return Loaded(member.label, predictor, predictor, member.weight, names or predictor.feature_names)
        sample = read_sample(folder)
        compiled = open_compiled(folder, predictor, member.signature, sample)
    except MLOpsError as wrong:
        wrong.detail = f"{member.label}: {wrong.detail}"
        raise
    except Exception as wrong:
        raise InvalidInput(f"{member.label} cannot be loaded: {type(wrong).__name__}: {wrong}.") from wrong
    return Loaded(member.label, compiled.predictor, predictor, member.weight, names, runs=compiled.record.runs)


def read_sample(folder: Path) -> list[list[Any]] | None:
    """Return the rows of training data that a package holds; None where it has none, or none that are a table."""
    path = folder / _SAMPLE
    try:
        return list(json.loads(path.read_bytes())["rows"]) if path.is_file() else None
    except (ValueError, KeyError, TypeError):
        return None


def in_order(members: Sequence[Loaded]) -> list[Loaded]:
    """Give each member its inputs by name, in the order of the first that knows its own."""
    names = next((member.names for member in members if member.names is not None), None)
    if names is None:
        return list(members)
    return [
        member
        if member.names is None or member.names == names
        else replace(member, order=[names.index(name) for name in member.names])
        for member in members
    ]


def _count(rows: Any) -> int:
    return len(next(iter(rows.values()))) if isinstance(rows, dict) else len(rows)


def _length(said: Any) -> str:
    return f"{len(said)} predictions" if hasattr(said, "__len__") else "a single value"

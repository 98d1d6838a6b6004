"""Flavours: how a kind of model is saved into a package, loaded from it and asked.

What belongs here: the interface, and one module for each kind of model that the product ships; strangers' kinds come
in by the same entry points, group `modelops.flavours`. What never does: anything that trains, and anything that checks
what a caller sent (the signature does that before a predictor is asked).

Only a flavour's own module imports the library it is for.
"""

import contextlib
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from modelops.contracts import plugins
from modelops.contracts.errors import InvalidInput, MissingExtra
from modelops.domains.models.schemas import ModelSignature

GROUP = "modelops.flavours"


@runtime_checkable
class Predictor(Protocol):
    """A loaded model. Thread-safe: a runtime asks it from several threads at once.

    Rows come as a float64 array of shape (rows, features) where every feature is a number; else, and where it
    `wants_columns`, as columns by feature name (equally long one-dimensional arrays). Missing values are NaN.

    Attributes:
        model: The native object.
        classes: What the columns of `predict_proba` stand for; None where the model gives no probabilities.
        wants_columns: Whether rows should come as columns even where every feature is a number.
        feature_names: The names the model was fitted with, in its order; None where it kept none.
    """

    model: Any
    classes: list[Any] | None
    feature_names: list[str] | None
    wants_columns: bool

    def predict(self, rows: Any) -> Any:
        """Return an array or a list with one entry a row."""
        ...

    def predict_proba(self, rows: Any) -> Any:
        """Return an array of shape (rows, classes), or None where `classes` is None."""
        ...


@runtime_checkable
class AnswersAtOnce(Protocol):
    """A predictor that gives predictions and probabilities in one go, where both are wanted."""

    def answer(self, rows: Any) -> tuple[Any, Any]:
        """Return what `predict` and `predict_proba` return."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """A predictor whose time follows from the number of rows alone: it runs nobody's code, and never waits."""

    bounded: Literal[True]


@runtime_checkable
class Flavour(Protocol):
    """How one kind of model goes into a package and comes out of it."""

    name: str

    def detect(self, model: Any) -> bool:
        """Tell whether this flavour is for `model`. Must not fail on models of other kinds."""
        ...

    def save(self, model: Any, folder: Path) -> list[str]:
        """Write the model into a folder that exists, and return the relative paths written.

        Raises:
            InvalidInput: something in the model cannot be saved; the message names it.
        """
        ...

    def load(self, folder: Path) -> Predictor:
        """Load what `save` wrote. The caller has verified every file before."""
        ...

    def requirements(self, model: Any) -> list[str]:
        """Return the Python packages that loading needs, each pinned (`name==version`), sorted."""
        ...


@runtime_checkable
class TracesRows(Protocol):
    """A flavour that must see the model at work in order to save it."""

    def save_with_rows(self, model: Any, folder: Path, rows: Any) -> list[str]:
        """Save as `Flavour.save` does, with some rows as the predictor takes them."""
        ...


@runtime_checkable
class KnowsInputs(Protocol):
    """A flavour whose models tell what they take."""

    def signature(self, model: Any) -> ModelSignature | None:
        """Return the model's signature; None where this one does not tell."""
        ...


def flavour(name: str) -> Flavour:
    """Return the flavour of that name.

    Raises:
        NotFound: no plug-in of that name is installed.
        MissingExtra: the library it is for is not installed.
    """
    found: Flavour = plugins.load(GROUP, name)
    return found


def flavour_for(model: Any) -> Flavour:
    """Return the flavour that a model is of.

    The most general ones are asked last: the estimators of XGBoost are scikit-learn's too, and many models can be called.
    Those whose library is not installed are not asked: nobody can hold such a model.

    Raises:
        InvalidInput: no installed flavour knows this kind of object.
    """
    general = ("sklearn", "callable")
    names = sorted(plugins.discover(GROUP), key=lambda name: (general.index(name) + 1 if name in general else 0, name))
    for name in names:
        with contextlib.suppress(MissingExtra):
            candidate = flavour(name)
            if candidate.detect(model):
                return candidate
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    raise InvalidInput(
        f"No installed flavour knows how to save an object of type {kind}.",
        hint=f"Installed are: {', '.join(names) or 'none'}. Pass a fitted estimator, or a function that predicts.",
    )

"""Ensembles of models in memory: `ModelEnsemble`."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.compositions import (
    ENSEMBLE,
    FINAL,
    Composition,
    Member,
    Method,
    agreed_inputs,
    agreed_outputs,
    check_weights,
)
from modelops.domains.models.ensembles.chains import ChainPredictor
from modelops.domains.models.ensembles.flavour import put_together
from modelops.domains.models.ensembles.members import Loaded, in_order
from modelops.domains.models.ensembles.predictors import EnsemblePredictor, StackFeatures
from modelops.domains.models.schemas import ModelSignature, ModelVersion
from modelops.sdk.client import Client
from modelops.sdk.parts import Part
from modelops.sdk.registry import ModelRegistry
from modelops.sdk.stacking import default_final, fitted, out_of_fold, stack_classes
from modelops.sdk.wholes import SAID_BY_SERVER, Whole, write_document

_FEATURE_ROWS = 100


class ModelEnsemble(Whole):
    """Several models that give one answer.

    Args:
        models: Registered versions (`name`, `name:3`, `name@alias`) and models in memory. All take the same features.
        method: `average`: the weighted mean of probabilities, where all members give them (a label that a member never
            saw counts 0 with it), else of values. `vote`: the label with the most weight; of several, the least in order
            (numbers by value, then texts). `stack`: a last model is asked, whose features are what the members say.
        weights: One a member; all alike where left out. Not of a stack.
        final_estimator: A stack's last model; by default logistic regression, and for values ridge regression.
        cv: Of a stack: how `fit` comes by what members say of rows they were not fitted on: a number of folds, or a
            splitter of scikit-learn's. "prefit" leaves the members as they are, and fits the last model on what they say
            of the rows given, which none of them must have seen.
        backend: Where the registered versions are: a registry, a client, an address, or None for that of the settings.
            Models in memory need none.
    """

    composed_as = ENSEMBLE

    def __init__(
        self,
        models: Sequence[Any],
        method: Method | Literal["average", "vote", "stack"] = Method.AVERAGE,
        *,
        weights: Sequence[float] | None = None,
        final_estimator: Any = None,
        cv: Any = 5,
        backend: ModelRegistry | Client | str | None = None,
    ) -> None:
        if len(models) < 2:
            raise InvalidInput("An ensemble has two members or more.")
        self.method = Method(method)
        if self.method is Method.STACK and weights is not None:
            raise InvalidInput("A stack has no weights: its last model finds them.")
        super().__init__(models, "the member", check_weights(weights, len(models)), backend)
        self._final_estimator, self._cv = final_estimator, cv
        self._final: Part | None = None
        self._stacked: list[Any] | None = None
        self._features: Any = None

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Fit it, as stacked generalisation does (Wolpert 1992, "Stacked Generalization", Neural Networks 5).

        Copies of the members are fitted, those of registered versions, too, which then are members in memory. The last
        model of a stack is fitted on what members said of rows that they had not seen: by cross-validation, after which
        each is fitted on all rows.

        Args:
            X: A frame or an array, shape (rows, features).
            y: Labels or values, shape (rows,).

        Raises:
            InvalidInput: a member cannot be fitted again, or a stack's classifier gives no probabilities.
        """
        if self.method is not Method.STACK:
            self._parts = [part.refitted(X, y) for part in self._parts]
            self._forget()
            return self
        if self._cv == "prefit":
            loaded = self._loaded()
            self._stacked = stack_classes(loaded)
            features = StackFeatures(loaded, self._stacked)(
                self._rows(X, any(m.predictor.wants_columns for m in loaded))
            )
        else:
            models = [part.estimator() for part in self._parts]
            features, self._stacked = out_of_fold(models, X, y, self._cv, [part.label for part in self._parts])
            self._parts = [part.refitted(X, y) for part in self._parts]
        last = self._final_estimator if self._final_estimator is not None else default_final(self._stacked)
        self._final = Part(fitted(last, features, y), "the last model", 0, 1.0, lambda: self._registry)
        self._features = features[np.linspace(0, len(features) - 1, min(len(features), _FEATURE_ROWS)).astype(int)]
        self._forget()
        return self

    def register(self, name: str, *, sample: Any = None, **facts: Any) -> ModelVersion:
        """Register it as the next version of `name`, with its members' packages in its own.

        Where every member is registered and nothing but texts is said of the whole, no file is sent at all.

        Args:
            name: The model's name.
            sample: Rows it was trained on, as `ModelRegistry.register_model` takes them.
            facts: What else `ModelRegistry.register_model` takes.
        """
        if (
            sample is None
            and self._all_registered()
            and self.method is not Method.STACK
            and facts.keys() <= SAID_BY_SERVER
        ):
            refs, weights = [version.id for version in self.versions], [part.weight for part in self._parts]
            return self._registry.client.models.register_ensemble(
                name, refs, method=self.method, weights=weights, **facts
            )
        self._check_fitted()
        return self._register(name, sample, facts)

    def write(self, folder: Path, rows: Any = None) -> list[str]:
        """Write the members' packages and `ensemble.json` into a folder; `rows` are some that it takes."""
        self._check_fitted()
        names = self._named or self.feature_names_in_
        members = []
        for place, part in enumerate(self._parts):
            own = (
                part.names if part.names is not None and names is not None and set(part.names) == set(names) else names
            )
            members.append(part.write(folder / f"members/{place}", _ordered(rows, names, own), own))
        final = None
        if self._final is not None:
            columns = [f"said_{index}" for index in range(self._features.shape[1])]
            final = self._final.write(folder / FINAL, self._features, columns)
        document = Composition(kind=ENSEMBLE, method=self.method, members=members, final=final, classes=self._stacked)
        return write_document(folder, document)

    def inputs(self) -> ModelSignature | None:
        """Return what it takes, as its registered members tell; None where none is."""
        told = [(f"{version.name}:{version.version}", version.signature) for version in self.versions]
        if not told:
            return None
        outputs = [] if self.method is Method.STACK else agreed_outputs(self.method, [one.outputs for _, one in told])
        return ModelSignature(inputs=agreed_inputs(told), outputs=outputs)

    def _every_part(self) -> list[Part]:
        return [*self._parts, *([self._final] if self._final is not None else [])]

    def _check_fitted(self) -> None:
        if self.method is Method.STACK and self._final is None:
            raise InvalidInput(
                "The stack is not fitted.", hint="Call `fit` first: its last model learns from the members."
            )

    def _loaded(self) -> list[Loaded]:
        self.inputs()  # which refuses members that do not fit together
        return in_order([part.loaded for part in self._parts])

    @cached_property
    def _asked(self) -> EnsemblePredictor | ChainPredictor:
        self._check_fitted()
        final = None if self._final is None else self._final.loaded
        parts = [Member(flavour="memory", label=part.label) for part in self._parts]
        last = None if final is None else Member(flavour="memory", label=final.label)
        whole = Composition(kind=ENSEMBLE, method=self.method, members=parts, final=last, classes=self._stacked)
        return put_together(whole, self._loaded(), final)

    def _predictor(self) -> EnsemblePredictor | ChainPredictor:
        return self._asked

    def _forget(self) -> None:
        vars(self).pop("_asked", None)


def _ordered(rows: Any, names: list[str] | None, own: list[str] | None) -> Any:
    if rows is None or names is None or own is None or names == own:
        return rows
    if isinstance(rows, dict):
        return {name: rows[name] for name in own}
    return rows[:, [names.index(name) for name in own]]

"""Explaining predictions: which method fits the model, and the check that what it says adds up."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from modelops.contracts.errors import DeploymentError, InvalidInput, MLOpsError
from modelops.domains.models.flavours import Predictor
from modelops.domains.models.instances import check_instances
from modelops.domains.models.schemas import ModelSignature
from modelops.domains.serving.schemas import ExplainMethod
from modelops.runtime.serving.explaining.attributions import Attribution, LinearShap, Method, TreeShap, target_of
from modelops.runtime.serving.explaining.background import Encoder
from modelops.runtime.serving.explaining.boosting import BoosterShap
from modelops.runtime.serving.explaining.explained import RowCache, row_keys
from modelops.runtime.serving.explaining.sampling import (
    EXACT_EVALUATIONS,
    MOST_HELD,
    Asking,
    ExactShap,
    SampledShap,
    cost_of_all,
)
from modelops.runtime.serving.explaining.turns import Turns
from modelops.runtime.serving.explaining.wishes import MOST_EVALUATIONS, Wish

TOLERANCE = 1e-6
"""How far base value plus attributions may be from the model's output, relative to outputs above 1."""

_MOST_BACKGROUND_ROWS, _MOST_METHODS = 100, 8

_log = logging.getLogger(__name__)


_AS_USUAL = Wish()


class Explainer:
    """Explains one model. Not thread-safe: a runtime gives it one thread of its own.

    What is made for a method stays, and so do the latest rows' explanations.

    Args:
        sample: Rows of training data that explanations compare with; trees need none.
        turns: What cuts the work into turns.
    """

    def __init__(
        self,
        predictor: Predictor,
        signature: ModelSignature,
        sample: list[list[Any]] | None,
        turns: Turns | None = None,
    ) -> None:
        self._predictor, self._signature = predictor, signature
        self._turns = turns or Turns()
        self._encoder = Encoder(signature)
        self._background = self._encode_sample(sample[:_MOST_BACKGROUND_ROWS]) if sample else None
        self._asking: Asking | None = None
        self._methods: OrderedDict[tuple[ExplainMethod, int | None], Method] = OrderedDict()
        self._proven: set[ExplainMethod] = set()
        self._unfit: set[ExplainMethod] = set()
        self._rows = RowCache()

    def explain(self, instances: Any, wish: Wish = _AS_USUAL) -> dict[str, Any]:
        """Return the members of `Explanations` that come from the model.

        The first call makes what the method needs, which takes seconds for trees.

        Raises:
            InvalidInput: the rows do not fit the signature, there are more than the method takes, the method does not fit
                the model, or the budget is too small or too great.
            DeploymentError: the model cannot be explained, or only with a background sample that the package lacks.
            DeadlineExceeded: the turns' deadline came.
            Unavailable: the turns were ended.
        """
        rows = check_instances(self._signature, instances, columns=self._predictor.wants_columns)
        matrix = self._encoder.encode(rows)
        method, attribution = self._attribute(matrix, row_keys(rows), wish)
        errors = attribution.errors
        return {
            "feature_names": [feature.name for feature in self._signature.inputs],
            "outputs": _output_names(method.outputs, attribution.values.shape[1]),
            "base_values": attribution.base.tolist(),
            "attributions": attribution.values.tolist(),
            "standard_errors": None if errors is None else errors.tolist(),
            "explains": method.explains,
            "method": method.name,
            "evaluations": method.evaluations,
        }

    def _attribute(self, matrix: Any, keys: list[bytes], wish: Wish) -> tuple[Method, Attribution]:
        for name, build in self._candidates(wish):
            try:
                method = self._made(name, wish, build)
                attribution = self._through(method, matrix, keys)
            except MLOpsError:
                raise
            except _DoesNotAddUp as wrong:
                _log.info("the model or these rows do not suit the method '%s': %s", name, wrong)
            except Exception:
                _log.warning("the method '%s' failed, and the next is tried", name, exc_info=True)
            else:
                self._proven.add(name)
                return method, attribution
            if name not in self._proven:
                self._unfit.add(name)
        raise self._inexplicable(wish)

    def _through(self, method: Method, matrix: Any, keys: list[bytes]) -> Attribution:
        if len(keys) > method.max_rows:
            raise InvalidInput(
                f"There are {len(keys):,} rows to explain; the method for this model takes {method.max_rows:,} at once.",
                hint="Send them in several requests.",
            )
        return self._rows.through(method, keys, lambda fresh: _checked(method.attribute(matrix[fresh], self._turns)))

    def _made(self, name: ExplainMethod, wish: Wish, build: Callable[[], Method]) -> Method:
        """Return the method, made once. Of those that depend on the budget a few are kept."""
        key = (name, wish.max_evaluations if name is ExplainMethod.PERMUTATION else None)
        if key not in self._methods:
            self._methods[key] = build()
            if len(self._methods) > _MOST_METHODS:
                self._methods.popitem(last=False)
        self._methods.move_to_end(key)
        return self._methods[key]

    def _candidates(self, wish: Wish) -> list[tuple[ExplainMethod, Callable[[], Method]]]:
        """Return the methods to try, the cheapest first, or the one that is wanted."""
        fitting = self._fitting(wish)
        if wish.method is None:
            return list(fitting.items())
        if wish.method not in fitting:
            raise InvalidInput(
                f"The method '{wish.method}' is not for this model, a {type(self._predictor.model).__name__}"
                f"{'' if wish.max_evaluations is None else ', within these evaluations'}.",
                hint=f"These are: {', '.join(fitting)}." if fitting else "No other is, either.",
            )
        return [(wish.method, fitting[wish.method])]

    def _fitting(self, wish: Wish) -> dict[ExplainMethod, Callable[[], Method]]:
        """Return the methods that fit the model, the cheapest first, and what makes them."""
        predictor = self._predictor
        fitting: dict[ExplainMethod, Callable[[], Method]] = {}
        if TreeShap.suits(predictor):
            fitting[ExplainMethod.TREE] = lambda: TreeShap(predictor)
        elif BoosterShap.suits(predictor):
            fitting[ExplainMethod.TREE] = lambda: BoosterShap(predictor, len(self._signature.inputs))
        if self._background is None:
            if not fitting:
                raise DeploymentError(
                    "Explaining this model needs rows to compare with, and its package has no `sample.json`.",
                    hint="Register the version again with example data; up to 100 rows of it are kept in the package.",
                )
            return fitting
        if LinearShap.suits(predictor):
            fitting[ExplainMethod.LINEAR] = lambda: LinearShap(predictor, self._background)
        budget = wish.max_evaluations or (MOST_EVALUATIONS if wish.method else EXACT_EVALUATIONS)
        if cost_of_all(len(self._signature.inputs), len(self._background)) <= min(budget, self._most()):
            fitting[ExplainMethod.EXACT] = lambda: ExactShap(self._ask())
        fitting[ExplainMethod.PERMUTATION] = lambda: SampledShap(self._ask(), self._budget(wish))
        return {name: build for name, build in fitting.items() if name not in self._unfit}

    def _budget(self, wish: Wish) -> int | None:
        if wish.max_evaluations is not None and wish.max_evaluations > self._most():
            raise InvalidInput(
                f"{wish.max_evaluations:,} evaluations are too many for a model with "
                f"{len(self._ask().target.outputs):,} outputs.",
                hint=f"Allow at most {self._most():,} in `max_evaluations`.",
            )
        return wish.max_evaluations

    def _most(self) -> int:
        return min(MOST_EVALUATIONS, MOST_HELD // len(self._predictor.classes or [None]))

    def _ask(self) -> Asking:
        if self._asking is None:
            self._asking = Asking(target_of(self._predictor, self._encoder.decode), self._background)
        return self._asking

    def _encode_sample(self, sample: list[list[Any]]) -> Any:
        rows = check_instances(self._signature, sample, columns=self._predictor.wants_columns)
        return self._encoder.encode_background(rows)

    def _inexplicable(self, wish: Wish) -> DeploymentError:
        kind = type(self._predictor.model).__name__
        what = f"cannot be explained by the method '{wish.method}'" if wish.method else "cannot be explained"
        return DeploymentError(
            f"Models of type {kind} {what}.",
            hint="The replica's log tells which methods were tried and why they do not fit.",
        )


class _DoesNotAddUp(Exception):
    """The attributions of this method are not those of this model."""


def _checked(found: Attribution) -> Attribution:
    off = np.abs(found.base + found.values.sum(axis=2) - found.outputs)
    if not np.all(off <= TOLERANCE * np.maximum(1.0, np.abs(found.outputs))):
        raise _DoesNotAddUp(f"it is off by up to {np.nanmax(off)}")
    return found


def _output_names(names: list[str], count: int) -> list[str]:
    return names if len(names) == count else [f"{names[0]}_{index}" for index in range(count)]

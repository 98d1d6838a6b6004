"""Explaining predictions: which method fits the model, and the check that what it says adds up."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from modelops.contracts.errors import DeploymentError, InvalidInput, MLOpsError
from modelops.domains.models.flavours import Predictor
from modelops.domains.models.instances import check_instances
from modelops.domains.models.schemas import ModelSignature
from modelops.runtime.serving.attributions import AgnosticShap, Attribution, LinearShap, Method, TreeShap, target_of
from modelops.runtime.serving.background import Encoder

TOLERANCE = 1e-6
"""How far base value plus attributions may be from the model's output, relative to outputs above 1."""

_MOST_BACKGROUND_ROWS = 100

_log = logging.getLogger(__name__)


class Explainer:
    """Explains one model. Not thread-safe: a runtime gives it one thread of its own.

    Args:
        sample: Rows of training data that explanations compare with; trees need none.
    """

    def __init__(self, predictor: Predictor, signature: ModelSignature, sample: list[list[Any]] | None) -> None:
        self._predictor, self._signature = predictor, signature
        self._encoder = Encoder(signature)
        self._background = self._encode_sample(sample[:_MOST_BACKGROUND_ROWS]) if sample else None
        self._method: Method | None = None

    def explain(self, instances: Any) -> dict[str, Any]:
        """Return the members of `Explanations` that come from the model.

        The first call imports SHAP and chooses a method, which takes seconds.

        Raises:
            InvalidInput: the rows do not fit the signature, or there are more than the method takes.
            DeploymentError: the model cannot be explained, or only with a background sample that the package lacks.
        """
        rows = check_instances(self._signature, instances, columns=self._predictor.wants_columns)
        matrix = self._encoder.encode(rows)
        method, attribution = self._attribute(matrix)
        return {
            "feature_names": [feature.name for feature in self._signature.inputs],
            "outputs": _output_names(method.outputs, attribution.values.shape[1]),
            "base_values": attribution.base.tolist(),
            "attributions": attribution.values.tolist(),
            "explains": method.explains,
            "method": method.name,
        }

    def _attribute(self, matrix: Any) -> tuple[Method, Attribution]:
        for build in self._candidates():
            try:
                method = build()
                attribution = _checked(method, matrix)
            except MLOpsError:
                raise
            except _DoesNotAddUp as wrong:
                _log.info("the model or these rows do not suit this method of explaining: %s", wrong)
                continue
            except Exception:
                _log.warning("a method of explaining failed, and the next is tried", exc_info=True)
                continue
            self._method = method
            return method, attribution
        raise DeploymentError(
            f"Models of type {type(self._predictor.model).__name__} cannot be explained.",
            hint="The replica's log tells which methods were tried and why they do not fit.",
        )

    def _candidates(self) -> Iterator[Callable[[], Method]]:
        predictor, chosen = self._predictor, self._method
        if chosen is not None:
            yield lambda: chosen
        if TreeShap.suits(predictor):
            yield lambda: TreeShap(predictor)
        if LinearShap.suits(predictor):
            yield lambda: LinearShap(predictor, self._needed_background())
        yield lambda: AgnosticShap(target_of(predictor, self._encoder.decode), self._needed_background())

    def _needed_background(self) -> Any:
        if self._background is None:
            raise DeploymentError(
                "Explaining this model needs rows to compare with, and its package has no `sample.json`.",
                hint="Register the version again with example data; up to 100 rows of it are kept in the package.",
            )
        return self._background

    def _encode_sample(self, sample: list[list[Any]]) -> Any:
        rows = check_instances(self._signature, sample, columns=self._predictor.wants_columns)
        return self._encoder.encode_background(rows)


class _DoesNotAddUp(Exception):
    """The attributions of this method are not those of this model."""


def _checked(method: Method, matrix: Any) -> Attribution:
    if len(matrix) > method.max_rows:
        raise InvalidInput(
            f"There are {len(matrix):,} rows to explain; the method for this model takes {method.max_rows:,} at once.",
            hint="Send them in several requests.",
        )
    found = method.attribute(matrix)
    off = np.abs(found.base + found.values.sum(axis=2) - found.outputs)
    if not np.all(off <= TOLERANCE * np.maximum(1.0, np.abs(found.outputs))):
        raise _DoesNotAddUp(f"'{method.name}' is off by up to {np.nanmax(off)}")
    return found


def _output_names(names: list[str], count: int) -> list[str]:
    return names if len(names) == count else [f"{names[0]}_{index}" for index in range(count)]

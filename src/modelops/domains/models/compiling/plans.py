"""What is known of a model: which steps come first, and whether its last one is linear or made of trees."""

from dataclasses import dataclass
from typing import Any

from modelops.domains.models.compiling.boosters import read_lightgbm, read_xgboost
from modelops.domains.models.compiling.forests import Forest, read_sklearn
from modelops.domains.models.compiling.linear import Linear, Scaling, read_linear, read_scaling
from modelops.domains.models.compiling.scores import Scores
from modelops.domains.models.flavours import Predictor
from modelops.domains.models.flavours.rows import is_of


@dataclass(frozen=True)
class Plan:
    """A model, taken apart.

    Attributes:
        model: The native object.
        features: How many columns it takes.
        classes: What the columns of its probabilities stand for; None where it gives none.
        names: The names it was fitted with; None where it kept none.
        before: The steps of a Pipeline before its last one; None where it has none.
        scaling: What these steps do to numbers; None where that takes more than arithmetic.
        linear: The last step's weights, where it is linear.
        forest: The last step's trees, where it has such.
        scores: What becomes of the scores of either.
    """

    model: Any
    features: int
    classes: list[Any] | None
    names: list[str] | None
    before: Any
    scaling: Scaling | None
    linear: Linear | None
    forest: Forest | None
    scores: Scores | None


def plan_of(predictor: Predictor, features: int) -> Plan:
    """Take a loaded model apart."""
    model, before, scaling = predictor.model, None, read_scaling([])
    last = model
    if is_of(model, "sklearn", "Pipeline"):
        steps = [step for _, step in model.steps]
        last, scaling = steps[-1], read_scaling(steps[:-1])
        before = model[:-1] if len(steps) > 1 else None
    linear = read_linear(last)
    forest = None if linear is not None else _forest(last, predictor)
    found = linear or forest
    return Plan(
        model=model,
        features=features,
        classes=predictor.classes,
        names=predictor.feature_names,
        before=before,
        scaling=scaling,
        linear=None if linear is None else linear[0],
        forest=None if forest is None else forest[0],
        scores=None if found is None else found[1],
    )


def _forest(model: Any, predictor: Predictor) -> tuple[Forest, Scores] | None:
    if is_of(model, "lightgbm", "Booster", "LGBMModel"):
        return read_lightgbm(model, predictor.classes)
    if is_of(model, "xgboost", "Booster", "XGBModel"):
        return read_xgboost(model, predictor.classes)
    return read_sklearn(model) if type(model).__module__.startswith("sklearn.") else None

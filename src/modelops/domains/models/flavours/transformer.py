"""scikit-learn's transformers: what turns rows into other rows, for the steps of a chain."""

from pathlib import Path
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.flavours import pickling
from modelops.domains.models.flavours.sklearn import SklearnPredictor
from modelops.domains.models.flavours.sklearn import flavour as estimators

_FILE = "model.pkl"


class TransformerPredictor(SklearnPredictor):
    """A fitted transformer, whose predictions are the rows it makes."""

    def predict(self, rows: Any) -> Any:
        """Return what the transformer makes of the rows, shape (rows, columns)."""
        made = self.model.transform(self.table(rows))
        return made.toarray() if hasattr(made, "toarray") else made

    def answer(self, rows: Any) -> tuple[Any, Any]:
        """Return the rows it makes; there are no probabilities."""
        return self.predict(rows), None


class TransformerFlavour:
    """Saves estimators that transform and do not predict."""

    name = "transformer"

    def detect(self, model: Any) -> bool:
        """Tell whether `model` is an estimator that transforms and does not predict."""
        return estimators.detect(model) and hasattr(model, "transform") and not hasattr(model, "predict")

    def save(self, model: Any, folder: Path) -> list[str]:
        """Write `model.pkl`. A transformer that was not fitted is refused."""
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted

        try:
            check_is_fitted(model)
        except NotFittedError as wrong:
            raise InvalidInput(
                f"The {type(model).__name__} is not fitted.", hint="Call `fit` before saving it."
            ) from wrong
        pickling.dump(model, folder / _FILE)
        return [_FILE]

    def load(self, folder: Path) -> TransformerPredictor:
        """Load the transformer."""
        model = pickling.load(folder / _FILE)
        if not self.detect(model):
            raise InvalidInput(f"The package's {_FILE} holds no transformer but a {type(model).__name__}.")
        return TransformerPredictor(model)

    def requirements(self, model: Any) -> list[str]:
        """Return what an estimator needs."""
        return estimators.requirements(model)


flavour = TransformerFlavour()

"""MLlib: models that Spark trained, kept as numbers and computed by NumPy. Serving them needs neither Spark nor Java."""

from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.flavours import pickling
from modelops.domains.models.mllib import MllibModel
from modelops.domains.models.mllib.inputs import TextInput

_FILE = "model.json"


class MllibPredictor:
    """A model as a document."""

    bounded: Literal[True] = True

    def __init__(self, model: MllibModel) -> None:
        self.model = model
        self.feature_names: list[str] | None = [one.name for one in model.inputs]
        self.wants_columns = any(isinstance(one, TextInput) for one in model.inputs)
        self.classes: list[Any] | None = list(model.classes) if model.classes is not None and model.calibrated else None

    def predict(self, rows: Any) -> Any:
        """Return numbers, classes or clusters, shape (rows,)."""
        return self.model.predict(rows)

    def predict_proba(self, rows: Any) -> Any:
        """Return class probabilities, shape (rows, classes), or None."""
        return None if self.classes is None else self.model.scores(rows)

    def answer(self, rows: Any) -> tuple[Any, Any]:
        """Return predictions and probabilities of one computation."""
        scores = self.model.scores(rows)
        return self.model.decided(scores), None if self.classes is None else scores


class MllibFlavour:
    """Saves `MllibModel`, which the recipes of Spark's engine make."""

    name = "mllib"

    def detect(self, model: Any) -> bool:
        """Tell whether `model` is such a document."""
        return isinstance(model, MllibModel)

    def save(self, model: Any, folder: Path) -> list[str]:
        """Write `model.json`, which holds numbers and names, and no code."""
        (folder / _FILE).write_text(model.model_dump_json(), encoding="utf-8")
        return [_FILE]

    def load(self, folder: Path) -> MllibPredictor:
        """Load the document."""
        try:
            model = MllibModel.model_validate_json((folder / _FILE).read_bytes())
        except ValidationError as wrong:
            raise InvalidInput(f"The package's {_FILE} is no model of MLlib's: {wrong.errors()[0]['msg']}.") from wrong
        return MllibPredictor(model)

    def requirements(self, model: Any) -> list[str]:
        """Return NumPy."""
        return pickling.pinned({"numpy"})


flavour = MllibFlavour()

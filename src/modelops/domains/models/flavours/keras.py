"""Keras 3: models in its own `.keras` archive, loaded in safe mode on whichever backend is installed."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np

from modelops.contracts.errors import InvalidInput, MissingExtra
from modelops.domains.models.flavours import pickling
from modelops.domains.models.flavours.rows import is_of, matrix, one_a_row

FILE = "model.keras"

_BACKENDS = {"torch": "torch", "jax": "jax", "tensorflow": "tensorflow"}


class KerasPredictor:
    """A model that takes one array of shape (rows, features), as float32, and gives one with an entry a row."""

    classes: list[Any] | None = None
    feature_names: list[str] | None = None
    wants_columns = False

    def __init__(self, model: Any) -> None:
        self.model = model

    def predict(self, rows: Any) -> Any:
        """Return the model's output, shape (rows,) or (rows, outputs)."""
        # Not `Model.predict`, which keeps state between calls and so is for one thread at a time.
        said = self.model(matrix(rows, None, np.float32), training=False)
        return one_a_row(_plain(said))

    def predict_proba(self, rows: Any) -> Any:
        """Return None: a model does not say what its outputs stand for."""
        return None


class KerasFlavour:
    """Saves `keras.Model`."""

    name = "keras"

    def detect(self, model: Any) -> bool:
        """Tell whether `model` is a model of Keras 3."""
        return is_of(model, "keras", "Model")

    def save(self, model: Any, folder: Path) -> list[str]:
        """Write `model.keras`. Layers of Python code are refused: safe mode would not load them.

        Raises:
            InvalidInput: the model was not built, or has a `Lambda` layer.
        """
        if not model.built:
            raise InvalidInput("The model is not built.", hint="Give it an `Input`, or call it once.")
        coded = [layer.name for layer in _layers(model) if is_of(layer, "keras", "Lambda")]
        if coded:
            raise InvalidInput(
                f"The layers {', '.join(coded[:5])} hold Python code.",
                hint="Write them as subclasses of Layer in an installed package, or register a function that calls it.",
            )
        model.save(folder / FILE)
        return [FILE]

    def load(self, folder: Path) -> KerasPredictor:
        """Load the model, without its optimiser."""
        return read(folder / FILE)

    def requirements(self, model: Any) -> list[str]:
        """Return Keras, NumPy and the backend in use."""
        return pickling.pinned({"keras", "numpy", _imported().backend.backend()})


def read(path: Path) -> KerasPredictor:
    """Load a `.keras` archive.

    Raises:
        InvalidInput: it is none, or holds code.
    """
    keras = _imported()
    try:
        return KerasPredictor(keras.saving.load_model(path, compile=False, safe_mode=True))
    except (ValueError, TypeError, KeyError, OSError) as wrong:
        raise InvalidInput(f"Keras cannot load '{path.name}': {str(wrong)[:300]}.") from wrong


def _imported() -> Any:
    # Keras takes TensorFlow where it is told nothing, also where that is not installed.
    if "KERAS_BACKEND" not in os.environ:
        installed = [name for name, module in _BACKENDS.items() if importlib.util.find_spec(module) is not None]
        if not installed:
            raise MissingExtra(
                f"Keras needs one of {', '.join(_BACKENDS)}, and none is installed.",
                hint='Install one, for example `pip install "modelops[torch,keras]"`.',
            )
        os.environ["KERAS_BACKEND"] = installed[0]
    import keras

    return keras


def _plain(said: Any) -> Any:
    if isinstance(said, list | tuple | dict):
        raise InvalidInput(f"The model gives a {type(said).__name__} of outputs, and a single one is needed.")
    if hasattr(said, "detach"):
        said = said.detach().cpu()
    return np.asarray(said)


def _layers(model: Any) -> list[Any]:
    inner = [layer for layer in getattr(model, "layers", []) for layer in _layers(layer)]
    return [model, *inner]


flavour = KerasFlavour()

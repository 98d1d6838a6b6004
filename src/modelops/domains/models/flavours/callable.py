"""Any Python callable that takes rows and returns a prediction for each."""

import sys
from inspect import Parameter, signature
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.flavours import pickling

_FILE = "model.pkl"


class CallablePredictor:
    """Calls the function with an array of shape (rows, features), or with a list of objects by feature name.

    It gets objects where a feature is not a number, or where its first parameter is annotated with `dict` or `Mapping`
    (`list[dict[str, float]]`, say); else the array.
    """

    classes: list[Any] | None = None

    def __init__(self, model: Any) -> None:
        self.model = model
        self.feature_names: list[str] | None = None
        self.wants_columns = _wants_records(model)

    def predict(self, rows: Any) -> Any:
        """Return what the function returns for the rows."""
        return self.model(_records(rows) if isinstance(rows, dict) else rows)

    def predict_proba(self, rows: Any) -> Any:
        """Return None: a function gives no probabilities of its own."""
        return None


class CallableFlavour:
    """Saves functions, and objects with `__call__`, together with their code."""

    name = "callable"

    def detect(self, model: Any) -> bool:
        """Tell whether `model` can be called and is not a class."""
        return callable(model) and not isinstance(model, type)

    def save(self, model: Any, folder: Path) -> list[str]:
        """Write `model.pkl`. Code of the author's own modules goes along by value."""
        pickling.dump(model, folder / _FILE)
        return [_FILE]

    def load(self, folder: Path) -> CallablePredictor:
        """Load the callable."""
        model = pickling.load(folder / _FILE)
        if not self.detect(model):
            raise InvalidInput(f"The package's {_FILE} holds nothing to call but a {type(model).__name__}.")
        return CallablePredictor(model)

    def requirements(self, model: Any) -> list[str]:
        """Return cloudpickle, and the packages whose modules the function refers to."""
        return pickling.pinned({"cloudpickle", "numpy", *_modules(model)})


def _modules(model: Any) -> set[str]:
    """Return the modules that the function, and what it names, come from."""
    function = _function(model)
    scope = getattr(function, "__globals__", {})
    code = getattr(function, "__code__", None)
    used = [scope[name] for name in (_names(code) if code is not None else set()) if name in scope]
    parts = [model, type(model), *used, *_enclosed(function)]
    found = {part.__name__ if isinstance(part, ModuleType) else getattr(part, "__module__", None) for part in parts}
    return {name for name in found if isinstance(name, str) and name in sys.modules and name != "builtins"}


def _function(model: Any) -> Any:
    is_function = hasattr(model, "__code__") or hasattr(model, "__func__")
    method = model if is_function else vars(type(model)).get("__call__", model)
    return getattr(method, "__func__", method)


def _names(code: CodeType) -> set[str]:
    inner = [part for part in code.co_consts if isinstance(part, CodeType)]
    return set(code.co_names).union(*(_names(part) for part in inner))


def _enclosed(function: Any) -> list[Any]:
    return [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]


def _wants_records(model: Any) -> bool:
    try:
        parameters = list(signature(model).parameters.values())
    except (TypeError, ValueError):
        return False
    annotation = parameters[0].annotation if parameters else Parameter.empty
    return any(word in str(annotation).lower() for word in ("dict", "mapping"))


def _records(columns: dict[str, Any]) -> list[dict[str, Any]]:
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*(columns[name].tolist() for name in names), strict=True)]


flavour = CallableFlavour()

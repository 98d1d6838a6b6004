"""PyTorch: modules, kept as the graph that `torch.export` traces. It holds operators and weights, and no Python code.

Source of the format: https://docs.pytorch.org/docs/stable/export.html
"""

from pathlib import Path
from typing import Any

import numpy as np

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.flavours import pickling
from modelops.domains.models.flavours.rows import is_of, matrix, one_a_row

FILE = "model.pt2"

_TRACED_ROWS = 2  # with a single row, tracing would take the number of rows for a constant


class PyTorchPredictor:
    """A module that takes a float32 tensor of shape (rows, features), and gives one tensor with an entry a row."""

    classes: list[Any] | None = None
    feature_names: list[str] | None = None
    wants_columns = False

    def __init__(self, model: Any) -> None:
        self.model = model

    def predict(self, rows: Any) -> Any:
        """Return the module's output, shape (rows,) or (rows, outputs)."""
        import torch

        with torch.no_grad():
            said = self.model(torch.from_numpy(np.ascontiguousarray(matrix(rows, None, np.float32))))
        if not isinstance(said, torch.Tensor):
            raise InvalidInput(f"The module gives a {type(said).__name__}, and a single tensor is needed.")
        return one_a_row(said.detach().cpu().numpy())

    def predict_proba(self, rows: Any) -> Any:
        """Return None: a module does not say what its outputs stand for."""
        return None


class PyTorchFlavour:
    """Saves `torch.nn.Module` and `torch.export.ExportedProgram`."""

    name = "pytorch"

    def detect(self, model: Any) -> bool:
        """Tell whether `model` is a module or an exported program."""
        # With PyTorch as its backend, a Keras model is a module, too.
        return is_of(model, "torch", "Module", "ExportedProgram") and not is_of(model, "keras", "Model")

    def save(self, model: Any, folder: Path) -> list[str]:
        """Write an exported program as `model.pt2`. A module is traced with rows: see `save_with_rows`."""
        if not is_of(model, "torch", "ExportedProgram"):
            raise InvalidInput(
                f"The module {type(model).__name__} cannot be traced without an example of its inputs.",
                hint="Give `sample`, some rows that it was trained on; or what `torch.export.export` returns.",
            )
        return _write(model, folder)

    def save_with_rows(self, model: Any, folder: Path, rows: Any) -> list[str]:
        """Trace a module with example rows, shape (rows, features), and write `model.pt2`.

        It is traced as it behaves in evaluation, for any number of rows.

        Raises:
            InvalidInput: what the module does depends on the values that it sees, so it has no graph.
        """
        if is_of(model, "torch", "ExportedProgram"):
            return _write(model, folder)
        import torch

        first = np.ascontiguousarray(np.resize(matrix(rows, None, np.float32), (_TRACED_ROWS, _width(rows))))
        was_training = model.training
        try:
            given = (torch.from_numpy(first),)
            model.eval()
            program = torch.export.export(model, given, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        except Exception as wrong:
            raise InvalidInput(
                f"The module {type(model).__name__} cannot be exported: {str(wrong)[:300]}.",
                hint="Its `forward` takes one float32 tensor (rows, features); see `torch.export`. "
                "Or register a function that calls it.",
            ) from wrong
        finally:
            model.train(was_training)
        return _write(program, folder)

    def load(self, folder: Path) -> PyTorchPredictor:
        """Load the graph."""
        return read(folder / FILE)

    def requirements(self, model: Any) -> list[str]:
        """Return PyTorch and NumPy."""
        return pickling.pinned({"torch", "numpy"})


def read(path: Path) -> PyTorchPredictor:
    """Load an exported program from a file.

    Raises:
        InvalidInput: it is none.
    """
    import torch

    try:
        return PyTorchPredictor(torch.export.load(path).module())
    except (RuntimeError, ValueError, KeyError, OSError) as wrong:
        raise InvalidInput(f"PyTorch cannot load '{path.name}': {str(wrong)[:300]}.") from wrong


def _write(program: Any, folder: Path) -> list[str]:
    import torch

    torch.export.save(program, folder / FILE)
    return [FILE]


def _width(rows: Any) -> int:
    return len(rows) if isinstance(rows, dict) else int(rows.shape[1])


flavour = PyTorchFlavour()

"""What lets MLflow's `pyfunc` load a package of this platform: its `loader_module`.

`describe_version` names it in the `MLmodel` of versions whose layout MLflow does not know. Needs this package beside MLflow.
"""

from pathlib import Path
from typing import Any

from modelops.domains.models.flavours import Predictor, flavour
from modelops.domains.models.flavours.mlmodel import PYFUNC, read_mlmodel


class _Model:
    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, rows: Any, params: dict[str, Any] | None = None) -> Any:
        """Return predictions for a frame or an array, shape (rows, features)."""
        if self._predictor.wants_columns and hasattr(rows, "columns"):
            return self._predictor.predict({str(name): rows[name].to_numpy() for name in rows.columns})
        return self._predictor.predict(rows.to_numpy() if hasattr(rows, "to_numpy") else rows)


def _load_pyfunc(path: str) -> _Model:
    name = str(read_mlmodel(Path(path)).flavors[PYFUNC]["flavour"])
    return _Model(flavour(name).load(Path(path)))

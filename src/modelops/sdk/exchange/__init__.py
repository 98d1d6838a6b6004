"""Moving experiments and models between this platform and an MLflow store, whichever way.

What belongs here: the two sides, what is moved between them, and proof that it arrived. What never does: a rule of either side.
"""

from modelops.sdk.exchange.moving import Summary, export_mlflow, import_mlflow

__all__ = ["Summary", "export_mlflow", "import_mlflow"]

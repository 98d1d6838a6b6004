"""Save a pickled model as MLflow does, for `mlflow models serve`."""

import os
import pickle
import sys
from pathlib import Path

import mlflow.sklearn

if __name__ == "__main__":
    model = pickle.loads(Path(os.environ["BENCH_MODEL"]).read_bytes())
    mlflow.sklearn.save_model(model, sys.argv[1], serialization_format="cloudpickle")

"""BentoML with adaptive batching: rows as a tensor of known type and shape."""

import os
import pickle
from pathlib import Path
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType, Shape

Rows = Annotated[np.ndarray, Shape((-1, 30)), DType("float64")]


@bentoml.service(
    workers=int(os.environ["BENCH_WORKERS"]),
    traffic={"timeout": 60, "max_concurrency": 2_048},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Service:
    def __init__(self) -> None:
        self.model = pickle.loads(Path(os.environ["BENCH_MODEL"]).read_bytes())

    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=4_096, max_latency_ms=1_000)
    def predict(self, instances: Rows) -> Rows:
        probabilities = self.model.predict_proba(instances)
        labels = self.model.classes_[probabilities.argmax(axis=1)]
        return np.column_stack([labels, probabilities])

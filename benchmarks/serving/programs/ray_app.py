"""Ray Serve with `serve.batch`, its variables for throughput, and no log of accesses."""

import os
import pickle
import signal
import sys
from pathlib import Path

import numpy as np
import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig
from starlette.requests import Request

BATCH, WAIT_S = int(os.environ["BENCH_BATCH"]), float(os.environ["BENCH_WAIT_S"])


@serve.deployment(
    num_replicas=int(os.environ["BENCH_WORKERS"]),
    max_ongoing_requests=512,
    ray_actor_options={"num_cpus": 0.5},
    logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
)
class Model:
    def __init__(self, path: str) -> None:
        self.model = pickle.loads(Path(path).read_bytes())

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT_S, max_concurrent_batches=1)
    async def predict(self, requests: list) -> list:
        rows = [np.array(request["instances"]) for request in requests]
        probabilities = self.model.predict_proba(np.concatenate(rows))
        labels = self.model.classes_[probabilities.argmax(axis=1)]
        ends = np.cumsum([len(some) for some in rows])[:-1]
        return [
            {"predictions": mine.tolist(), "probabilities": chances.tolist()}
            for mine, chances in zip(np.split(labels, ends), np.split(probabilities, ends), strict=True)
        ]

    async def __call__(self, request: Request) -> dict:
        return await self.predict(await request.json())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ray.init(
        num_cpus=4, include_dashboard=False, configure_logging=False, _temp_dir=os.environ["BENCH_FOLDER"] + "/ray"
    )
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=int(sys.argv[1])))
    serve.run(Model.bind(os.environ["BENCH_MODEL"]), route_prefix="/predict")
    try:
        signal.pause()
    finally:
        serve.shutdown()
        ray.shutdown()

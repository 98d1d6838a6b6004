"""LitServe with batching and an API process a core."""

import os
import pickle
import sys
from pathlib import Path

import litserve as ls
import numpy as np


class Api(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.model = pickle.loads(Path(os.environ["BENCH_MODEL"]).read_bytes())

    def decode_request(self, request: dict) -> np.ndarray:
        return np.array(request["instances"])

    def batch(self, inputs: list) -> tuple:
        return np.concatenate(inputs), [len(rows) for rows in inputs]

    def predict(self, batch: tuple) -> tuple:
        rows, sizes = batch
        probabilities = self.model.predict_proba(rows)
        return self.model.classes_[probabilities.argmax(axis=1)], probabilities, sizes

    def unbatch(self, output: tuple) -> list:
        labels, probabilities, sizes = output
        ends = np.cumsum(sizes)[:-1]
        return list(zip(np.split(labels, ends), np.split(probabilities, ends), strict=True))

    def encode_response(self, output: tuple) -> dict:
        labels, probabilities = output
        return {"predictions": labels.tolist(), "probabilities": probabilities.tolist()}


if __name__ == "__main__":
    batch, wait_s = int(os.environ["BENCH_BATCH"]), float(os.environ["BENCH_WAIT_S"])
    server = ls.LitServer(
        Api(max_batch_size=batch, batch_timeout=wait_s),
        accelerator="cpu",
        workers_per_device=int(os.environ["BENCH_WORKERS"]),
        fast_queue=os.environ.get("BENCH_FAST_QUEUE") == "1",
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=int(os.environ["BENCH_API_SERVERS"]),
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )

"""Files of logged predictions, as replicas write them."""

import io
import time

import numpy as np
import pyarrow as pa

from modelops.domains.models.schemas import Feature, ModelSignature
from modelops.runtime.serving.logs.batches import batch_of
from modelops.runtime.serving.logs.logged import About, Entry, Logged
from modelops.runtime.serving.predicting import Answer

FACTS = {"replica": "r-0", "variant": "champion", "model": "numbers", "version": 1, "model_version_id": "mver_1"}


def about(deployment_id, *, classes=(0, 1), revision=1, inputs=True, outputs=True, features=("x0", "x1"), **facts):
    signature = ModelSignature(inputs=[Feature(name=name) for name in features])
    told = {**FACTS, "deployment_id": deployment_id, "revision": revision, **facts}
    return About(told, signature, list(classes) if classes else None, inputs, outputs, 1.0, 2**20)


def batch(about, rows, values=None, *, ids=("r-1",), ago_s=1.0):
    """Return the rows as one batch; each id has as many of them."""
    count, rows = len(rows), np.asarray(rows, dtype=float)
    values = np.arange(count) % 2 if values is None else values
    probabilities = None if about.classes is None else np.full((count, len(about.classes)), 1 / len(about.classes))
    now, each = time.perf_counter(), count // len(ids)
    entries = [Entry(name, place * each, each, now - ago_s) for place, name in enumerate(ids)]
    return batch_of(Logged(about, rows, Answer(values, probabilities), entries, now - ago_s + 0.002))


def stream(*batches):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for one in batches:
            writer.write_batch(one)
    return sink.getvalue()


def send(client, deployment, body, *, source="s-1", sequence=0):
    params = {"source": source, "sequence": sequence}
    return client.rest.request("POST", f"/deployments/{deployment}/prediction-logs", params=params, content=body)

"""FastAPI as its documentation advises: typed bodies, answers written by Pydantic, the model called in the event loop.

A thread per request would only add to the cost, since the model holds the interpreter's lock. It has no batching.
"""

import os
import pickle
from pathlib import Path

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

MODEL = pickle.loads(Path(os.environ["BENCH_MODEL"]).read_bytes())

app = FastAPI()


class Rows(BaseModel):
    instances: list[list[float]]


class Answer(BaseModel):
    predictions: list[int]
    probabilities: list[list[float]]


@app.post("/predict")
async def predict(rows: Rows) -> Answer:
    probabilities = MODEL.predict_proba(np.array(rows.instances))
    labels = MODEL.classes_[probabilities.argmax(axis=1)]
    return Answer(predictions=labels.tolist(), probabilities=probabilities.tolist())


@app.get("/ready")
async def ready() -> dict[str, bool]:
    return {"ready": True}

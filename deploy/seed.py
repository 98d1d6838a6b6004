"""Puts a first dataset, a job and its model into a platform: python deploy/seed.py URL, with a key in MODELOPS_TOKEN."""

import sys
import tempfile
from pathlib import Path

from sklearn.datasets import load_breast_cancer

from modelops.sdk.client import Client


def main(url: str) -> int:
    """Seed a platform, and return the exit code."""
    with Client(url) as client, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "breast-cancer.parquet"
        load_breast_cancer(as_frame=True).frame.to_parquet(file)
        client.data.create_dataset("breast-cancer")
        client.data.create_dataset_version("breast-cancer", file)
        parameters = {"target": "target", "model": "diagnosis"}
        job = client.training.submit_job("tabular-classification", "breast-cancer", parameters=parameters)
        ended = client.training.wait_for_job(job.id, within_s=600)
    sys.stdout.write(f"The job {job.id} {ended.state}; its model is 'diagnosis'.\n")
    return 0 if ended.state == "succeeded" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

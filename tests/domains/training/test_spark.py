"""Jobs on Spark as they really run: on threads of their own, and on a master with a worker that the test starts."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_iris
from tests.runtime.test_flavours import needed

from modelops.domains.training.schemas import JobState, Resources
from modelops.sdk.registry import ModelRegistry
from modelops.testing.process import platform_process
from modelops.testing.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

WITHIN_S = 900.0
"""Java takes a minute to begin where others use the machine."""

NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


@pytest.fixture(scope="module", autouse=True)
def _spark_is_here():
    needed("pyspark")


def iris():
    table = load_iris(as_frame=True)
    columns = {name: table.data.iloc[:, place].to_numpy() for place, name in enumerate(NAMES)}
    kinds = np.array(["setosa", "versicolor", "virginica"])[table.target.to_numpy()]
    return pa.table({**columns, "kind": pa.array(kinds.tolist())})


@contextmanager
def platform(home, **settings):
    """Run a platform that has the irises."""
    with platform_process(home, controller_interval_s="0.1", **settings) as process, process.client() as client:
        file = home.parent / "iris.parquet"
        pq.write_table(iris(), file)
        client.data.create_dataset("iris")
        client.data.create_dataset_version("iris", file, format="parquet")
        yield client


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with platform(tmp_path_factory.mktemp("spark") / "home") as opened:
        yield opened


def finished(client, job):
    job = client.training.wait_for_job(job.id, within_s=WITHIN_S)
    assert job.state is JobState.SUCCEEDED, client.training.get_job_log(job.id).text[-4_000:]
    return job


def test_every_algorithm_is_exported_as_numbers_that_say_what_spark_says(tmp_path):
    program = Path(__file__).with_name("mllib_everything.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(program), str(tmp_path)], capture_output=True, text=True, timeout=WITHIN_S
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(said) == 19
    assert {one["rows"] for one in said} == {120}
    # A mixture of so few rows may put them all into one cluster.
    assert all(one["distinct"] > 1 for one in said if one["what"] != "gaussian_mixture")


def test_candidates_are_judged_and_the_best_is_served_without_spark(client):
    parameters = {
        "target": "kind",
        "model": "iris",
        "trees": 5,
        "folds": 2,
        "algorithms": ["random_forest", "naive_bayes"],
    }
    job = client.training.submit_job(
        "spark-classification", "iris", parameters=parameters, resources=Resources(cpus=2, memory_mb=2048)
    )
    job = finished(client, job)
    board = job.result.summary["leaderboard"]
    assert {one["candidate"] for one in board} == {"random_forest", "naive_bayes"}
    assert board[0]["mean"] == job.result.metrics["accuracy"] > 0.85
    runs = client.experiments.list_runs(filter=f'job_id = "{job.id}"').items
    assert sorted((run.name, run.status) for run in runs) == [
        ("naive_bayes", "finished"),
        ("random_forest", "finished"),
    ]
    checkpoints = client.training.list_job_artifacts(job.id, role="checkpoint").items
    assert [one.step for one in checkpoints] == [2, 1]
    assert client.models.get_version("iris", 1).flavour == "mllib"
    model, table = ModelRegistry(client).load_model("iris"), iris()
    said = model.predict(np.column_stack([table[name].to_numpy() for name in NAMES]))
    assert np.mean(np.asarray(said) == np.array(table["kind"].to_pylist())) > 0.9


def test_an_attempt_that_was_lost_is_taken_up_with_the_candidates_that_are_left(client):
    parameters = {"model": "groups", "features": NAMES, "clusters": [2, 3, 4]}
    job = client.training.submit_job("spark-clustering", "iris", parameters=parameters)
    wait_for(lambda: client.training.list_job_artifacts(job.id, role="checkpoint").items, within_s=WITHIN_S)
    trainer = next(one for one in of_job(job) if "train" in one.cmdline())
    psutil.Process(trainer.ppid()).send_signal(signal.SIGKILL)
    job = finished(client, job)
    assert job.attempt == 2
    assert "kmeans-2: judged by an earlier attempt" in client.training.get_job_log(job.id).text
    board = job.result.summary["leaderboard"]
    assert {one["candidate"] for one in board} == {"kmeans-2", "kmeans-3", "kmeans-4"}
    clusters = (
        ModelRegistry(client).load_model("groups").predict(np.array([[5.0, 3.4, 1.5, 0.2], [6.6, 3.0, 5.6, 2.1]]))
    )
    assert clusters[0] != clusters[1]


@contextmanager
def standalone(folder):
    """Run a master and a worker of Spark on loopback, and give the master's address."""
    home = Path(needed("pyspark").__file__).parent
    environment = {
        **os.environ,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_HOSTNAME": "localhost",
        "SPARK_LOG_DIR": str(folder),
        "PYSPARK_PYTHON": sys.executable,
    }
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"spark://127.0.0.1:{port}"
    master = ["Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"]
    worker = ["Worker", "--host", "127.0.0.1", "--webui-port", "0", "--cores", "2", "--memory", "1g"]
    worker += ["--work-dir", str(folder / "work"), url]
    started = []
    try:
        for name, command in (("master", master), ("worker", worker)):
            log = folder / f"{name}.log"
            with log.open("w") as output:
                started.append(
                    subprocess.Popen(
                        [home / "bin" / "spark-class", f"org.apache.spark.deploy.{name}.{command[0]}", *command[1:]],
                        env=environment,
                        stdout=output,
                        stderr=output,
                    )
                )
            there = "New state: ALIVE" if name == "master" else "Successfully registered with master"
            wait_for(lambda log=log, there=there: there in log.read_text(), within_s=WITHIN_S)
        yield url
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(60)


def test_a_master_of_its_own_is_used_where_it_is_named(tmp_path):
    (tmp_path / "spark").mkdir()
    with standalone(tmp_path / "spark") as url, platform(tmp_path / "home", spark_master_url=url) as client:
        parameters = {"target": "petal_width", "model": "width", "folds": 2, "algorithms": ["linear_regression"]}
        job = client.training.submit_job(
            "spark-regression", "iris", parameters={**parameters, "features": NAMES[:3]}, resources=Resources(cpus=2)
        )
        job = finished(client, job)
        assert job.result.metrics["rmse"] < 0.3
        assert f"Spark 4.1.4 at {url}" in client.training.get_job_log(job.id).text
        assert re.search(r"Registered app job_", (tmp_path / "spark" / "master.log").read_text())


def test_a_trainer_that_is_killed_leaves_no_java_behind(client):
    function = {"function": "modelops.testing.tasks:compute_on_spark"}
    job = client.training.submit_job("spark-function", "iris", parameters=function)
    wait_for(lambda: "computing" in client.training.get_job_log(job.id).text, within_s=WITHIN_S)
    java = of_job(job)
    assert {one.name() for one in java} >= {"java"}
    trainer = next(one for one in java if "train" in one.cmdline())
    trainer.send_signal(signal.SIGKILL)
    job = client.training.wait_for_job(job.id, within_s=WITHIN_S)
    assert (job.state, "SIGKILL" in job.reason) == (JobState.FAILED, True)
    wait_for(lambda: not of_job(job))


def test_a_job_that_is_cancelled_stops_what_spark_computes(client):
    function = {"function": "modelops.testing.tasks:compute_on_spark"}
    job = client.training.submit_job("spark-function", "iris", parameters=function)
    wait_for(lambda: "computing" in client.training.get_job_log(job.id).text, within_s=WITHIN_S)
    client.training.cancel_job(job.id)
    job = client.training.wait_for_job(job.id, within_s=WITHIN_S)
    assert job.state is JobState.CANCELED
    wait_for(lambda: not of_job(job))


def of_job(job):
    """Return the processes of a job's attempt: those that have its folder in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if job.id in process.environ().get("MODELOPS_WORKDIR", "") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found

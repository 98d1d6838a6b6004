"""What of Spark's engine and recipes needs no Java: parameters, metrics, checkpoints, and what is refused in words."""

import json
import socket
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from tests.runtime.test_flavours import needed

from modelops.contracts.errors import InvalidInput, MissingExtra
from modelops.contracts.schemas import Schema
from modelops.contracts.settings import Settings
from modelops.domains.training.recipe import Checkpoint, engine_of, load_recipe
from modelops.domains.training.recipes.mllib.scoring import from_confusion
from modelops.domains.training.recipes.mllib.trials import Trials, lines
from modelops.domains.training.schemas import Engine
from modelops.runtime.engines import spark
from modelops.runtime.engines.tables import plain_for_spark, reads_as_it_is
from modelops.runtime.job import Job, Task

RECIPES = ("spark-classification", "spark-regression", "spark-clustering", "spark-function")
SMALL = {"target": "y", "model": "m"}


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_load_without_spark_and_ask_for_its_engine(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspark", None)
    assert engine_of(load_recipe(name)) is Engine.SPARK


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("spark-classification", {**SMALL, "algorithms": ["svm"]}, "algorithms"),
        ("spark-classification", {**SMALL, "algorithms": ["naive_bayes"] * 2}, "'naive_bayes' occurs twice"),
        ("spark-classification", {**SMALL, "algorithms": ["linear_svc"], "metric": "roc_auc"}, "no probabilities"),
        ("spark-classification", {**SMALL, "features": ["y"]}, "cannot be a feature too"),
        ("spark-classification", {**SMALL, "hidden_layers": []}, "hidden_layers"),
        ("spark-regression", {**SMALL, "mixing": 1.5}, "mixing"),
        ("spark-regression", {**SMALL, "train_share": 1}, "train_share"),
        ("spark-clustering", {"model": "m", "clusters": [1]}, "clusters"),
    ],
)
def test_parameters_are_refused_before_anything_runs(name, parameters, words):
    with pytest.raises(ValidationError, match=words):
        load_recipe(name).Parameters.model_validate(parameters)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_metrics_are_scikit_learns_own(pairs):
    counted = {}
    for pair in pairs:
        counted[pair] = counted.get(pair, 0) + 1
    truth, said = zip(*pairs, strict=True)
    assert from_confusion("accuracy", counted) == pytest.approx(accuracy_score(truth, said))
    assert from_confusion("balanced_accuracy", counted) == pytest.approx(balanced_accuracy_score(truth, said))
    expected = f1_score(truth, said, average="macro", zero_division=0)
    assert from_confusion("f1_macro", counted) == pytest.approx(expected)


class FakeJob:
    """A `JobContext` that keeps checkpoints in memory."""

    def __init__(self, attempt=1, kept=None):
        self.attempt, self.kept, self.runs, self.lines = attempt, kept, [], []

    @contextmanager
    def start_run(self, name, parameters):
        run = SimpleNamespace(id=f"run_{name}_{self.attempt}", points={})
        run.log_metrics = lambda metrics, *, step=0: run.points.update(metrics)
        run.set_tags = lambda tags: None
        self.runs.append(run)
        yield run

    def checkpoint(self, source, step):
        self.kept = (source, step)
        return True

    def restore(self):
        if self.kept is None:
            return None
        return SimpleNamespace(step=self.kept[1], read=lambda: self.kept[0], path=Checkpoint)

    def log(self, text):
        self.lines.append(text)


def test_a_later_attempt_goes_on_with_the_candidates_that_are_left():
    first = FakeJob()
    trials = Trials(first, "rmse", lower_is_better=True)
    trials.judge("a", {}, {}, lambda: [1.0, 3.0])
    trials.judge("b", {}, {}, lambda: [float("nan"), 1.0])
    assert [one["name"] for one in json.loads(first.kept[0])] == ["a", "b"]
    second = FakeJob(attempt=2, kept=first.kept)
    again = Trials(second, "rmse", lower_is_better=True)
    for name in ("a", "b"):
        again.judge(name, {}, {}, lambda: pytest.fail("it was judged before"))
    again.judge("c", {}, {}, lambda: [0.5, 0.5])
    board = again.board()
    assert [(one.name, one.run_id) for one in board] == [("c", "run_c_2"), ("a", "run_a_1"), ("b", "run_b_1")]
    assert (second.kept[1], len(second.runs)) == (3, 1)
    assert lines(board)[2] == {"candidate": "b", "run_id": "run_b_1", "mean": None, "std": None}


def test_a_metric_without_any_value_is_told():
    trials = Trials(FakeJob(), "silhouette")
    trials.judge("a", {}, {}, lambda: [float("nan")])
    with pytest.raises(InvalidInput, match="'silhouette' has no value"):
        trials.board()


def task(**changes):
    facts = {"job_id": "job_1", "recipe": "r", "parameters": {}, "dataset_version_id": None, "dataset": None}
    return Task.model_validate({**facts, "experiment": "e", **changes})


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Return what opens sessions for a master and a task."""

    def open_sessions(master=None, **changes):
        if master is not None:
            monkeypatch.setenv(spark.MASTER, master)
        return spark.Sessions(SimpleNamespace(folder=tmp_path, task=task(**changes), id="job_1", log=print))

    return open_sessions


def test_what_is_missing_is_told(opened, monkeypatch, tmp_path):
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pyspark", None)
        without.setitem(sys.modules, "pyspark.sql", None)
        with pytest.raises(MissingExtra, match="PySpark is not installed"):
            opened().session()
    needed("pyspark.sql")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(MissingExtra, match="none on the path"):
        opened().session()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(MissingExtra, match=r"none in JAVA_HOME"):
        opened().session()


def test_a_master_that_does_not_answer_is_told_at_once(opened, monkeypatch, tmp_path):
    needed("pyspark.sql")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(spark.SparkUnavailable, match=rf"127\.0\.0\.1:{port}: Connection refused"):
        opened(f"spark://127.0.0.1:{port}").session()
    with pytest.raises(InvalidInput, match="no address of a master"):
        opened("spark://127.0.0.1:many").session()


def test_memory_is_shared_between_python_and_java():
    assert 450 < spark.heap_mb(spark.LEAST_MEMORY_MB) < spark.LEAST_MEMORY_MB
    with pytest.raises(InvalidInput, match="512 MiB of memory, and Spark needs 1024"):
        spark.heap_mb(512)


def test_the_master_is_a_setting_that_is_also_read_where_spark_looks(monkeypatch):
    monkeypatch.setenv("SPARK_MASTER_URL", "spark://elsewhere:7077")
    assert Settings().spark_master_url == "spark://elsewhere:7077"


def test_a_job_of_another_engine_has_no_session(sqlite_platform, tmp_path):
    job = Job(
        task(inputs={"dataset": {"kind": "dataset", "ref": "d", "id": "dsv_1"}}),
        Schema(),
        sqlite_platform.client(),
        tmp_path,
    )
    for ask in (lambda: job.spark, lambda: job.spark_table()):
        with pytest.raises(InvalidInput, match="no session of Spark") as refused:
            ask()
        assert "spark-function" in refused.value.hint


def test_columns_that_spark_does_not_know_are_made_plain():
    table = pa.table(
        {
            "n": pa.array([1, None], pa.uint8()),
            "t": pa.array([1, 2], pa.timestamp("ns")),
            "c": pa.array(["a", None]).dictionary_encode(),
            "x": np.array([1.5, 2.5]),
        }
    )
    assert not reads_as_it_is(table.schema)
    plain = plain_for_spark(table)
    assert reads_as_it_is(plain.schema)
    assert plain.schema.types == [pa.int64(), pa.timestamp("us"), pa.string(), pa.float64()]
    assert plain["c"].to_pylist() == ["a", None]
    assert plain_for_spark(plain) is plain

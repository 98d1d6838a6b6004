"""Comparing experiments and choosing the best model from a program."""

import subprocess
import sys

import pytest
from sklearn.linear_model import LogisticRegression

import modelops
from modelops import compare_experiments, get_best_model, log_folds
from modelops.contracts.errors import ExperimentError, InvalidInput, NotFound
from modelops.sdk.registry import ModelRegistry
from modelops.sdk.tracking import ExperimentTracker

ROWS = [[float(n), float(n % 3)] for n in range(12)]
CLASSES = [n % 2 for n in range(12)]


@pytest.fixture
def client(sqlite_platform):
    return sqlite_platform.client()


@pytest.fixture
def tried(client):
    """Runs of two experiments by name: a better one is slower."""
    found = {}
    with ExperimentTracker(client) as tracker:
        for n, name in enumerate(("a", "b", "c", "d")):
            with tracker.start_experiment(
                "one" if n < 3 else "two", run_name=name, parameters={"depth": n, "seed": 1}
            ) as run:
                scores = [0.7 + n / 20 + fold / 1000 * (-1) ** (n + fold) for fold in range(6)]
                log_folds(run, "accuracy", scores, split="kfold 6", test_share=0.2)
                run.log_metric("latency_ms", 10.0 * n + 5)
                found[name] = run.id
    return found


def test_an_experiment_is_compared(client, tried, tmp_path):
    found = compare_experiments("one", metric="accuracy", objectives={"latency_ms": "min"}, backend=client)
    assert [run.name for run in found.runs] == ["c", "b", "a"]
    assert found.differences["parameters"] == {"depth": {tried["c"]: 2, tried["b"]: 1, tried["a"]: 0}}
    assert set(found.differences["metrics"]) == {"accuracy", "fold_accuracy", "latency_ms"}
    assert [run.name for run in found.pareto_front] == ["c", "b", "a"]
    assert found.significance.baseline == tried["c"]
    assert all(one.adjusted < 0.05 for one in found.significance.tests)
    assert "below 8" in found.importance.message
    assert [row["metrics.latency_ms"] for row in found.rows()] == [25, 15, 5]
    assert found.curves("fold_accuracy")[tried["a"]].total == 6
    page = found.report(tmp_path / "report.html", title="Tried", curves=["fold_accuracy"])
    assert "<h1>Tried</h1>" in page.read_text()
    lines = str(found).splitlines()
    assert lines[0].split() == ["run", "accuracy", "latency_ms", "depth"]
    assert lines[1].split()[0] == "c"


def test_experiments_and_runs_are_compared_together(client, tried):
    found = compare_experiments("one", "two", metric="latency_ms", direction="min", limit=2, backend=client)
    assert {run.name for run in found.runs} == {"a", "d"}
    found = compare_experiments(tried["b"], tried["d"], backend=client)
    assert [run.name for run in found.runs] == ["b", "d"]
    assert found.pareto_front == []
    assert (found.importance, found.significance) == (None, None)
    assert "Comparison of 2 runs" in client.experiments.report(*[run.id for run in found.runs])


def test_what_cannot_be_compared_is_told(client, tried):
    with pytest.raises(ExperimentError, match="Nothing to compare"):
        compare_experiments(backend=client)
    with pytest.raises(NotFound):
        compare_experiments("nowhere", backend=client)
    with pytest.raises(InvalidInput, match="no direction"):
        compare_experiments("one", metric="accuracy", direction="up", backend=client)
    client.experiments.create_experiment("empty")
    client.experiments.create_experiment("void")
    with pytest.raises(ExperimentError, match="has such runs"):
        compare_experiments("empty", "void", backend=client)


def test_the_best_model_keeps_the_constraints(client, tried):
    assert get_best_model("accuracy", backend=client).run.name == "d"
    best = get_best_model(metric="accuracy", direction="max", constraints={"latency_ms": "<= 20"}, backend=client)
    assert (best.run.name, best.version, best.metric) == ("b", None, "accuracy")
    assert best.value == pytest.approx(0.75, abs=0.01)
    assert get_best_model("latency_ms", "min", experiment="two", backend=client).run.name == "d"
    with pytest.raises(NotFound, match="No model is registered"):
        best.load()
    with pytest.raises(NotFound, match="keeps what is asked for"):
        get_best_model("accuracy", constraints={"latency_ms": "< 0"}, backend=client)


def test_the_best_model_is_loaded_from_the_registry(client, tried):
    registry = ModelRegistry(client)
    model = LogisticRegression().fit(ROWS, CLASSES)
    client.models.create_model("another")
    for name, run in (("b", tried["b"]), ("c", tried["c"])):
        metrics = {"accuracy": 0.5 if name == "c" else 0.6, "latency_ms": 5.0 if name == "c" else 25.0}
        registry.register_model("numbers", model, experiment_id=run, sample=ROWS, metrics=metrics)
    best = get_best_model("accuracy", constraints={"latency_ms": "<= 20"}, backend=client)
    assert (best.version.name, best.version.version) == ("numbers", 1)
    assert len(best.load().predict(ROWS)) == 12
    version = get_best_model("accuracy", constraints={"latency_ms": "<= 20"}, model="numbers", backend=client)
    assert (version.version.version, version.run.id, version.value) == (2, tried["c"], 0.5)
    assert get_best_model("accuracy", model="numbers", backend=client).version.version == 1
    with pytest.raises(NotFound, match="No version of 'numbers'"):
        get_best_model("loss", model="numbers", backend=client)
    with pytest.raises(ExperimentError, match="not both"):
        get_best_model("loss", model="numbers", experiment="one", backend=client)


def test_folds_that_say_nothing_are_refused(client):
    with ExperimentTracker(client) as tracker, tracker.start_experiment("one") as run:
        with pytest.raises(InvalidInput, match="No fold"):
            log_folds(run, "accuracy", [], split="k")
        with pytest.raises(InvalidInput, match="less than all"):
            log_folds(run, "accuracy", [1.0], split="k", test_share=1.0)


def test_the_names_are_there_and_cost_nothing():
    for name in ("ExperimentComparison", "compare_experiments", "get_best_model", "log_folds"):
        assert name in modelops.__all__
    script = "import modelops, sys; modelops.compare_experiments; print([m for m in ('numpy', 'sqlalchemy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Moving to and from an MLflow store: everything arrives, once, and the counts are true."""

import contextlib
import json
import math
import os
import subprocess
import sys
import time
import warnings

import pytest

import modelops
from modelops.contracts.errors import InvalidInput, NotFound, Unavailable
from modelops.testing.process import platform_process

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag, ViewType

MLMODEL = "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\nmodel_uuid: m1\n"


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An MLflow store in a database, with its files beside it: its URI and its client."""
    monkeypatch.chdir(tmp_path)
    return new_store(tmp_path / "theirs")


def new_store(folder):
    folder.mkdir()
    uri = f"sqlite:///{folder}/mlflow.db"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return uri, MlflowClient(uri, uri)


def fill(client, tmp_path, runs=3, steps=2_500):
    experiment = client.create_experiment(
        "Versuch ü/1", artifact_location=str(tmp_path / "files"), tags={"team": "röt"}
    )
    ids = []
    for n in range(runs):
        run = client.create_run(
            experiment, start_time=1_000 + n, run_name=f"run {n}", tags={"a": "b", "mlflow.user": "x"}
        )
        ids.append(run.info.run_id)
        for start in range(0, steps, 1_000):
            points = [Metric("loss", s / 7, 5_000 + s, s) for s in range(start, min(steps, start + 1_000))]
            client.log_batch(ids[-1], points)
        odd = [math.nan, math.inf, -math.inf, -0.0]
        client.log_batch(ids[-1], [Metric("odd/µ", value, 1, s) for s, value in enumerate(odd)], [Param("lr", "0.1")])
        client.log_batch(ids[-1], [], [Param(f"p{i}", "v" * i) for i in range(90)], [RunTag("note", "日本")])
        client.log_text(ids[-1], f"hello {n}", "notes/read me.txt")
        client.log_text(ids[-1], MLMODEL, "model/MLmodel")
        client.set_terminated(ids[-1], "FAILED" if n == 1 else "FINISHED", 9_000 + n)
    client.create_registered_model("iris", {"t": "v"}, "flowers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client.create_model_version("iris", f"runs:/{ids[0]}/model", ids[0], {"k": "v"}, description="first")
        client.create_model_version("iris", "s3://nowhere/model", None)
        client.transition_model_version_stage("iris", "1", "Staging")
    client.set_registered_model_alias("iris", "blue", "1")
    return experiment, ids


def picture(client):
    """Return all that a store says of its runs, without what is each store's own."""
    told = {}
    for experiment in client.search_experiments(view_type=ViewType.ALL):
        for run in client.search_runs([experiment.experiment_id]):
            key = experiment.name, run.info.run_name
            tags = {k: v for k, v in run.data.tags.items() if not k.startswith("modelops.")}
            points = {
                metric: [
                    (p.timestamp, p.step, repr(p.value + 0.0))
                    for p in client.get_metric_history(run.info.run_id, metric)
                ]
                for metric in run.data.metrics
            }
            told[key] = (run.info.status, run.info.start_time, run.info.end_time, run.data.params, tags, points)
    return told


def test_there_and_back_again(platform, store, tmp_path):
    uri, theirs = store
    fill(theirs, tmp_path)
    client = platform.client()
    seen = []
    summary = modelops.import_mlflow(uri, client, progress=lambda what, done, total: seen.append((done, total)))
    assert summary.whole, summary.failures
    assert (summary.runs.found, summary.runs.moved, summary.runs.verified) == (3, 3, 3)
    assert summary.points.verified == summary.points.moved == 3 * 2_504
    assert summary.files.verified == 6
    assert (summary.versions.moved, summary.versions.verified) == (2, 2)
    assert seen[-1][0] == seen[-1][1]
    again = modelops.import_mlflow(uri, client)
    assert (again.runs.there, again.runs.moved, again.versions.there, again.versions.moved) == (3, 0, 2, 0)
    runs = client.experiments.list_runs("Versuch ü/1").items
    assert sorted(run.status for run in runs) == ["failed", "finished", "finished"]
    assert {artifact.path for artifact in client.experiments.list_run_artifacts(runs[0].id).items} >= {
        "notes/read me.txt",
        "model/MLmodel",
    }
    assert client.models.get_version("iris", "@blue").tags["modelops.origin"] == "iris:1"
    back_uri, back = new_store(tmp_path / "back")
    summary = modelops.export_mlflow(back_uri, client, experiments=["Versuch ü/1"])
    assert summary.whole, summary.failures
    assert {k: v for k, v in picture(back).items() if k[0] != "Default"} == picture(theirs)


def test_an_interrupted_move_goes_on_where_it_was(sqlite_platform, store, tmp_path, monkeypatch):
    from modelops.sdk.exchange.own_side import OwnSide

    uri, theirs = store
    _, ids = fill(theirs, tmp_path, steps=10)
    client = sqlite_platform.client()
    store_file, calls = OwnSide.store, []

    def fail_once(self, run, path, file):
        calls.append(path)
        if len(calls) == 3:
            raise Unavailable("The cable was pulled.")
        store_file(self, run, path, file)

    monkeypatch.setattr(OwnSide, "store", fail_once)
    first = modelops.import_mlflow(uri, client, experiments=["Versuch ü/1"])
    assert not first.whole
    assert "cable" in first.failures[0]
    assert (first.runs.moved, first.runs.failed) == (2, 1)
    second = modelops.import_mlflow(uri, client, experiments=["Versuch ü/1"])
    assert second.whole
    assert (second.runs.there, second.runs.moved) == (2, 1)
    runs = client.experiments.list_runs("Versuch ü/1").items
    assert {run.tags["modelops.origin"] for run in runs} == set(ids)
    assert len(runs) == 3


def test_what_cannot_be_moved_is_told(sqlite_platform, store, tmp_path):
    uri, theirs = store
    fill(theirs, tmp_path, runs=1, steps=3)
    client = sqlite_platform.client()
    with pytest.raises(InvalidInput, match="'none'"):
        modelops.import_mlflow(uri, client, experiments=["none"])
    with pytest.raises(Unavailable, match="cannot be opened"):
        modelops.import_mlflow("http://127.0.0.1:9", client)
    viewer = modelops.import_mlflow(uri, sqlite_platform.member("viewer"))
    assert not viewer.whole
    assert "permission" in viewer.failures[0]
    counted = modelops.import_mlflow(uri, client, dry_run=True)
    assert (counted.runs.found, counted.runs.moved, counted.versions.found) == (1, 0, 2)
    with pytest.raises(NotFound):
        client.experiments.get_experiment("Versuch ü/1")
    moved = modelops.import_mlflow(uri, client)
    assert moved.whole
    assert any("without its files" in remark for remark in moved.remarks)


@pytest.mark.parametrize("own", [None, "mine"])
def test_what_mlflow_is_told_ends_with_the_move(sqlite_platform, store, tmp_path, monkeypatch, own):
    if own:
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", own)
    uri, theirs = store
    fill(theirs, tmp_path, runs=1, steps=10)
    client = sqlite_platform.client()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before, told = dict(os.environ), []

    def note(*_):
        told.append(os.environ["MLFLOW_TRACKING_TOKEN"])

    assert modelops.import_mlflow(uri, client, token="theirs", progress=note).whole
    assert set(told) == {"theirs"}
    with pytest.raises(Unavailable):
        modelops.export_mlflow("http://127.0.0.1:1", client, token="theirs")
    assert dict(os.environ) == before


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_move_that_is_killed_loses_and_doubles_nothing(tmp_path, store):
    uri, theirs = store
    fill(theirs, tmp_path, runs=12, steps=3_000)
    with platform_process(tmp_path / "home") as platform:
        command = [
            sys.executable,
            "-m",
            "modelops.cli",
            "--home",
            str(platform.home),
            "import",
            "mlflow",
            uri,
            "--json",
        ]
        for pause in (3.0, 4.0, 5.5):
            process = subprocess.Popen(
                command, env=platform.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(pause)
            process.kill()
            process.wait()
            time.sleep(0.1)
        done = platform.mops("import", "mlflow", uri, "--json")
        summary = json.loads(done.stdout)
        assert summary["whole"]
        assert summary["runs"]["moved"] + summary["runs"]["there"] == 12
        with platform.client() as client:
            runs = list(client.experiments.all_runs("Versuch ü/1"))
            assert len(runs) == 12
            assert all(client.experiments.get_metric_history(run.id, "loss").total == 3_000 for run in runs)

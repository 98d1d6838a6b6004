"""What people write with MLflow's own functions, against the platform: one script each, in a process of its own."""

import os
import subprocess
import sys
import textwrap

import pytest

FOREST = """
import mlflow, numpy as np
from sklearn.linear_model import LogisticRegression
X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2
"""


@pytest.fixture
def script(platform, url, tmp_path):
    """Runs a script as a user whose environment names the platform."""

    def run(*parts):
        told = {
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_TRACKING_TOKEN": platform.admin_key,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "GIT_PYTHON_REFRESH": "quiet",
            "MPLBACKEND": "agg",
        }
        code = "\n".join(textwrap.dedent(part) for part in parts)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env=os.environ | told,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1].split()  # MLflow prints addresses of runs before

    return run


def test_files_texts_tables_and_nested_runs(script, mlflow_client):
    parent, child = script(
        """
        import mlflow, pandas as pd, pathlib
        pathlib.Path("folder/below").mkdir(parents=True)
        pathlib.Path("folder/below/note.txt").write_text("hello")
        mlflow.set_experiment("fluent")
        with mlflow.start_run() as parent:
            mlflow.log_artifacts("folder", "kept")
            mlflow.log_dict({"a": 1}, "settings.json")
            mlflow.log_text("words", "words.txt")
            mlflow.log_table({"question": ["q"], "answer": ["a"]}, "answers.json")
            mlflow.log_table({"question": ["r"], "answer": ["b"]}, "answers.json")
            frame = pd.DataFrame({"x": [1, 2]})
            mlflow.log_input(mlflow.data.from_pandas(frame, name="points"), context="training")
            with mlflow.start_run(nested=True) as child:
                mlflow.log_params({"depth": 3})
                mlflow.log_metrics({"loss": 0.5}, step=1)
        assert mlflow.artifacts.load_dict(f"{parent.info.artifact_uri}/settings.json") == {"a": 1}
        assert len(mlflow.load_table("answers.json", run_ids=[parent.info.run_id])) == 2
        assert mlflow.artifacts.load_text(f"runs:/{parent.info.run_id}/kept/below/note.txt") == "hello"
        print(parent.info.run_id, child.info.run_id)
        """
    )
    found = mlflow_client.get_run(child)
    assert found.data.tags["mlflow.parentRunId"] == parent
    assert (found.data.params, found.data.metrics) == ({"depth": "3"}, {"loss": 0.5})
    (taken,) = mlflow_client.get_run(parent).inputs.dataset_inputs
    assert taken.dataset.name == "points"
    listed = {file.path for file in mlflow_client.list_artifacts(parent)}
    assert listed == {"kept", "settings.json", "words.txt", "answers.json"}


def test_system_metrics(script, mlflow_client):
    (run,) = script(
        """
        import mlflow, time
        mlflow.set_system_metrics_sampling_interval(0.2)
        mlflow.set_system_metrics_samples_before_logging(1)
        with mlflow.start_run(log_system_metrics=True) as run:
            while "system/cpu_utilization_percentage" not in mlflow.get_run(run.info.run_id).data.metrics:
                time.sleep(0.2)
        print(run.info.run_id)
        """
    )
    assert mlflow_client.get_metric_history(run, "system/cpu_utilization_percentage")


@pytest.mark.slow
def test_a_model_is_logged_registered_and_loaded(script, mlflow_client):
    logged, run = script(
        FOREST,
        """
        with mlflow.start_run() as run:
            model = LogisticRegression().fit(X, y)
            info = mlflow.sklearn.log_model(
                model, name="m", registered_model_name="classifier", input_example=X[:2], pip_requirements=["scikit-learn"]
            )
        mlflow.MlflowClient().set_registered_model_alias("classifier", "chosen", "1")
        loaded = mlflow.sklearn.load_model("models:/classifier@chosen")
        assert (loaded.predict(X) == model.predict(X)).all()
        assert (mlflow.pyfunc.load_model(info.model_uri).predict(X) == model.predict(X)).all()
        print(info.model_id, run.info.run_id)
        """,
    )
    version = mlflow_client.get_model_version_by_alias("classifier", "chosen")
    assert (version.version, version.run_id, version.source) == ("1", run, f"models:/{logged}")


@pytest.mark.slow
def test_autologging_a_fit(script, mlflow_client):
    (run,) = script(
        FOREST,
        """
        mlflow.sklearn.autolog()
        with mlflow.start_run() as run:
            LogisticRegression(C=0.25).fit(X, y)
        print(run.info.run_id)
        """,
    )
    found = mlflow_client.get_run(run)
    assert found.data.params["C"] == "0.25"
    assert "training_accuracy_score" in found.data.metrics
    assert len(found.outputs.model_outputs) == 1


@pytest.mark.slow
def test_a_classifier_is_evaluated(script, mlflow_client):
    (run,) = script(
        FOREST,
        """
        import pandas as pd
        frame = pd.DataFrame(X, columns=list("abc"))
        with mlflow.start_run() as run:
            model = LogisticRegression().fit(frame, y)
            info = mlflow.sklearn.log_model(model, name="m", pip_requirements=["scikit-learn"])
            result = mlflow.models.evaluate(
                info.model_uri,
                frame.assign(label=y),
                targets="label",
                model_type="classifier",
                evaluator_config={"log_explainer": False},
            )
        assert 0 <= result.metrics["accuracy_score"] <= 1
        print(run.info.run_id)
        """,
    )
    found = mlflow_client.get_run(run)
    assert 0 <= found.data.metrics["accuracy_score"] <= 1
    assert found.inputs.dataset_inputs


def test_a_model_outside_every_run_goes_to_the_default_experiment(mlflow_client):
    model = mlflow_client.create_logged_model("0", tags={"team": "a"})
    default = mlflow_client.get_experiment("0")
    assert model.experiment_id == default.experiment_id
    assert [found.model_id for found in mlflow_client.search_logged_models(["0"])] == [model.model_id]


def test_a_missing_tag_of_a_logged_model_is_told(mlflow_client):
    model = mlflow_client.create_logged_model("0", tags={"team": "a"})
    mlflow_client.delete_logged_model_tag(model.model_id, "team")
    with pytest.raises(Exception, match="No tag with key 'team'"):
        mlflow_client.delete_logged_model_tag(model.model_id, "team")


def test_a_whole_run_is_downloaded_by_a_dot(script):
    script(
        """
        import mlflow, pathlib
        with mlflow.start_run() as run:
            mlflow.log_text("words", "below/words.txt")
        home = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=".")
        assert pathlib.Path(home, "below", "words.txt").read_text() == "words"
        print()
        """
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"run_ids": ["a"], "metric_key": "m", "max_results": 0}, "max_results must be between 1 and 2500"),
        ({"run_ids": ["a"], "metric_key": ""}, "Missing value for required parameter 'metric_key'"),
    ],
)
def test_a_wrong_question_for_a_history_is_told(platform, asked, told):
    http = platform.http(authorization=f"Bearer {platform.admin_key}")
    answer = http.get("/api/2.0/mlflow/metrics/get-history-bulk-interval", params=asked)
    assert answer.status_code == 400
    assert told in answer.json()["message"]


def test_histories_are_thinned_at_the_same_steps(platform, mlflow_client):
    experiment = mlflow_client.create_experiment("long")
    runs = [mlflow_client.create_run(experiment).info.run_id for _ in range(2)]
    for run, length in zip(runs, (10, 20), strict=True):
        for step in range(length):
            mlflow_client.log_metric(run, "m", 1.0, step=step)
    http = platform.http(authorization=f"Bearer {platform.admin_key}")

    def steps(asked, **limits):
        answer = http.get(
            "/api/2.0/mlflow/metrics/get-history-bulk-interval",
            params={"run_ids": asked, "metric_key": "m", "max_results": 5, **limits},
        )
        return [(runs.index(point["run_id"]), point["step"]) for point in answer.json()["metrics"]]

    assert steps(runs[0]) == [(0, step) for step in (0, 2, 4, 6, 8, 9)]
    assert steps(runs[0], start_step=0, end_step=4) == [(0, step) for step in range(5)]
    assert steps(runs) == [
        *((0, step) for step in (0, 4, 8, 9)),
        *((1, step) for step in (0, 4, 8, 9, 12, 16, 19)),
    ]

"""Logged models, and what runs took and made, through MLflow's own client; and the way from there into the registry."""

import json
import math
import warnings

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mlflow
    import mlflow.sklearn
    from mlflow.entities import (
        Dataset,
        DatasetInput,
        InputTag,
        LoggedModelInput,
        LoggedModelOutput,
    )
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from modelops.contracts.errors import DeploymentError
from modelops.domains.mlflow.model_metrics import ModelMetric, record_model_metrics
from modelops.kernel.context import Actor
from modelops.sdk.registry import ModelRegistry

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")

ROWS = np.array([[n, n % 3] for n in range(40)], dtype=float)
LABELS = [n % 2 for n in range(40)]


@pytest.fixture
def experiment(platform, mlflow_client, monkeypatch):
    made = platform.client().experiments.create_experiment("trials")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", made.id)
    return made


@pytest.fixture
def run(platform, experiment):
    return platform.client().experiments.create_run("trials")


@pytest.fixture
def store(mlflow_client):
    """The client's own store, for calls that its face hides behind runs."""
    return mlflow_client._tracking_client.store


@pytest.fixture
def post(platform, url):
    headers = {"authorization": f"Bearer {platform.admin_key}"}
    with httpx.Client(base_url=f"{url}/api/2.0/mlflow", headers=headers) as client:
        yield client.post


def trained():
    return LogisticRegression(max_iter=1000).fit(ROWS, LABELS)


@pytest.fixture
def log(experiment):
    """Logs a model in a run, as its users do."""

    def do(**options):
        with mlflow.start_run():
            return mlflow.sklearn.log_model(trained(), name="classifier", pip_requirements=["scikit-learn"], **options)

    return do


def acting(platform, project):
    return platform.place.work(Actor("u", "u", "user", None, project, None, frozenset({"*"})))


def test_a_logged_model_goes_through_its_life(mlflow_client, experiment, run):
    made = mlflow_client.create_logged_model(
        experiment.id, "größe", run.id, tags={"k": "v"}, params={"lr": "0.1"}, model_type="agent"
    )
    assert (made.name, made.source_run_id, made.model_type, str(made.status)) == ("größe", run.id, "agent", "PENDING")
    assert made.artifact_location == f"mlflow-artifacts:/{experiment.id}/models/{made.model_id}/artifacts"
    assert (made.tags, made.params) == ({"k": "v"}, {"lr": "0.1"})
    mlflow_client.set_logged_model_tags(made.model_id, {"k": "w", "long": "x" * 10_000})
    mlflow_client.delete_logged_model_tag(made.model_id, "long")
    mlflow_client.log_model_params(made.model_id, {"depth": "3"})
    mlflow_client.log_model_params(made.model_id, {"depth": "3"})
    with pytest.raises(MlflowException, match="another value"):
        mlflow_client.log_model_params(made.model_id, {"depth": "4"})
    assert str(mlflow_client.finalize_logged_model(made.model_id, "READY").status) == "READY"
    found = mlflow_client.get_logged_model(made.model_id)
    assert (found.tags, found.params) == ({"k": "w"}, {"lr": "0.1", "depth": "3"})
    assert str(mlflow_client.finalize_logged_model(made.model_id, "FAILED").status) == "FAILED"
    mlflow_client.delete_logged_model(made.model_id)
    with pytest.raises(MlflowException, match="not found") as gone:
        mlflow_client.get_logged_model(made.model_id)
    assert gone.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert mlflow_client.search_logged_models([experiment.id]) == []


@pytest.mark.parametrize("name", ["a/b", "a.b", "a:b", "a%b", "x" * 300])
def test_a_logged_models_name_is_a_word(mlflow_client, experiment, name):
    with pytest.raises(MlflowException):
        mlflow_client.create_logged_model(experiment.id, name)


def test_logged_models_are_searched(mlflow_client, experiment, run, platform):
    made = {
        name: mlflow_client.create_logged_model(
            experiment.id, name, run.id, tags={"team": team}, params={"lr": rate}, model_type="m"
        ).model_id
        for name, team, rate in (("one", "a", "0.1"), ("two", "b", "0.2"), ("three", "a", "0.2"))
    }
    with acting(platform, experiment.project_id) as ctx:
        points = [
            ModelMetric(made["one"], "acc", 0.5, 1_000_000, 0, "data", "d1"),
            ModelMetric(made["one"], "acc", 0.9, 2_000_000, 1, "data", "d2"),
            ModelMetric(made["two"], "acc", 0.7, 1_000_000, 0),
            ModelMetric(made["three"], "acc", math.nan, 1_000_000, 0),
        ]
        for _ in range(2):
            record_model_metrics(ctx, run.id, points)
    mlflow_client.finalize_logged_model(made["two"], "READY")

    def search(text=None, **options):
        return [model.name for model in mlflow_client.search_logged_models([experiment.id], text, **options)]

    assert search() == ["three", "two", "one"]
    assert search("name = 'one'") == ["one"]
    assert search("status = 'READY'") == ["two"]
    assert search("tags.team = 'a' AND params.lr LIKE '0.%'") == ["three", "one"]
    assert search("metrics.acc > 0.6") == ["two", "one"]
    assert search("name IN ('one', 'two') AND source_run_id = '%s'" % run.id) == ["two", "one"]
    assert search("creation_timestamp > 0", order_by=[{"field_name": "name"}]) == ["one", "three", "two"]
    assert search(order_by=[{"field_name": "metrics.acc", "ascending": False}]) == ["one", "two", "three"]
    on_first = {"field_name": "metrics.acc", "dataset_name": "data", "dataset_digest": "d1"}
    assert search(order_by=[on_first])[0] == "one"
    assert search(datasets=[{"dataset_name": "data"}]) == ["one"]
    assert search("metrics.acc > 0.6", datasets=[{"dataset_name": "data", "dataset_digest": "d1"}]) == []
    page = mlflow_client.search_logged_models([experiment.id], max_results=2)
    further = mlflow_client.search_logged_models([experiment.id], max_results=2, page_token=page.token)
    assert [model.name for model in (*page, *further)] == ["three", "two", "one"]
    assert not further.token
    first = mlflow_client.get_logged_model(made["one"]).metrics
    assert [(metric.value, metric.step, metric.dataset_digest) for metric in first] == [(0.5, 0, "d1"), (0.9, 1, "d2")]
    assert math.isnan(mlflow_client.get_logged_model(made["three"]).metrics[0].value)
    for wrong in ("owner = 'a'", "metrics.acc = 'x'", "name > 'a'", "nonsense"):
        with pytest.raises(MlflowException) as refused:
            search(wrong)
        assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
    with pytest.raises(MlflowException, match="Invalid order by"):
        search(order_by=[{"field_name": "owner"}])


def test_a_model_is_logged_registered_loaded_and_deployed(mlflow_client, experiment, platform, log):
    logged = log(input_example=ROWS[:5])
    assert str(mlflow_client.get_logged_model(logged.model_id).status) == "READY"
    assert [model.model_id for model in mlflow_client.search_logged_models([experiment.id])] == [logged.model_id]
    version = mlflow.register_model(logged.model_uri, "numbers", tags={"a": "b"})
    assert (version.version, version.status_message) == ("1", "")
    mlflow_client.set_registered_model_alias("numbers", "best", version.version)
    for uri in ("models:/numbers@best", "models:/numbers/1", "models:/numbers/latest", logged.model_uri):
        loaded = mlflow.sklearn.load_model(uri)
        assert loaded.predict(ROWS).tolist() == trained().predict(ROWS).tolist()
    registered = mlflow_client.get_logged_model(logged.model_id)
    assert json.loads(registered.tags["mlflow.modelVersions"]) == [{"name": "numbers", "version": 1}]
    admin = platform.client()
    native = admin.models.get_version("numbers", 1)
    assert (native.flavour, native.undeployable, native.tags) == ("mlflow", None, {"a": "b"})
    assert native.logged_model_id == logged.model_id
    assert len(native.signature.inputs) == 2
    assert admin.models.verify_version("numbers", 1).files_checked == len(native.files)
    assert admin.serving.create_deployment("numbers", "numbers:1", replicas=0).name == "numbers"


def test_a_logged_model_names_its_versions_in_the_order_they_were_made(mlflow_client, experiment):
    model = mlflow_client.create_logged_model(experiment.id)
    for name in ("b", "a"):
        mlflow_client.create_registered_model(name)
        for _ in range(2):
            mlflow_client.create_model_version(name, model.artifact_location, model_id=model.model_id)
    known = json.loads(mlflow_client.get_logged_model(model.model_id).tags["mlflow.modelVersions"])
    assert known == [{"name": name, "version": version} for name in ("b", "a") for version in (1, 2)]


def test_a_registered_version_outlives_what_it_was_made_from(mlflow_client, log):
    logged = log(input_example=ROWS[:5])
    mlflow.register_model(logged.model_uri, "numbers")
    location = mlflow_client.get_logged_model(logged.model_id).artifact_location
    get_artifact_repository(location).delete_artifacts()
    mlflow_client.delete_logged_model(logged.model_id)
    assert mlflow.sklearn.load_model("models:/numbers/1").predict(ROWS).shape == (40,)
    copy = mlflow_client.copy_model_version("models:/numbers/1", "copied")
    assert mlflow.sklearn.load_model("models:/copied/1").predict(ROWS).shape == (40,)
    assert copy.source == "models:/numbers/1"


def test_a_fluent_day(mlflow_client, experiment, platform):
    with mlflow.start_run() as run:
        mlflow.log_input(mlflow.data.from_numpy(ROWS, targets=np.array(LABELS)), context="training")
        mlflow.sklearn.log_model(
            trained(),
            name="classifier",
            pip_requirements=["scikit-learn"],
            input_example=ROWS[:3],
            registered_model_name="day",
        )
        logged = mlflow.last_logged_model().model_id
        mlflow.log_metric("acc", 0.75, step=2, model_id=logged)
        mlflow.log_metrics({"loss": math.inf}, model_id=logged)
        mlflow.log_dict({"a": 1}, "notes/größe.json")
        mlflow.log_text("words", "words.txt")
    found = mlflow_client.get_run(run.info.run_id)
    assert [taken.dataset.name for taken in found.inputs.dataset_inputs] == ["dataset"]
    assert [made.model_id for made in found.outputs.model_outputs] == [logged]
    metrics = {metric.key: metric.value for metric in mlflow_client.get_logged_model(logged).metrics}
    assert metrics == {"acc": 0.75, "loss": math.inf}
    assert mlflow.search_logged_models([experiment.id], "metrics.acc > 0.7", output_format="list")[0].model_id == logged
    assert sorted(entry.path for entry in mlflow_client.list_artifacts(run.info.run_id)) == ["notes", "words.txt"]
    assert mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/notes/größe.json") == {"a": 1}
    native = platform.client().models.get_version("day", 1)
    assert (native.run_id, native.logged_model_id) == (run.info.run_id, logged)
    mlflow_client.set_registered_model_alias("day", "ready", "1")
    assert mlflow.pyfunc.load_model("models:/day@ready").predict(ROWS).shape == (40,)


def test_a_deleted_run_takes_nothing(mlflow_client, experiment, run, post, tmp_path):
    mlflow_client.delete_run(run.id)
    answer = post("/runs/log-inputs", json={"run_id": run.id, "datasets": []})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    (tmp_path / "a").write_text("a")
    with pytest.raises(Exception, match=r"409|deleted"):
        get_artifact_repository(f"mlflow-artifacts:/{experiment.id}/{run.id}/artifacts").log_artifact(
            str(tmp_path / "a")
        )


def test_a_model_without_a_signature_is_registered_and_not_deployed(log, platform):
    version = mlflow.register_model(log().model_uri, "bare")
    assert "without a signature" in version.status_message
    with pytest.raises(DeploymentError, match="without a signature"):
        platform.client().serving.create_deployment("bare", "bare:1", replicas=0)
    assert mlflow.sklearn.load_model("models:/bare/1").predict(ROWS).shape == (40,)


def test_a_native_version_is_loaded_by_mlflow(mlflow_client, platform):
    admin = platform.client()
    ModelRegistry(admin).register_model("native", trained(), sample=ROWS)
    found = mlflow_client.get_model_version("native", "1")
    assert found.source.startswith("mlflow-artifacts:/versions/mver_")
    assert mlflow.sklearn.load_model("models:/native/1").predict(ROWS).tolist() == trained().predict(ROWS).tolist()
    with pytest.raises(Exception, match="never change"):
        get_artifact_repository(found.source).delete_artifacts("model.pkl")


def test_a_version_from_a_runs_folder(mlflow_client, experiment, run, platform, tmp_path):
    mlflow.sklearn.save_model(trained(), tmp_path / "model", pip_requirements=["scikit-learn"], input_example=ROWS[:3])
    uri = f"mlflow-artifacts:/{experiment.id}/{run.id}/artifacts"
    get_artifact_repository(uri).log_artifacts(str(tmp_path / "model"), "deep/model")
    mlflow_client.create_registered_model("m")
    for source in (f"runs:/{run.id}/deep/model", f"{uri}/deep/model"):
        version = mlflow_client.create_model_version("m", source, run.id)
        assert version.run_id == run.id
        native = platform.client().models.get_version("m", int(version.version))
        assert (native.flavour, native.run_id, native.source) == ("mlflow", run.id, source)
    elsewhere = mlflow_client.create_model_version("m", f"runs:/{run.id}/nothing", run.id)
    assert "Nothing lies at its source" in elsewhere.status_message
    no_model = mlflow_client.create_model_version("m", f"{uri}/deep", run.id)
    assert "MLmodel" in no_model.status_message
    assert mlflow.pyfunc.load_model("models:/m/1").predict(ROWS).shape == (40,)


def test_a_broken_mlmodel_is_refused(mlflow_client, experiment, run, tmp_path):
    (tmp_path / "MLmodel").write_text("[not: a\nmodel")
    get_artifact_repository(f"mlflow-artifacts:/{experiment.id}/{run.id}/artifacts").log_artifact(
        str(tmp_path / "MLmodel"), "model"
    )
    mlflow_client.create_registered_model("m")
    with pytest.raises(MlflowException, match="MLmodel") as refused:
        mlflow_client.create_model_version("m", f"runs:/{run.id}/model", run.id)
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


def test_what_a_run_took_and_made(store, platform, experiment, run, mlflow_client, post):
    data = Dataset("iris", "abc", "local", "file.csv", "{}", '{"rows": 3}')
    model = mlflow_client.create_logged_model(experiment.id, "one").model_id
    for _ in range(2):  # a client sends again what was not answered
        store.log_inputs(
            run.id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])], [LoggedModelInput(model)]
        )
        store.log_outputs(run.id, [LoggedModelOutput(model, 3)])
    bare = mlflow_client.create_run(experiment.id)
    assert (bare.inputs.dataset_inputs, bare.inputs.model_inputs, bare.outputs.model_outputs) == ([], [], [])
    for found in (mlflow_client.get_run(run.id), mlflow_client.search_runs([experiment.id])[1]):
        assert [taken.model_id for taken in found.inputs.model_inputs] == [model]
        assert [(made.model_id, made.step) for made in found.outputs.model_outputs] == [(model, 3)]
        [taken] = found.inputs.dataset_inputs
        assert dict(taken.dataset) == dict(data)
        assert [(tag.key, tag.value) for tag in taken.tags] == [("mlflow.data.context", "training")]
    found = post("/experiments/search-datasets", json={"experiment_ids": [experiment.id]}).json()
    summary = {"experiment_id": experiment.id, "name": "iris", "digest": "abc", "context": "training"}
    assert found == {"dataset_summaries": [summary]}
    for wrong in ([], [str(n) for n in range(21)]):
        assert post("/experiments/search-datasets", json={"experiment_ids": wrong}).status_code == 400


def test_points_on_models_that_cannot_be_kept_are_refused(mlflow_client, post, experiment, run):
    model = mlflow_client.create_logged_model(experiment.id, "one").model_id
    point = {"run_id": run.id, "key": "acc", "value": 1.0, "timestamp": 1, "step": 0, "model_id": model}
    for wrong in ({"dataset_name": "x" * 501}, {"step": 2**63}, {"value": "many"}, {"timestamp": -1}):
        answer = post("/runs/log-metric", json={**point, **wrong})
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), wrong
    answer = post("/runs/log-metric", json={**point, "model_id": "m-nobody"})
    assert (answer.status_code, "m-nobody" in answer.json()["message"]) == (404, True)
    assert mlflow_client.get_logged_model(model).metrics is None or not mlflow_client.get_logged_model(model).metrics


def test_inputs_that_cannot_be_kept_are_refused(post, run):
    dataset = {"name": "n", "digest": "d", "source_type": "s", "source": "s"}
    for wrong in ({"name": ""}, {"name": "x" * 501}, {"source": "x" * 70_000}, {"digest": None}):
        body = {"run_id": run.id, "datasets": [{"dataset": {**dataset, **wrong}}]}
        assert post("/runs/log-inputs", json=body).status_code == 400
    assert post("/runs/log-inputs", json={"run_id": "nobody", "datasets": []}).status_code == 404
    assert post("/runs/outputs", json={"run_id": run.id}).status_code == 400


def test_the_history_of_models_of_old(post, run, platform):
    model = {
        "artifact_path": "a",
        "flavors": {"x": {}},
        "utc_time_created": "now",
        "run_id": run.id,
        "big": "x" * 9_000,
    }
    for name in ("a", "b", "a"):
        body = {"run_id": run.id, "model_json": json.dumps({**model, "artifact_path": name})}
        assert post("/runs/log-model", json=body).status_code == 200
    kept = json.loads(platform.client().experiments.get_run(run.id).tags["mlflow.log-model.history"])
    assert [entry["artifact_path"] for entry in kept] == ["a", "b"]
    for wrong in ("{", "[]", "{}", json.dumps({**model, "run_id": "other"})):
        assert post("/runs/log-model", json={"run_id": run.id, "model_json": wrong}).status_code == 400


def test_who_is_not_here_finds_no_logged_model(mlflow_client, experiment, as_user, platform, token_of):
    made = mlflow_client.create_logged_model(experiment.id, "one")
    stranger = as_user(platform.stranger().rest.http.headers["authorization"].removeprefix("Bearer "))
    assert stranger.search_logged_models([experiment.id]) == []
    for hidden in (
        lambda: stranger.get_logged_model(made.model_id),
        lambda: stranger.delete_logged_model(made.model_id),
        lambda: stranger.finalize_logged_model(made.model_id, "READY"),
        lambda: stranger.create_logged_model(experiment.id, "two"),
    ):
        with pytest.raises(MlflowException) as refused:
            hidden()
        assert refused.value.error_code == "RESOURCE_DOES_NOT_EXIST", refused.value
    viewer = as_user(token_of("viewer"))
    assert viewer.get_logged_model(made.model_id).name == "one"
    with pytest.raises(MlflowException) as refused:
        viewer.delete_logged_model(made.model_id)
    assert refused.value.error_code == "PERMISSION_DENIED"

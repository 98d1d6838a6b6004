"""Experiments, runs and what is logged on them, through the unmodified client and by hand-made requests."""

import math
import threading

import httpx
import pytest
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

from modelops.contracts.errors import NotFound


@pytest.fixture
def experiment(mlflow_client):
    return mlflow_client.create_experiment("trials / Versuche", tags={"team": "röt"})


@pytest.fixture
def run(mlflow_client, experiment):
    return mlflow_client.create_run(experiment, run_name="one", tags={"a": "b"}).info.run_id


@pytest.fixture
def http(platform, url):
    headers = {"Authorization": f"Bearer {platform.admin_key}"}
    with httpx.Client(base_url=f"{url}/api/2.0/mlflow", headers=headers) as client:
        yield client


def code_of(refused):
    return refused.value.error_code


def test_an_experiment_lives_and_comes_back(mlflow_client, experiment):
    found = mlflow_client.get_experiment(experiment)
    assert (found.name, found.tags, found.lifecycle_stage) == ("trials / Versuche", {"team": "röt"}, "active")
    assert found.artifact_location == f"mlflow-artifacts:/{experiment}"
    assert mlflow_client.get_experiment_by_name("trials / Versuche").experiment_id == experiment
    assert mlflow_client.get_experiment_by_name("none") is None
    mlflow_client.rename_experiment(experiment, "other")
    mlflow_client.set_experiment_tag(experiment, "k", "v")
    mlflow_client.delete_experiment_tag(experiment, "team")
    run = mlflow_client.create_run(experiment).info.run_id
    mlflow_client.delete_experiment(experiment)
    assert mlflow_client.get_experiment(experiment).lifecycle_stage == "deleted"
    assert mlflow_client.get_run(run).info.lifecycle_stage == "deleted"
    with pytest.raises(MlflowException, match="active"):
        mlflow_client.create_run(experiment)
    with pytest.raises(MlflowException) as refused:
        mlflow_client.create_experiment("other")
    assert code_of(refused) == "RESOURCE_ALREADY_EXISTS"
    mlflow_client.restore_experiment(experiment)
    assert mlflow_client.get_run(run).info.lifecycle_stage == "active"
    found = mlflow_client.get_experiment(experiment)
    assert (found.name, found.tags) == ("other", {"k": "v"})


def test_files_may_lie_elsewhere(mlflow_client):
    experiment = mlflow_client.create_experiment("elsewhere", artifact_location="s3://bucket/folder")
    run = mlflow_client.create_run(experiment).info
    assert run.artifact_uri == f"s3://bucket/folder/{run.run_id}/artifacts"


def test_the_default_experiment_is_made_when_it_is_needed(mlflow_client):
    run = mlflow_client.create_run("0").info
    default = mlflow_client.get_experiment("0")
    assert (default.name, default.experiment_id) == ("Default", run.experiment_id)
    assert [found.info.run_id for found in mlflow_client.search_runs(["0"])] == [run.run_id]


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.set_experiment_tag("0", "a", "b"),
        lambda client: client.rename_experiment("0", "Default "),
        lambda client: client.delete_experiment("0"),
        lambda client: client.delete_traces("0", max_timestamp_millis=1),
        lambda client: client.create_logged_model("0"),
    ],
    ids=["tag", "rename", "delete", "traces", "model"],
)
def test_the_default_experiment_is_there_whoever_asks_first(platform, as_user, token_of, call):
    with pytest.raises(MlflowException) as refused:
        call(as_user(token_of("viewer")))
    assert code_of(refused) == "PERMISSION_DENIED"
    call(as_user(platform.admin_key))


def test_experiments_are_searched(mlflow_client):
    for name in ("alpha", "Alphabet", "beta"):
        mlflow_client.create_experiment(name, tags={"size": str(len(name)), "a.b": "x"})

    def names(filter_string=None, **options):
        return [found.name for found in mlflow_client.search_experiments(filter_string=filter_string, **options)]

    assert names(order_by=["name ASC"]) == ["Alphabet", "Default", "alpha", "beta"]
    assert names("name LIKE 'alp%'") == ["alpha"]
    assert set(names("name ILIKE 'alp%'")) == {"alpha", "Alphabet"}
    assert names("tags.size = '4' AND name != 'alpha'") == ["beta"]
    assert names("tags.none IS NULL AND name = 'beta'") == ["beta"]
    assert names("creation_time < 5") == []
    first = mlflow_client.search_experiments(max_results=2, order_by=["name ASC"])
    second = mlflow_client.search_experiments(max_results=2, order_by=["name ASC"], page_token=first.token)
    assert [found.name for found in (*first, *second)] == ["Alphabet", "Default", "alpha", "beta"]
    assert second.token is None


def test_a_run_lives_and_comes_back(mlflow_client, experiment, run):
    found = mlflow_client.get_run(run)
    assert (found.info.run_name, found.info.status, found.info.end_time) == ("one", "RUNNING", None)
    assert found.data.tags == {"a": "b", "mlflow.runName": "one"}
    assert found.info.artifact_uri == f"mlflow-artifacts:/{experiment}/{run}/artifacts"
    mlflow_client.set_terminated(run, "FAILED", 1_700_000_000_123)
    ended = mlflow_client.get_run(run).info
    assert (ended.status, ended.end_time) == ("FAILED", 1_700_000_000_123)
    mlflow_client.log_metric(run, "late", 1.0)
    mlflow_client.update_run(run, "RUNNING", "two")
    again = mlflow_client.get_run(run)
    assert (again.info.status, again.info.run_name, again.data.tags["mlflow.runName"]) == ("RUNNING", "two", "two")
    mlflow_client.set_tag(run, "mlflow.runName", "three")
    assert mlflow_client.get_run(run).info.run_name == "three"
    mlflow_client.delete_run(run)
    for write in (
        lambda: mlflow_client.log_metric(run, "m", 1.0),
        lambda: mlflow_client.log_param(run, "p", "1"),
        lambda: mlflow_client.set_tag(run, "t", "1"),
        lambda: mlflow_client.update_run(run, "FINISHED"),
    ):
        with pytest.raises(MlflowException, match="must be in the 'active' state") as refused:
            write()
        assert code_of(refused) == "INVALID_PARAMETER_VALUE"
    mlflow_client.restore_run(run)
    mlflow_client.log_metric(run, "m", 1.0)


def test_what_is_logged_is_read_again(mlflow_client, run):
    metrics = [
        Metric("loss", value, 1_700_000_000_000 + step, step)
        for step, value in enumerate([0.5, math.nan, math.inf, -math.inf, 1e-308, -0.0])
    ]
    mlflow_client.log_batch(run, metrics, [Param("lr", "0.1"), Param("a b/c", "")], [RunTag("ünï", "ço∂é")])
    mlflow_client.log_batch(run, metrics)  # as a client does whose answer was lost
    history = mlflow_client.get_metric_history(run, "loss")
    assert [(one.step, one.timestamp, repr(one.value + 0.0)) for one in history] == [
        (one.step, one.timestamp, repr(one.value + 0.0)) for one in metrics
    ]
    data = mlflow_client.get_run(run).data
    assert data.params == {"lr": "0.1", "a b/c": ""}
    assert data.tags["ünï"] == "ço∂é"
    assert data.metrics == {"loss": 0.0}
    mlflow_client.log_metric(run, "loss", math.nan, 1_700_000_000_000, 99)
    assert math.isnan(mlflow_client.get_run(run).data.metrics["loss"])
    mlflow_client.delete_tag(run, "ünï")
    with pytest.raises(MlflowException, match="No tag with name: ünï") as refused:
        mlflow_client.delete_tag(run, "ünï")
    assert code_of(refused) == "RESOURCE_DOES_NOT_EXIST"


def test_the_latest_value_is_that_of_the_highest_step_however_they_come(mlflow_client, run):
    for step, value, timestamp in ((5, 5.0, 10), (3, 3.0, 99), (5, 4.0, 9), (5, 6.0, 10), (-1, 1.0, 100)):
        mlflow_client.log_metric(run, "m", value, timestamp, step)
    assert mlflow_client.get_run(run).data.metrics == {"m": 6.0}
    assert len(mlflow_client.get_metric_history(run, "m")) == 5


def test_a_history_is_read_in_pages(mlflow_client, run, http):
    mlflow_client.log_batch(run, [Metric("m", step, step, step) for step in range(250)])
    read, token = [], ""
    while True:
        query = {"run_id": run, "metric_key": "m", "max_results": 100, "page_token": token}
        page = http.get("/metrics/get-history", params=query).json()
        read += [one["step"] for one in page["metrics"]]
        if not (token := page.get("next_page_token", "")):
            break
    assert read == list(range(250))
    assert http.get("/metrics/get-history", params={"run_id": run, "metric_key": "none"}).json() == {"metrics": []}
    bulk = http.get("/metrics/get-history-bulk", params={"run_id": [run], "metric_key": "m", "max_results": 7}).json()
    assert [one["step"] for one in bulk["metrics"]] == list(range(7))
    sampled = http.get(
        "/metrics/get-history-bulk-interval",
        params={"run_ids": [run], "metric_key": "m", "start_step": 10, "end_step": 200, "max_results": 5},
    ).json()["metrics"]
    steps = [one["step"] for one in sampled]
    assert (steps[0], steps[-1], len(steps)) == (10, 200, 6)


def test_a_parameter_stays_what_it_was(mlflow_client, run, http):
    mlflow_client.log_param(run, "p", 1)
    mlflow_client.log_param(run, "p", "1")
    with pytest.raises(MlflowException, match="Changing param values is not allowed"):
        mlflow_client.log_param(run, "p", 2)
    body = {
        "run_id": run,
        "metrics": [{"key": "m", "value": 1, "timestamp": 1}],
        "params": [{"key": "p", "value": "3"}],
    }
    assert http.post("/runs/log-batch", json=body).json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert mlflow_client.get_run(run).data.metrics == {}


BAD = {
    "no key": ("runs/log-metric", {"value": 1, "timestamp": 1}, "Missing value for required parameter 'key'"),
    "no value": ("runs/log-metric", {"key": "m", "timestamp": 1}, "Missing value for required parameter 'value'"),
    "no time": ("runs/log-metric", {"key": "m", "value": 1}, "Missing value for required parameter 'timestamp'"),
    "text": ("runs/log-metric", {"key": "m", "value": "much", "timestamp": 1}, "for parameter 'value' supplied"),
    "truth": (
        "runs/log-metric",
        {"key": "m", "value": True, "timestamp": 1},
        "Invalid value true for parameter 'value'",
    ),
    "past": ("runs/log-metric", {"key": "m", "value": 1, "timestamp": -1}, "nonnegative"),
    "sign": ("runs/log-metric", {"key": "m$", "value": 1, "timestamp": 1}, "Names may only contain"),
    "path": ("runs/log-metric", {"key": "../m", "value": 1, "timestamp": 1}, "for parameter 'name' supplied"),
    "long": ("runs/log-metric", {"key": "m" * 251, "value": 1, "timestamp": 1}, "exceeds the maximum length of 250"),
    "step": ("runs/log-metric", {"key": "m", "value": 1, "timestamp": 1, "step": 2**63}, "64 bits"),
    "nested": ("runs/log-batch", {"metrics": [{"key": "m", "value": 1}]}, "parameter 'metrics[0].timestamp'"),
    "which": (
        "runs/log-batch",
        {"metrics": [{"key": "m", "value": 1, "timestamp": 1}, {"key": "m", "value": "x", "timestamp": 1}]},
        "parameter 'metrics[1].value'",
    ),
    "twice": ("runs/log-batch", {"params": [{"key": "p", "value": "1"}] * 2}, "Duplicate parameter keys"),
    "many": ("runs/log-batch", {"params": [{"key": f"p{i}", "value": ""} for i in range(101)]}, "at most 100 params"),
    "status": ("runs/update", {"status": "DONE"}, "for parameter 'status' supplied"),
    "number": ("runs/create", {"experiment_id": 7}, "Invalid value 7 for parameter 'experiment_id' supplied"),
    "name": ("experiments/create", {"name": 123}, "Invalid value 123 for parameter 'name' supplied"),
    "none": ("experiments/create", {}, "Missing value for required parameter 'name'"),
    "size": ("runs/search", {"max_results": 50_001}, "for parameter 'max_results' supplied"),
    "filter": ("runs/search", {"filter": "metrics.m >"}, "Invalid filter"),
    "json": ("runs/search", None, "cannot be read"),
}


@pytest.mark.parametrize(("path", "body", "message"), BAD.values(), ids=BAD.keys())
def test_bad_requests_are_refused_in_mlflows_words(http, run, path, body, message):
    if body is None:
        answer = http.post(f"/{path}", content=b"{")
    else:
        answer = http.post(f"/{path}", json={"run_id": run, **body} if path.startswith("runs/") else body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert message in answer.json()["message"]


def test_what_is_not_there_is_told(mlflow_client, http):
    for call in (
        lambda: mlflow_client.get_run("run_none"),
        lambda: mlflow_client.log_metric("run_none", "m", 1.0),
        lambda: mlflow_client.get_experiment("exp_none"),
        lambda: mlflow_client.create_run("exp_none"),
    ):
        with pytest.raises(MlflowException) as refused:
            call()
        assert code_of(refused) == "RESOURCE_DOES_NOT_EXIST"
    unknown = http.post("/nothing/here", json={})
    assert (unknown.status_code, unknown.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")


def test_runs_are_the_same_natively(platform, mlflow_client, experiment, run):
    mlflow_client.log_batch(run, [Metric("loss", 0.5, 1, 1)], [Param("lr", "0.1")], [RunTag("t", "v")])
    native = platform.client().experiments
    found = native.get_run(run)
    assert (found.metrics, found.parameters["lr"], found.tags["t"], found.status) == (
        {"loss": 0.5},
        "0.1",
        "v",
        "running",
    )
    made = native.create_run(experiment, name="native", parameters={"depth": 3, "flag": True})
    native.log_batch(made.id, metrics=[{"key": "loss", "value": 0.25, "step": 2}])
    native.update_run(made.id, status="finished")
    theirs = mlflow_client.get_run(made.id)
    assert (theirs.data.params, theirs.data.metrics) == ({"depth": "3", "flag": "true"}, {"loss": 0.25})
    assert theirs.info.status == "FINISHED"


def test_who_may_do_what(platform, mlflow_client, as_user, token_of, experiment, run):
    viewer = as_user(token_of("viewer"))
    assert viewer.get_run(run).info.run_id == run
    for write in (lambda: viewer.log_metric(run, "m", 1.0), lambda: viewer.create_run(experiment)):
        with pytest.raises(MlflowException) as refused:
            write()
        assert code_of(refused) == "PERMISSION_DENIED"
    stranger = platform.stranger().rest.http.headers["authorization"].removeprefix("Bearer ")
    outside = as_user(stranger)
    for call in (
        lambda: outside.get_run(run),
        lambda: outside.log_metric(run, "m", 1.0),
        lambda: outside.get_experiment(experiment),
        lambda: outside.delete_experiment(experiment),
    ):
        with pytest.raises(MlflowException) as refused:
            call()
        assert code_of(refused) == "RESOURCE_DOES_NOT_EXIST"
    assert outside.search_runs([experiment], run_view_type=ViewType.ALL) == []
    with pytest.raises(MlflowException) as refused:
        as_user("mops_wrong").get_run(run)
    assert code_of(refused) == "UNAUTHENTICATED"


def test_the_workspace_header_names_the_project(platform, http, run):
    admin = platform.client()
    admin.identity.create_project("second")
    body = {"name": "there"}
    made = http.post("/experiments/create", json=body, headers={"X-MLFLOW-WORKSPACE": "second"}).json()
    found = http.get("/experiments/get", params=made)
    assert found.status_code == 404
    assert platform.client(project="second").experiments.get_experiment("there").id == made["experiment_id"]
    with pytest.raises(NotFound):
        platform.client(project="second").experiments.get_run(run)
    assert http.post("/experiments/create", json=body, headers={"X-MLFLOW-WORKSPACE": "none"}).status_code == 404


def test_who_began_a_run_is_told_by_older_clients_in_a_field(http, experiment):
    for body, user in (
        ({"user_id": "ana"}, "ana"),
        ({"user_id": "ana", "tags": [{"key": "mlflow.user", "value": "bo"}]}, "bo"),
    ):
        run = http.post("/runs/create", json={"experiment_id": experiment, **body}).json()["run"]
        assert run["info"]["user_id"] == user
        assert http.get("/runs/get", params={"run_id": run["info"]["run_id"]}).json()["run"]["info"]["user_id"] == user
    unknown = http.post("/runs/create", json={"experiment_id": experiment, "user_id": "unknown"}).json()["run"]["info"]
    assert unknown["user_id"].startswith("usr_")
    long = http.post("/runs/create", json={"experiment_id": experiment, "user_id": "x" * 257})
    assert long.status_code == 400


def test_projects_are_mlflows_workspaces(platform, mlflow_client, as_user):
    platform.client().identity.create_project("second")
    projects = {project.name for project in platform.client().identity.list_projects().items}
    assert {workspace.name for workspace in mlflow_client.list_workspaces()} == projects > {"second"}
    assert mlflow_client.get_workspace("second").name == "second"
    for call in (mlflow_client.create_workspace, mlflow_client.delete_workspace):
        with pytest.raises(MlflowException, match="made and changed there") as refused:
            call("third")
        assert code_of(refused) == "NOT_IMPLEMENTED"
    stranger = as_user(platform.stranger().rest.http.headers["authorization"].removeprefix("Bearer "))
    assert "second" not in {workspace.name for workspace in stranger.list_workspaces()}
    with pytest.raises(MlflowException) as refused:
        stranger.get_workspace("second")
    assert code_of(refused) == "RESOURCE_DOES_NOT_EXIST"


def test_many_clients_write_one_run_at_once(mlflow_client, run):
    writers, failures = 6, []

    def write(number):
        try:
            for step in range(20):
                mlflow_client.log_batch(
                    run, [Metric("shared", step, step, step), Metric(f"own{number}", step, step, step)]
                )
        except MlflowException as refused:
            failures.append(refused)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(mlflow_client.get_metric_history(run, "shared")) == 20
    assert mlflow_client.get_run(run).data.metrics == {"shared": 19.0, **{f"own{n}": 19.0 for n in range(writers)}}


def test_the_default_experiment_is_found_by_who_may_make_it(platform, as_user, token_of):
    assert as_user(token_of("viewer")).search_experiments() == []
    assert [found.name for found in as_user(platform.admin_key).search_experiments()] == ["Default"]

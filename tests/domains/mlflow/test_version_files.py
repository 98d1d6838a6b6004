"""The files of model versions over HTTP: their own, or what lies at the source of a version that is no package."""

import httpx
import pytest

PROXY = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture
def http(platform, url):
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {platform.admin_key}"}) as client:
        yield client


@pytest.fixture
def file_of(mlflow_client, http):
    """Registers a source and returns the answer to a request for a file of it."""
    mlflow_client.create_registered_model("m")

    def get(source, path, **named):
        version = mlflow_client.create_model_version("m", source, await_creation_for=0, **named).version
        return http.get("/model-versions/get-artifact", params={"name": "m", "version": version, "path": path})

    return get


def test_a_file_is_read_at_the_source_of_a_version_without_files(http, file_of, url):
    http.put(f"{PROXY}/a.txt", content=b"a")
    http.put(f"{PROXY}/dir/b c.txt", content=b"b")
    for source, path, content in (
        ("mlflow-artifacts:", "a.txt", b"a"),
        ("mlflow-artifacts:/", "dir/b c.txt", b"b"),
        ("mlflow-artifacts:/dir/", "b c.txt", b"b"),
        (f"{url}{PROXY}/dir", "b c.txt", b"b"),
    ):
        found = file_of(source, path)
        assert (found.status_code, found.content) == (200, content)
    assert file_of("mlflow-artifacts:/dir", "a.txt").status_code == 404
    assert file_of("mlflow-artifacts:/dir", "../a.txt").status_code == 400


def test_so_is_one_of_a_run_of_a_logged_model_and_of_a_copy(mlflow_client, http, file_of):
    experiment = mlflow_client.create_experiment("trials")
    run = mlflow_client.create_run(experiment).info.run_id
    http.put(f"{PROXY}/{experiment}/{run}/artifacts/deep/x.bin", content=b"run")
    model = mlflow_client.create_logged_model(experiment)
    http.put(f"{PROXY}/{experiment}/models/{model.model_id}/artifacts/x.bin", content=b"model")
    assert file_of(f"runs:/{run}/deep", "x.bin").content == b"run"
    assert file_of(f"runs:/{run}", "deep/x.bin").content == b"run"
    assert file_of(f"models:/{model.model_id}", "x.bin").content == b"model"
    mlflow_client.copy_model_version("models:/m/1", "n")
    copied = http.get("/model-versions/get-artifact", params={"name": "n", "version": "1", "path": "x.bin"})
    assert copied.content == b"run"


@pytest.mark.parametrize("source", ["s3://bucket/dir", "https://host/dir"])
def test_nothing_is_fetched_from_elsewhere(file_of, source):
    answer = file_of(source, "a.txt")
    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_who_is_not_of_the_project_reads_none(platform, http, file_of, url):
    http.put(f"{PROXY}/a.txt", content=b"a")
    assert file_of("mlflow-artifacts:", "a.txt").status_code == 200
    token = platform.stranger().rest.http.headers["authorization"]
    query = {"name": "m", "version": "1", "path": "a.txt"}
    seen = httpx.get(f"{url}/model-versions/get-artifact", params=query, headers={"authorization": token})
    assert seen.status_code == 404

"""The artifact proxy through MLflow's own client and over plain HTTP: one tree, the platform's files and permissions."""

import contextlib
import hashlib
import itertools
import json
import os
import subprocess
import sys
import threading
import warnings
from http.client import HTTPConnection
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import update

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow.artifacts import download_artifacts
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from modelops.contracts.errors import PermissionDenied
from modelops.domains.experiments.artifacts import run_to_write
from modelops.domains.experiments.tables import RunRow
from modelops.domains.mlflow.holding import holds
from modelops.kernel.context import Actor

PROXY = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture
def run(platform):
    admin = platform.client()
    admin.experiments.create_experiment("trials")
    return admin.experiments.create_run("trials")


@pytest.fixture
def repository(mlflow_client, run):
    """The client's view of the run's artifacts."""
    return get_artifact_repository(f"mlflow-artifacts:/{run.experiment_id}/{run.id}/artifacts")


@pytest.fixture
def http(platform, url):
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {platform.admin_key}"}) as client:
        yield client


def raw(http, method, path, body=b""):
    """Send a path as it is; other clients make it plain first."""
    connection = HTTPConnection(http.base_url.host, http.base_url.port, timeout=60)
    try:
        connection.request(method, path, body, {"authorization": http.headers["authorization"]})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def paths(found):
    return [entry.path for entry in found]


def test_files_go_up_are_listed_come_down_and_go(repository, mlflow_client, platform, run, tmp_path):
    folder = tmp_path / "up"
    (folder / "dir" / "größe").mkdir(parents=True)
    (folder / "a b.txt").write_text("0")
    (folder / "dir" / "größe" / "数 50%.bin").write_bytes(b"\x00\xff")
    repository.log_artifacts(str(folder), "out")
    repository.log_artifact(str(folder / "a b.txt"))
    assert paths(repository.list_artifacts()) == ["a b.txt", "out"]
    assert paths(repository.list_artifacts("out")) == ["out/a b.txt", "out/dir"]
    assert repository.list_artifacts("a b.txt") == []
    assert paths(repository.list_artifacts("out/dir/größe")) == ["out/dir/größe/数 50%.bin"]
    assert [entry.file_size for entry in repository.list_artifacts("out/dir/größe")] == [2]
    native = platform.client().experiments.list_run_artifacts(run.id).items
    assert [file.path for file in native] == ["a b.txt", "out/a b.txt", "out/dir/größe/数 50%.bin"]
    down = Path(repository.download_artifacts("out", str(tmp_path)))
    assert (down / "dir" / "größe" / "数 50%.bin").read_bytes() == b"\x00\xff"
    repository.delete_artifacts("out/dir")
    assert paths(repository.list_artifacts("out")) == ["out/a b.txt"]
    repository.delete_artifacts()
    assert repository.list_artifacts() == []


def test_what_is_linked_natively_is_seen_through_mlflow(repository, platform, run, tmp_path):
    admin = platform.client()
    artifact = admin.data.upload_artifact(b"content")
    admin.experiments.link_run_artifact(run.id, "deep/model.bin", artifact.digest)
    assert paths(repository.list_artifacts("deep")) == ["deep/model.bin"]
    assert Path(repository.download_artifacts("deep/model.bin", str(tmp_path))).read_bytes() == b"content"


def test_a_path_given_anew_names_the_new_content(repository, tmp_path):
    for content in ("old", "new"):
        (tmp_path / "a.txt").write_text(content)
        repository.log_artifact(str(tmp_path / "a.txt"))
    assert Path(repository.download_artifacts("a.txt")).read_text() == "new"


def test_the_projects_own_files(http):
    assert http.get(PROXY).json() == {"files": []}
    assert http.put(f"{PROXY}/a.txt", content=b"0").status_code == 200
    assert http.put(f"{PROXY}/dir/b.txt", content=b"1").json() == {}
    assert http.get(PROXY).json() == {
        "files": [{"path": "a.txt", "is_dir": False, "file_size": 1}, {"path": "dir", "is_dir": True}]
    }
    listed = http.get(PROXY, params={"path": "dir/"}).json()
    assert listed == {"files": [{"path": "b.txt", "is_dir": False, "file_size": 1}]}
    assert http.get(f"{PROXY}/dir/b.txt").content == b"1"
    assert http.delete(f"{PROXY}/dir").status_code == 200
    for gone in (http.get(f"{PROXY}/dir/b.txt"), http.delete(f"{PROXY}/dir"), http.get(f"{PROXY}/dir")):
        assert (gone.status_code, gone.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_case_tells_folders_apart(http):
    for name in ("dir/a", "DIR/b", "di_/c", "d%25r/d"):
        assert http.put(f"{PROXY}/{name}", content=b"x").status_code == 200
    assert [entry["path"] for entry in http.get(PROXY).json()["files"]] == ["DIR", "d%r", "di_", "dir"]
    assert [entry["path"] for entry in http.get(PROXY, params={"path": "dir"}).json()["files"]] == ["a"]
    http.delete(f"{PROXY}/di_")
    assert len(http.get(PROXY).json()["files"]) == 3


def test_a_path_is_a_file_or_a_folder(http, run):
    for root in (PROXY, f"{PROXY}/{run.experiment_id}/{run.id}/artifacts"):
        assert http.put(f"{root}/a", content=b"x").status_code == 200
        assert http.put(f"{root}/a/b", content=b"x").json()["error_code"] == "INVALID_PARAMETER_VALUE"
        assert http.put(f"{root}/c/d", content=b"x").status_code == 200
        assert http.put(f"{root}/c", content=b"x").json()["error_code"] == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(
    "path",
    [
        "../a",
        "a/../../b",
        "%2e%2e/a",
        "%252e%252e%252fa",
        "..%2f..%2fa",
        "%2fetc%2fpasswd",
        "c:%5ca",
        "a%5c..%5cb",
        "a%00b",
        "a%23b",
        "x" * 600,
    ],
)
def test_no_path_leads_out(http, path):
    for method in ("GET", "PUT", "DELETE"):
        status, answer = raw(http, method, f"{PROXY}/{path}", b"x" if method == "PUT" else b"")
        if len(path) == 600 and method != "PUT":
            assert status == 404
            continue
        assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), answer
        assert "Invalid path" in answer["message"]
    if len(path) != 600:
        assert raw(http, "GET", f"{PROXY}?path={path}")[0] == 400


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.txt", "text/plain"),
        ("b.pkl", "application/octet-stream"),
        ("c.png", "image/png"),
        ("d.pdf", "application/pdf"),
        ("e.html", "text/html"),
        ("MLmodel", "text/plain"),
        ("mlproject", "text/plain"),
    ],
)
def test_a_download_is_named_and_runs_nowhere(http, run, name, media_type):
    root = f"{PROXY}/{run.experiment_id}/{run.id}/artifacts"
    http.put(f"{root}/{name}", content=b"", headers={"content-type": "text/html"})
    parameters = {"run_id": run.id, "path": name}
    for answer in (http.get(f"{root}/{name}"), http.get("/get-artifact", params=parameters)):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == media_type
        assert answer.headers["content-disposition"] == f"attachment; filename={name}"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]


def test_artifacts_of_a_run_over_http(http, run):
    root = f"{PROXY}/{run.experiment_id}/{run.id}/artifacts"
    for path in ("a.txt", "dir/b.txt"):
        http.put(f"{root}/{path}", content=b"x")
    listed = http.get("/api/2.0/mlflow/artifacts/list", params={"run_id": run.id}).json()
    assert listed["files"] == [
        {"path": "a.txt", "is_dir": False, "file_size": 1},
        {"path": "dir", "is_dir": True},
    ]
    assert listed["root_uri"] == f"mlflow-artifacts:/{run.experiment_id}/{run.id}/artifacts"
    inner = http.get("/ajax-api/2.0/mlflow/artifacts/list", params={"run_id": run.id, "path": "dir"}).json()
    assert inner["files"] == [{"path": "dir/b.txt", "is_dir": False, "file_size": 1}]
    sent = http.post(
        "/ajax-api/2.0/mlflow/upload-artifact", params={"run_uuid": run.id, "path": "c/d"}, content=b"hello"
    )
    assert sent.status_code == 200
    assert http.get("/get-artifact", params={"run_uuid": run.id, "path": "c/d"}).content == b"hello"
    nothing = http.post("/ajax-api/2.0/mlflow/upload-artifact", params={"run_uuid": run.id, "path": "c/e"})
    assert (nothing.status_code, nothing.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "must specify data" in nothing.json()["message"]
    assert http.put(f"{root}/empty").status_code == 200
    assert http.get("/get-artifact", params={"run_uuid": run.id, "path": "empty"}).content == b""
    for wrong in ({"path": "a.txt"}, {"run_id": run.id}, {"run_id": run.id, "path": "../x"}):
        assert http.get("/get-artifact", params=wrong).status_code == 400
    assert http.get("/get-artifact", params={"run_id": "nobody", "path": "a"}).status_code == 404


@pytest.mark.parametrize("operation", ["mpu/create", "mpu/complete", "mpu/abort", "presigned"])
def test_what_a_content_addressed_store_does_not_offer_is_refused_by_name(http, operation):
    method = "GET" if operation == "presigned" else "POST"
    answer = http.request(method, f"/api/2.0/mlflow-artifacts/{operation}/a/b", json={})
    assert (answer.status_code, answer.json()["error_code"]) == (501, "NOT_IMPLEMENTED")
    assert "not supported for the current artifact repository" in answer.json()["message"]


def test_the_client_falls_back_to_one_body(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1")
    (tmp_path / "a.txt").write_text("content")
    repository.log_artifact(str(tmp_path / "a.txt"))
    assert paths(repository.list_artifacts()) == ["a.txt"]


def test_who_may_not_is_refused_before_the_body(repository, as_user, token_of, platform, run, url, tmp_path):
    (tmp_path / "a.txt").write_text("0")
    repository.log_artifact(str(tmp_path / "a.txt"))
    uri = f"mlflow-artifacts:/{run.experiment_id}/{run.id}/artifacts"
    as_user(token_of("viewer"))
    viewer = get_artifact_repository(uri)
    assert paths(viewer.list_artifacts()) == ["a.txt"]
    for refused in (lambda: viewer.log_artifact(str(tmp_path / "a.txt")), lambda: viewer.delete_artifacts("a.txt")):
        with pytest.raises(Exception, match="403") as denied:
            refused()
        assert "runs.write" in str(denied.value) or "artifacts.write" in str(denied.value)
    as_user(platform.stranger().rest.http.headers["authorization"].removeprefix("Bearer "))
    stranger = get_artifact_repository(uri)
    for hidden in (
        stranger.list_artifacts,
        lambda: stranger.log_artifact(str(tmp_path / "a.txt")),
        lambda: stranger.delete_artifacts("a.txt"),
        lambda: stranger.download_artifacts("a.txt", str(tmp_path)),
    ):
        with pytest.raises(Exception, match="404"):
            hidden()
    assert httpx.put(f"{url}{PROXY}/a", content=b"x").status_code == 401


def test_projects_do_not_share_a_tree(http, platform):
    platform.client().identity.create_project("second")
    http.put(f"{PROXY}/a.txt", content=b"first")
    other = {"X-MLFLOW-WORKSPACE": "second"}
    assert http.get(PROXY, headers=other).json() == {"files": []}
    http.put(f"{PROXY}/a.txt", content=b"second", headers=other)
    assert (http.get(f"{PROXY}/a.txt").text, http.get(f"{PROXY}/a.txt", headers=other).text) == ("first", "second")


def test_a_job_writes_on_its_own_run_alone(http, platform, run):
    with platform.place.work() as ctx:
        ctx.session.execute(update(RunRow).where(RunRow.id == run.id).values(job_id="job_other"))
    grant = Actor("job_1", "job", "grant", None, run.project_id, None, frozenset({"runs.write"}))
    with platform.place.work(grant) as ctx, pytest.raises(PermissionDenied):
        run_to_write(ctx, run.id)


@pytest.mark.slow
def test_a_large_file_streams_through_in_bounded_memory(tmp_path):
    server, told = started(tmp_path / "home")
    try:
        process = psutil.Process(server.pid)
        large = tmp_path / "large.bin"
        with large.open("wb") as file:
            for _ in range(200):
                file.write(os.urandom(1024 * 1024))
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": told["url"],
            "MLFLOW_TRACKING_TOKEN": told["key"],
        }
        script = (
            "import sys, hashlib; from mlflow.store.artifact.artifact_repository_registry import"
            " get_artifact_repository as r; x = r('mlflow-artifacts:/own');"
            " x.log_artifact(sys.argv[1]) if sys.argv[2] == 'up' else print(hashlib.file_digest(open("
            "x.download_artifacts('large.bin', sys.argv[1]), 'rb'), 'sha256').hexdigest())"
        )
        before = process.memory_info().rss
        subprocess.run([sys.executable, "-c", script, large, "up"], env=environment, check=True)
        target = tmp_path / "down"
        target.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", script, target, "down"], env=environment, check=True, capture_output=True, text=True
        )
        grown = process.memory_info().rss - before
        with large.open("rb") as file:
            assert done.stdout.strip() == hashlib.file_digest(file, "sha256").hexdigest()
        assert grown < 100 * 1024 * 1024, grown
    finally:
        server.stdin.close()
        server.wait(30)
        server.stdout.close()


def test_the_collector_is_told_what_is_held(http, platform):
    http.put(f"{PROXY}/a.txt", content=b"held")
    digest = f"sha256:{hashlib.sha256(b'held').hexdigest()}"
    project = platform.client().identity.get_me().project_id
    with platform.place.work(write=False) as ctx:
        assert holds(ctx, [digest, "sha256:" + "0" * 64]) == {(project, digest)}
    http.delete(f"{PROXY}/a.txt")
    with platform.place.work(write=False) as ctx:
        assert holds(ctx, [digest]) == set()


def started(folder):
    server = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("serving.py"), folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return server, json.loads(server.stdout.readline())


@pytest.mark.slow
def test_what_was_acknowledged_survives_kills(tmp_path):
    kept, versions, key = {}, [], None
    for turn in range(3):
        server, told = started(tmp_path / "home")
        key = key or told["key"]
        killer = threading.Timer(1.5, server.kill)
        headers = {"authorization": f"Bearer {key}"}
        try:
            with httpx.Client(base_url=told["url"], headers=headers) as http:
                http.post("/api/2.0/mlflow/registered-models/create", json={"name": "m"})
                killer.start()
                with contextlib.suppress(httpx.HTTPError):
                    for number in itertools.count():
                        path, content = f"{turn}/{number}.bin", os.urandom(1000)
                        if http.put(f"{PROXY}/{path}", content=content).status_code == 200:
                            kept[path] = content
                        made = http.post(
                            "/api/2.0/mlflow/model-versions/create", json={"name": "m", "source": "s3://b/m"}
                        )
                        if made.status_code == 200:
                            versions.append(made.json()["model_version"]["version"])
        finally:
            killer.cancel()
            server.kill()
            server.wait(30)
            server.stdin.close()
            server.stdout.close()
    assert len(kept) > 3
    assert len(set(versions)) == len(versions)
    server, told = started(tmp_path / "home")
    try:
        with httpx.Client(base_url=told["url"], headers={"authorization": f"Bearer {key}"}) as http:
            for path, content in kept.items():
                assert http.get(f"{PROXY}/{path}").content == content
            found = http.get("/api/2.0/mlflow/model-versions/search").json()["model_versions"]
            assert {version["version"] for version in found} >= set(versions)
    finally:
        server.stdin.close()
        server.wait(30)
        server.stdout.close()


def test_downloads_by_uri(repository, mlflow_client, run, tmp_path):
    (tmp_path / "a.txt").write_text("0")
    repository.log_artifact(str(tmp_path / "a.txt"), "dir")
    uri = f"mlflow-artifacts:/{run.experiment_id}/{run.id}/artifacts/dir/a.txt"
    assert Path(download_artifacts(artifact_uri=uri, dst_path=str(tmp_path / "down"))).read_text() == "0"

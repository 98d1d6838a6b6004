"""Artifacts: kept once, read as they were written, and seen by their project alone."""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from modelops.contracts.errors import (
    ArtifactCorrupted,
    InvalidInput,
    NotFound,
    PermissionDenied,
    StorageFull,
    Unavailable,
)
from modelops.contracts.ports import BlobStore
from modelops.contracts.rest import Rest
from modelops.domains.data import service
from modelops.domains.data.client import Data


def digest(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_what_goes_in_comes_out(platform, tmp_path):
    data, content = platform.client().data, b"model" * 100_000
    artifact = data.upload_artifact(content, media_type="application/x-model")
    assert (artifact.digest, artifact.size, artifact.media_type) == (
        digest(content),
        len(content),
        "application/x-model",
    )
    assert data.upload_artifact(content).digest == artifact.digest
    assert data.list_artifacts().total == 1
    assert data.download_artifact(artifact.digest, tmp_path / "copy").read_bytes() == content


def test_a_body_with_another_digest_is_refused(platform):
    with pytest.raises(InvalidInput):
        platform.client().data.upload_artifact(b"a", digest=digest(b"b"))
    assert platform.client().data.list_artifacts().total == 0


def test_another_tenant_does_not_see_a_blob_even_by_its_digest(platform, tmp_path):
    artifact = platform.client().data.upload_artifact(b"secret")
    stranger = platform.stranger()
    with pytest.raises(NotFound):
        stranger.data.get_artifact(artifact.digest)
    with pytest.raises(NotFound):
        stranger.data.download_artifact(artifact.digest, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert stranger.data.upload_artifact(b"secret").digest == artifact.digest


def test_a_viewer_reads_and_does_not_write(platform):
    platform.client().data.upload_artifact(b"a")
    viewer = platform.member("viewer")
    assert viewer.data.get_artifact(digest(b"a")).size == 1
    with pytest.raises(PermissionDenied):
        viewer.data.upload_artifact(b"b")


def test_a_damaged_artifact_is_never_handed_out(sqlite_platform, tmp_path):
    data = sqlite_platform.client().data
    artifact = data.upload_artifact(b"precious" * 1000)
    for file in (sqlite_platform.platform.settings.home / "blobs").rglob("*"):
        if file.is_file() and artifact.digest.removeprefix("sha256:")[:20] in file.name:
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)
    with pytest.raises(ArtifactCorrupted):
        data.download_artifact(artifact.digest, tmp_path / "x")
    assert not list(tmp_path.glob("x*"))
    data.upload_artifact(b"precious" * 1000)
    assert data.download_artifact(artifact.digest, tmp_path / "x").read_bytes() == b"precious" * 1000


def test_a_full_disk_is_told_and_the_platform_goes_on(sqlite_platform, monkeypatch):
    data, store = sqlite_platform.client().data, sqlite_platform.place.ports[BlobStore]
    put = store.put

    def full(chunks, *, expected=None):
        raise StorageFull("The artifact store's disk is full.")

    monkeypatch.setattr(store, "put", full)
    with pytest.raises(StorageFull):
        data.upload_artifact(b"a")
    monkeypatch.setattr(store, "put", put)
    assert data.upload_artifact(b"a").size == 1


def test_bytes_that_are_gone_are_damage_and_not_a_wrong_name(sqlite_platform):
    data = sqlite_platform.client().data
    artifact = data.upload_artifact(b"gone")
    sqlite_platform.place.ports[BlobStore].delete(artifact.digest)
    with pytest.raises(ArtifactCorrupted):
        data.download_artifact(artifact.digest)
    with sqlite_platform.http(authorization=f"Bearer {sqlite_platform.admin_key}") as http:
        answer = http.get(f"/v1/artifacts/{artifact.digest}")
    assert (answer.status_code, answer.json()["code"]) == (500, "artifact_corrupted")


def test_the_same_content_from_many_at_once_is_one_artifact(platform):
    clients = [platform.client() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda client: client.data.upload_artifact(b"same" * 1000).digest, clients))
    assert set(found) == {digest(b"same" * 1000)}
    assert platform.client().data.list_artifacts().total == 1


def test_an_empty_content_is_a_content(platform):
    data = platform.client().data
    assert data.download_artifact(data.upload_artifact(b"").digest) == b""


def test_files_and_streams_go_in_and_memory_comes_out(sqlite_platform, tmp_path):
    data, seen = sqlite_platform.client().data, []
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    artifact = data.upload_artifact(tmp_path / "file", progress=seen.append)
    assert seen == [1_048_576, 2_097_152, 3_000_000]
    assert data.upload_artifact(io.BytesIO(b"x" * 3_000_000)) == artifact
    assert data.download_artifact(artifact.digest) == b"x" * 3_000_000
    with pytest.raises(InvalidInput, match="cannot be read"):
        data.upload_artifact(tmp_path / "none")
    with pytest.raises(InvalidInput, match="cannot be written"):
        data.download_artifact(artifact.digest, tmp_path / "none" / "file")


def test_a_browser_runs_nothing_that_somebody_uploaded(sqlite_platform):
    page = b"<script>alert(1)</script>"
    sqlite_platform.client().data.upload_artifact(page, media_type="text/html; charset=utf-8")
    with sqlite_platform.http(authorization=f"Bearer {sqlite_platform.admin_key}") as http:
        answer = http.get(f"/v1/artifacts/{digest(page)}")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["etag"] == f'"{digest(page)}"'
    assert answer.headers["content-length"] == str(len(page))


@pytest.mark.parametrize("media_type", ["", "text", "té/xt", "日/本", "a/b\r\nX: y", "a/" + "b" * 200, "text/html;"])
def test_a_media_type_that_is_none_is_refused(sqlite_platform, media_type):
    with pytest.raises(InvalidInput):
        sqlite_platform.client().data.upload_artifact(b"a", media_type=media_type)


def test_missing_artifacts_are_named(platform):
    client = platform.client()
    held, missing = client.data.upload_artifact(b"a"), [digest(b"b"), digest(b"c")]
    with platform.place.work(write=False) as system:
        ctx = system.within(client.data.create_dataset("d").project_id)
        assert service.require_artifacts(ctx, [held.digest, held.digest]) == {held.digest: held}
        assert service.require_artifacts(ctx, []) == {}
        with pytest.raises(NotFound, match=f"{missing[0]}' .and 1 more") as refused:
            service.require_artifacts(ctx, [held.digest, *missing])
    assert refused.value.extra["missing"] == missing


def test_a_content_that_changes_on_its_way_is_noticed(sqlite_platform, tmp_path):
    data = sqlite_platform.client().data
    artifact = data.upload_artifact(b"right")
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=b"wrong"))
    wrong = Data(Rest(httpx.Client(transport=transport, base_url="http://x")))
    for to in (None, tmp_path / "x"):
        with pytest.raises(ArtifactCorrupted):
            wrong.download_artifact(artifact.digest, to)
    assert list(tmp_path.iterdir()) == [tmp_path / "home"]


def test_a_download_that_breaks_off_leaves_no_file(sqlite_platform, tmp_path):
    def broken(_):
        def chunks():
            yield b"half"
            raise httpx.ReadError("gone")

        return httpx.Response(200, content=chunks())

    data = Data(Rest(httpx.Client(transport=httpx.MockTransport(broken), base_url="http://x")))
    (tmp_path / "x").write_bytes(b"before")
    with pytest.raises(Unavailable):
        data.download_artifact(digest(b"half"), tmp_path / "x")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir() if file.is_file()] == [("x", b"before")]

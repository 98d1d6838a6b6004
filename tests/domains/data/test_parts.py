"""Large files in parts: what has arrived stays, whoever breaks off."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.contracts.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    PermissionDenied,
    StorageFull,
    TooLarge,
    Unavailable,
)
from modelops.contracts.ports import BlobStore
from modelops.domains.data import parts
from modelops.domains.data.rules import parse_range, part_sizes
from modelops.domains.data.schemas import UploadState
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform
from modelops.testing.process import platform_process

PART = 65_536
CONTENT = hashlib.shake_128(b"large").digest(5 * PART + 123)


def digest(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def stored(platform):
    return {blob.digest for blob in platform.place.ports[BlobStore].walk()}


@pytest.fixture(params=["sqlite", "postgres"])
def platform(request, tmp_path):
    settings = {"database": request.getfixturevalue("postgres_database")} if request.param == "postgres" else {}
    with running_platform(tmp_path / "home", upload_part_bytes=PART, **settings) as under_test:
        yield under_test


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "IN_PARTS_FROM", PART)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(CONTENT)
    return path


@given(st.integers(0, 10**9), st.integers(1, 10**7))
def test_parts_make_up_the_whole(size, part_size):
    if size > part_size * 10_000:
        part_size = -(-size // 10_000)
    sizes = part_sizes(size, part_size)
    assert sum(sizes) == size
    assert all(first == part_size for first, _ in pairwise(sizes))
    assert all(sizes)


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_ranges_are_read_as_servers_read_them(size, first, last):
    content = bytes(range(size))
    cases = {
        f"bytes={first}-{last}": content[first : last + 1] if first <= last else None,
        f"bytes={first}-": content[first:],
        f"bytes=-{last}": content[max(size - last, 0) :] if last else b"",
    }
    for text, wanted in cases.items():
        try:
            span = parse_range(text, size)
        except IndexError:
            assert wanted == b"" or first >= size
            continue
        assert (None if span is None else content[slice(*span)]) == wanted


@pytest.mark.parametrize("text", [None, "", "bytes=-", "bytes=0-1,3-4", "lines=1-2", "bytes=a-b", "bytes=5-2"])
def test_ranges_that_may_be_ignored_are(text):
    assert parse_range(text, 10) is None


@pytest.mark.usefixtures("small_parts")
def test_a_large_file_arrives_and_leaves_no_parts(platform, file):
    data, told = platform.client().data, []
    artifact = data.upload_artifact(file, media_type="application/x-large", progress=told.append)
    assert (artifact.digest, artifact.size, artifact.media_type) == (
        digest(CONTENT),
        len(CONTENT),
        "application/x-large",
    )
    assert told == [PART, 2 * PART, 3 * PART, 4 * PART, 5 * PART, len(CONTENT)]
    assert data.download_artifact(artifact.digest) == CONTENT
    assert stored(platform) == {artifact.digest}
    (upload,) = data.list_uploads().items
    assert (upload.state, upload.received) == (UploadState.COMPLETED, [])
    assert data.upload_artifact(file) == artifact  # nothing is sent
    assert data.complete_upload(upload.id) == artifact


@pytest.mark.usefixtures("small_parts")
def test_an_interrupted_upload_goes_on_where_it_was(platform, file, monkeypatch):
    data = platform.client().data
    sent = []
    real = type(data).put_upload_part

    def put(self, upload, number, content):
        if len(sent) == 3:
            raise Unavailable("gone")
        sent.append(number)
        return real(self, upload, number, content)

    monkeypatch.setattr(type(data), "put_upload_part", put)
    with pytest.raises(Unavailable):
        data.upload_artifact(file)
    (upload,) = data.list_uploads().items
    assert (upload.state, upload.received, upload.parts) == (UploadState.OPEN, [1, 2, 3], 6)
    sent.clear()
    assert data.upload_artifact(file).digest == digest(CONTENT)
    assert sent == [4, 5, 6][: len(sent)]
    assert len(sent) == 3


@pytest.mark.usefixtures("small_parts")
def test_a_file_that_changes_meanwhile_is_refused_and_can_be_sent_anew(platform, file, monkeypatch):
    data = platform.client().data
    real = type(data).create_upload

    def create(self, *arguments, **options):
        file.write_bytes(CONTENT[::-1])
        return real(self, *arguments, **options)

    monkeypatch.setattr(type(data), "create_upload", create)
    with pytest.raises(InvalidInput, match="changed while"):
        data.upload_artifact(file)
    monkeypatch.undo()
    monkeypatch.setattr(parts, "IN_PARTS_FROM", PART)
    file.write_bytes(CONTENT)
    assert data.upload_artifact(file).digest == digest(CONTENT)
    with pytest.raises(InvalidInput, match="expected"):
        data.upload_artifact(file, digest=digest(b"other"))


def test_parts_in_any_order_and_more_than_once(platform):
    data = platform.client().data
    upload = data.create_upload(digest(CONTENT), len(CONTENT))
    cut = [CONTENT[start : start + PART] for start in range(0, len(CONTENT), PART)]
    for number in (6, 2, 2, 5, 1, 3):
        assert data.put_upload_part(upload.id, number, cut[number - 1]).size == len(cut[number - 1])
    with pytest.raises(Conflict, match="the first of them is 4") as refused:
        data.complete_upload(upload.id)
    assert refused.value.extra["missing"] == [4]
    assert len(stored(platform)) == 5
    data.put_upload_part(upload.id, 2, b"x" * PART)
    data.put_upload_part(upload.id, 4, cut[3])
    with pytest.raises(InvalidInput, match="do not make up"):
        data.complete_upload(upload.id)
    data.put_upload_part(upload.id, 2, cut[1])
    assert data.complete_upload(upload.id).digest == digest(CONTENT)
    assert stored(platform) == {digest(CONTENT)}
    with pytest.raises(Conflict, match="takes no more parts"):
        data.put_upload_part(upload.id, 1, cut[0])


def test_parts_side_by_side(platform):
    data = platform.client().data
    upload = data.create_upload(digest(CONTENT), len(CONTENT))
    cut = [CONTENT[start : start + PART] for start in range(0, len(CONTENT), PART)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: data.put_upload_part(upload.id, n + 1, cut[n]), range(6)))
    assert data.get_upload(upload.id).received == [1, 2, 3, 4, 5, 6]
    assert data.complete_upload(upload.id).digest == digest(CONTENT)


@pytest.mark.parametrize(
    ("number", "content"), [(1, b"short"), (1, b"x" * (PART + 1)), (7, b"x"), (6, b"x" * PART), (6, b"")]
)
def test_a_part_of_another_size_is_refused(platform, number, content):
    data = platform.client().data
    upload = data.create_upload(digest(CONTENT), len(CONTENT))
    with pytest.raises(InvalidInput):
        data.put_upload_part(upload.id, number, content)
    assert stored(platform) == set()


def test_a_part_changed_on_its_way_is_refused(platform):
    client = platform.client()
    upload = client.data.create_upload(digest(CONTENT), len(CONTENT))
    with pytest.raises(InvalidInput, match="changed on its way"):
        client.rest.request(
            "PUT", f"/uploads/{upload.id}/parts/1", content=b"x" * PART, params={"digest": digest(b"y" * PART)}
        )
    assert stored(platform) == set()


def test_completing_twice_at_once(platform):
    data = platform.client().data
    upload = data.create_upload(digest(CONTENT), len(CONTENT))
    for number in range(1, upload.parts + 1):
        data.put_upload_part(upload.id, number, CONTENT[(number - 1) * PART : number * PART])
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: platform.client().data.complete_upload(upload.id), range(6)))
    assert {artifact.digest for artifact in done} == {digest(CONTENT)}
    assert stored(platform) == {digest(CONTENT)}


def test_a_full_disk_at_the_end_loses_no_part(platform, monkeypatch):
    data, store = platform.client().data, platform.place.ports[BlobStore]
    upload = data.create_upload(digest(CONTENT), len(CONTENT))
    for number in range(1, upload.parts + 1):
        data.put_upload_part(upload.id, number, CONTENT[(number - 1) * PART : number * PART])

    def full(chunks, *, expected=None):
        raise StorageFull("The artifact store's disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(store, "put", full)
        with pytest.raises(StorageFull):
            data.complete_upload(upload.id)
    assert data.get_upload(upload.id).received == list(range(1, upload.parts + 1))
    assert data.complete_upload(upload.id).digest == digest(CONTENT)


def test_an_empty_file_has_no_parts(platform):
    data = platform.client().data
    upload = data.create_upload(digest(b""), 0)
    assert upload.parts == 0
    assert data.complete_upload(upload.id).size == 0


def test_an_upload_that_is_given_up_leaves_nothing(platform):
    data = platform.client().data
    upload = data.create_upload(digest(CONTENT), len(CONTENT))
    data.put_upload_part(upload.id, 1, CONTENT[:PART])
    data.delete_upload(upload.id)
    assert stored(platform) == set()
    with pytest.raises(NotFound):
        data.get_upload(upload.id)


def test_who_may(platform):
    admin, stranger, viewer = platform.client().data, platform.stranger().data, platform.member("viewer").data
    upload = admin.create_upload(digest(CONTENT), len(CONTENT))
    for act in (
        lambda data: data.put_upload_part(upload.id, 1, b"x" * PART),
        lambda data: data.complete_upload(upload.id),
        lambda data: data.delete_upload(upload.id),
    ):
        with pytest.raises(NotFound):
            act(stranger)
        with pytest.raises(PermissionDenied):
            act(viewer)
    with pytest.raises(PermissionDenied):
        viewer.create_upload(digest(CONTENT), 1)
    assert viewer.get_upload(upload.id).id == upload.id
    assert platform.member("data_scientist").data.create_upload(digest(CONTENT), len(CONTENT)).id != upload.id


def test_a_stranger_gains_nothing_by_a_digest(platform):
    platform.client().data.upload_artifact(CONTENT)
    upload = platform.stranger().data.create_upload(digest(CONTENT), len(CONTENT))
    assert upload.state is UploadState.OPEN


def test_too_large_is_refused_before_it_is_sent(platform):
    with pytest.raises(TooLarge):
        platform.client().data.create_upload(digest(b""), 2**50)


def test_parts_of_a_sender_who_never_came_back_are_forgotten(tmp_path):
    clock = VirtualClock(datetime.now(UTC))
    with running_platform(tmp_path / "home", clock=clock, upload_part_bytes=PART, upload_ttl_s=3600) as platform:
        data = platform.client().data
        upload = data.create_upload(digest(CONTENT), len(CONTENT))
        data.put_upload_part(upload.id, 1, CONTENT[:PART])
        for _ in range(3):
            platform.controller.turn()
        assert len(stored(platform)) == 1
        clock.advance(days=2)
        for _ in range(4):
            platform.controller.turn()
        with pytest.raises(NotFound):
            data.get_upload(upload.id)


def test_ranges_over_http(sqlite_platform):
    platform = sqlite_platform
    name = platform.client().data.upload_artifact(CONTENT).digest
    with platform.http(authorization=f"Bearer {platform.admin_key}") as http:
        answer = http.get(f"/v1/artifacts/{name}", headers={"Range": "bytes=10-19"})
        assert (answer.status_code, answer.content) == (206, CONTENT[10:20])
        assert answer.headers["content-range"] == f"bytes 10-19/{len(CONTENT)}"
        behind = http.get(f"/v1/artifacts/{name}", headers={"Range": f"bytes={len(CONTENT)}-"})
        assert (behind.status_code, behind.headers["content-range"]) == (416, f"bytes */{len(CONTENT)}")
        assert http.get(f"/v1/artifacts/{name}", headers={"Range": "bytes=1-2,5-6"}).content == CONTENT


def test_a_download_that_breaks_is_taken_up_where_it_broke(sqlite_platform, tmp_path):
    client = sqlite_platform.client()
    client.rest.retry_for_s = 5
    name = client.data.upload_artifact(CONTENT).digest
    asked, real = [], client.rest.http.stream

    class Breaking:
        def __init__(self, opened):
            self.opened = opened

        def __enter__(self):
            answer = self.opened.__enter__()
            whole = answer.iter_bytes

            def some(size):
                for count, chunk in enumerate(whole(100_000)):
                    if count == 1 and len(asked) < 3:
                        raise httpx.ReadError("gone")
                    yield chunk

            answer.iter_bytes = some
            return answer

        def __exit__(self, *error):
            return self.opened.__exit__(*error)

    def stream(method, url, **options):
        asked.append(options["headers"].get("Range"))
        return Breaking(real(method, url, **options))

    client.rest.http.stream = stream
    told = []
    assert client.data.download_artifact(name, tmp_path / "copy", progress=told.append).read_bytes() == CONTENT
    assert asked == [None, "bytes=100000-", "bytes=200000-"]
    assert told == sorted(told)
    assert told[-1] == len(CONTENT)


SENDER = """
import sys
from modelops import Client
from modelops.domains.data import parts
parts.IN_PARTS_FROM = 1
with Client(sys.argv[1], token=sys.argv[2]) as client:
    def told(arrived):
        print(arrived, flush=True)
    client.data.upload_artifact(sys.argv[3], progress=told)
"""


@pytest.mark.slow
def test_client_and_platform_are_killed_and_what_has_arrived_stays(tmp_path):
    content = os.urandom(40 * 1024 * 1024)
    file = tmp_path / "large"
    file.write_bytes(content)

    def send(platform, key):
        command = [sys.executable, "-c", SENDER, platform.url, key, str(file)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    with platform_process(tmp_path / "home", upload_part_bytes=str(1024 * 1024)) as platform:
        with platform.client() as client:
            key = client.identity.create_api_key("k").secret
        with send(platform, key) as sender:
            for _ in range(10):
                sender.stdout.readline()
            sender.kill()
        with platform.client() as client:
            (upload,) = client.data.list_uploads().items
            assert 10 <= len(upload.received) < 40
        with send(platform, key) as sender:
            for _ in range(15):
                sender.stdout.readline()
            platform.kill()
            platform.start()
            with platform.client() as client:
                assert set(client.data.get_upload(upload.id).received) >= set(upload.received)
            arrived = [int(line) for line in sender.stdout]
            assert sender.wait() == 0
        assert arrived[-1] == len(content)
        with platform.client() as client:
            assert client.data.download_artifact(digest(content)) == content
            (done,) = client.data.list_uploads().items
            assert (done.id, done.state) == (upload.id, UploadState.COMPLETED)

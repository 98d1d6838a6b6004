"""Uploads: streamed in bounded memory, refused before they are read, and gone when they break off."""

import json
import subprocess
import sys

import anyio
import pytest

from modelops.contracts.errors import IdempotencyMismatch, PermissionDenied, TooLarge
from modelops.contracts.rest import Rest
from modelops.testing.platform import running_platform

CSV = b"x,y\n1,2\n"


class Request:
    """A request spoken to the application by hand, chunk by chunk."""

    def __init__(self, platform, method, path, *, token=None, query=b""):
        self.sent = []
        self.app = platform.app
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "root_path": "",
            "headers": [(b"authorization", f"Bearer {token or platform.admin_key}".encode())],
            "client": ("10.0.0.1", 1),
            "server": ("10.0.0.2", 1),
            "state": {},
        }

    async def send(self, message):
        self.sent.append(message)

    async def run(self, receive):
        await self.app(self.scope, receive, self.send)
        return self.sent[0]["status"] if self.sent else None

    def problem(self):
        return json.loads(b"".join(message.get("body", b"") for message in self.sent))


def kept_files(platform):
    return [file for file in (platform.platform.settings.home / "blobs").rglob("*") if file.is_file()]


@pytest.mark.parametrize("path", ["/v1/artifacts", "/v1/datasets/d/versions"])
def test_an_upload_whose_sender_goes_away_leaves_nothing(sqlite_platform, path):
    sqlite_platform.client().data.create_dataset("d")
    messages = iter(
        [{"type": "http.request", "body": b"x" * 3_000_000, "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive():
        return next(messages)

    anyio.run(Request(sqlite_platform, "POST", path, query=b"format=csv" * path.endswith("versions")).run, receive)
    assert kept_files(sqlite_platform) == []
    assert sqlite_platform.client().data.list_artifacts().total == 0
    assert sqlite_platform.client().data.get_dataset("d").latest_version is None


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/v1/datasets/none/versions", b"format=csv", 404),
        ("/v1/datasets/d/versions", b"format=csv&parents=d:7", 404),
        ("/v1/datasets/d/versions", b"format=xls", 422),
        ("/v1/artifacts", b"digest=md5:1", 422),
    ],
)
def test_what_will_be_refused_is_refused_before_the_body_is_read(sqlite_platform, path, query, status):
    sqlite_platform.client().data.create_dataset("d")

    async def receive():
        raise AssertionError("The body was read.")

    assert anyio.run(Request(sqlite_platform, "POST", path, query=query).run, receive) == status


def test_uploads_that_stand_still_do_not_hold_up_others(sqlite_platform):
    async def story():
        stuck = anyio.Event()

        async def stand_still():
            await stuck.wait()
            return {"type": "http.disconnect"}

        async with anyio.create_task_group() as tasks:
            for _ in range(60):
                tasks.start_soon(Request(sqlite_platform, "POST", "/v1/artifacts").run, stand_still)
            for _ in range(20):
                await anyio.sleep(0)
            with anyio.fail_after(20):
                for _ in range(3):
                    assert await Request(sqlite_platform, "GET", "/v1/artifacts").run(stand_still) == 200
            stuck.set()

    anyio.run(story)
    assert kept_files(sqlite_platform) == []


def test_an_upload_larger_than_allowed_leaves_nothing(tmp_path):
    with running_platform(tmp_path / "home", max_upload_bytes=100_000, max_body_bytes=2_000) as platform:
        data = platform.client().data
        assert data.upload_artifact(b"x" * 100_000).size == 100_000
        before = kept_files(platform)
        with pytest.raises(TooLarge):
            data.upload_artifact(b"y" * 100_001)
        assert kept_files(platform) == before


def test_a_create_that_is_sent_again_answers_as_the_first_time(platform):
    client = platform.client()
    client.data.create_dataset("d")
    path = "/datasets/d/versions"

    def send(content, rest: Rest = client.rest, **sent):
        params = {"format": "csv"}
        return rest.request("POST", path, content=content, params=params, headers={"Idempotency-Key": "k"}, **sent)

    first, again = send(CSV), send(CSV)
    assert first.json() == again.json()
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["idempotency-replayed"] == "true"
    assert client.data.get_dataset("d").latest_version == 1
    with pytest.raises(IdempotencyMismatch):
        send(b"x,y\n1,3\n")
    other = platform.member("data_scientist")
    assert send(CSV, other.rest).json()["version"] == 2


def test_a_denied_upload_is_on_record(sqlite_platform):
    viewer = sqlite_platform.member("viewer")
    with pytest.raises(PermissionDenied):
        viewer.data.upload_artifact(b"a")
    records = sqlite_platform.client().identity.list_audit_records(filter='operation = "data.upload_artifact"').items
    assert [record.outcome for record in records] == ["permission_denied"]


def test_a_large_csv_passes_in_bounded_memory(tmp_path):
    """A file of 96 MB takes hardly more memory at its peak than one of 48 MB did before it in the same process."""
    script = """
import resource, sys
from pathlib import Path
from modelops.testing.platform import running_platform

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

folder = Path(sys.argv[1])
line = "".join(f"{n},{n * 0.377},{n % 7},word {n % 1000},2026-01-{n % 28 + 1:02}\\n" for n in range(10_000))
sizes = [48, 96]
for size in sizes:
    with (folder / f"{size}.csv").open("w") as file:
        file.write("id,value,class,text,day\\n")
        while file.tell() < size * 1024**2:
            file.write(line)
with running_platform(folder / "home") as platform:
    data = platform.client().data
    data.create_dataset("big")
    peaks = []
    for size in sizes:
        version = data.create_dataset_version("big", folder / f"{size}.csv")
        data.download_artifact(version.digest, folder / "copy")
        assert (folder / "copy").stat().st_size == version.size >= size * 1024**2
        peaks.append(peak())
print(peaks)
assert peaks[1] - peaks[0] < 40, peaks
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

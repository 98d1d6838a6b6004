"""Artifacts: kept once, read as they were written, and seen by their project alone."""

import hashlib
import subprocess
import sys

import pytest

from modelops.contracts.errors import ArtifactCorrupted, InvalidInput, NotFound, PermissionDenied, StorageFull
from modelops.contracts.ports import BlobStore


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


@pytest.mark.slow
def test_a_file_larger_than_the_memory_given_is_up_and_downloaded(tmp_path):
    """200 MB pass through a platform whose process may use little more memory than it needs to start."""
    script = """
import resource, sys, hashlib
from pathlib import Path
from modelops.testing.platform import running_platform
folder = Path(sys.argv[1])
with running_platform(folder / "home") as platform:
    data = platform.client().data
    data.upload_artifact(b"warm")
    data.create_dataset("big")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    big = folder / "big.csv"
    with big.open("w") as file:
        file.write("a,b,c,text\\n")
        for n in range(40_000):
            file.write(f"{n},{n * 0.37},{n % 7},word{n % 1000}\\n" * 5)
    with (folder / "big.bin").open("wb") as file:
        for n in range(200):
            file.write(hashlib.sha256(str(n).encode()).digest() * 32768)
    artifact = data.upload_artifact(folder / "big.bin")
    data.download_artifact(artifact.digest, folder / "copy.bin")
    version = data.create_dataset_version("big", big)
    assert version.rows == 200_000, version.rows
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print("grown by", grown)
    assert grown < 150, grown
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)

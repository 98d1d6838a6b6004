import errno
import os
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelops.adapters.local import LocalBlobStore
from modelops.contracts.errors import ArtifactCorrupted, StorageFull
from modelops.contracts.ports import BlobStore
from modelops.testing.blob_store import NOISE, TEXT, BlobStoreContract, digest_of


def stored_file(root, digest):
    (path,) = root.glob(f"sha256/*/*/{digest.removeprefix('sha256:')}*")
    return path


def files_below(root):
    return [path for path in root.rglob("*") if path.is_file()]


def flip(path, position, mask=0x40):
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(data)


class TestLocalBlobStore(BlobStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return LocalBlobStore(tmp_path / "blobs")

    @pytest.fixture
    def damage(self, tmp_path):
        def flip_in_the_middle(digest):
            path = stored_file(tmp_path / "blobs", digest)
            flip(path, path.stat().st_size // 2)

        return flip_in_the_middle


@pytest.fixture
def root(tmp_path):
    return tmp_path / "blobs"


@pytest.fixture
def store(root):
    return LocalBlobStore(root)


def test_it_is_a_blob_store(store):
    assert isinstance(store, BlobStore)


def test_what_compresses_is_compressed_and_what_does_not_is_not(store, root):
    text, noise = store.put([TEXT]), store.put([NOISE])
    assert text.stored_size < len(TEXT) / 100
    assert noise.stored_size == len(NOISE)
    assert stored_file(root, noise.digest).read_bytes() == NOISE


def test_a_stored_file_is_an_ordinary_zstandard_file(store, root):
    path = stored_file(root, store.put([TEXT]).digest)
    with open(path, "rb") as file, zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as content:
        assert content.read() == TEXT


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=3000), repeat=st.sampled_from([1, 3, 400]), data=st.data())
def test_any_bytes_in_any_chunks_come_back(store, content, repeat, data):
    content *= repeat
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=8)))
    chunks = [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    info = store.put(chunks)
    assert (info.digest, info.size) == (digest_of(content), len(content))
    assert info == store.stat(info.digest)
    assert b"".join(store.read(info.digest)) == content


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(compressible=st.booleans(), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(store, root, compressible, where, bit):
    content = b"".join(b"line %d\n" % number for number in range(3000)) if compressible else NOISE[:3000]
    digest = store.put([content]).digest
    path = stored_file(root, digest)
    flip(path, int(where * path.stat().st_size), 1 << bit)
    with pytest.raises(ArtifactCorrupted):
        list(store.read(digest))
    with pytest.raises(ArtifactCorrupted):
        store.open(digest)


@pytest.mark.parametrize("content", [TEXT, NOISE], ids=["text", "noise"])
def test_missing_and_added_bytes_are_noticed(store, root, content):
    digest = store.put([content]).digest
    path = stored_file(root, digest)
    whole = path.read_bytes()
    for damaged in (b"", whole[:10], whole[: len(whole) // 2], whole[:-1], whole + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(ArtifactCorrupted):
            list(store.read(digest))
    path.write_bytes(whole)
    assert b"".join(store.read(digest)) == content


def test_only_one_file_is_left_after_many_puts(store, root):
    for _ in range(3):
        store.put([TEXT])
    assert len(files_below(root)) == 1


def test_stat_of_a_damaged_header_asks_for_the_content_again(store, root):
    digest = store.put([TEXT]).digest
    flip(stored_file(root, digest), 0)
    assert store.stat(digest) is None
    store.put([TEXT])
    assert store.stat(digest).size == len(TEXT)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_keeps_nothing(store, root, monkeypatch, code, call):
    def full(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StorageFull):
        store.put([TEXT])
    monkeypatch.undo()
    assert files_below(root) == []
    assert store.put([TEXT]) == store.stat(digest_of(TEXT))


def test_a_disk_that_is_really_full_keeps_nothing(small_disk):
    mount = small_disk("1m")
    store = LocalBlobStore(mount)
    kept = store.put([TEXT])
    for content in (NOISE, NOISE + TEXT):
        with pytest.raises(StorageFull):
            store.put([content])
    assert len(files_below(mount)) == 1
    assert b"".join(store.read(kept.digest)) == TEXT
    with pytest.raises(StorageFull):
        store.open(kept.digest)  # unpacking it takes more than there is
    assert len(files_below(mount)) == 1


def test_a_file_size_limit_keeps_nothing(root):
    code = f"""
        import resource
        from pathlib import Path
        from modelops.adapters.local import LocalBlobStore
        from modelops.contracts.errors import StorageFull
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        try:
            LocalBlobStore(Path({str(root)!r})).put([open('/dev/urandom', 'rb', buffering=0).read(3 << 20)])
        except StorageFull:
            print('full')
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, check=True)
    assert done.stdout == b"full\n"
    assert files_below(root) == []


def test_killed_half_way_it_leaves_nothing_that_stays(root):
    code = f"""
        import os, signal
        from pathlib import Path
        from modelops.adapters.local import LocalBlobStore
        def chunks():
            yield b'x' * 1000
            yield os.urandom(1 << 20)
            os.kill(os.getpid(), signal.SIGKILL)
        LocalBlobStore(Path({str(root)!r})).put(chunks())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)])
    assert done.returncode == -9
    assert len(files_below(root)) == 1
    store = LocalBlobStore(root)
    assert files_below(root) == []
    assert store.stat(digest_of(b"")) is None


def test_a_living_writer_is_not_disturbed_by_a_newcomer(root):
    def chunks():
        yield b"first"
        LocalBlobStore(root)
        yield b"second"

    store = LocalBlobStore(root)
    assert b"".join(store.read(store.put(chunks()).digest)) == b"firstsecond"


def test_memory_does_not_grow_with_the_content(store):
    chunk = b"0123456789" * 26_214
    tracemalloc.start()
    try:
        info = store.put(chunk for _ in range(400))
        for _ in store.read(info.digest):
            pass
        store.open(info.digest).close()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert info.size > 100_000_000
    assert peak < 16_000_000


def test_the_store_is_for_its_owner_alone(store, root):
    path = Path(stored_file(root, store.put([TEXT]).digest))
    assert path.stat().st_mode & 0o077 == 0
    assert root.stat().st_mode & 0o077 == 0

"""Blobs as objects, in every form: as they are, compressed, encrypted, and moved from one store to another."""

import base64
import errno
import hashlib
import io
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelops.adapters.local import LocalBlobStore, durable
from modelops.adapters.objects import FileObjects, Keyring, ObjectBlobStore, StackedBlobStore, box
from modelops.adapters.objects.port import MissingError
from modelops.contracts.errors import ArtifactCorrupted, InvalidInput, MLOpsError, StorageFull, Unavailable
from modelops.contracts.ports import BlobStore, EncryptedStore
from modelops.testing.blob_store import NOISE, TEXT, BlobStoreContract, digest_of


def key(seed):
    return base64.b64encode(hashlib.sha256(seed.encode()).digest()).decode()


def ring(*names):
    return Keyring("\n".join(f"{name}:{key(name)}" for name in names))


def body_of(root, digest):
    (path,) = [
        path for path in root.glob(f"sha256/*/*/{digest.removeprefix('sha256:')}*") if not path.name.endswith(".key")
    ]
    return path


def flip(path, position, mask=0x40):
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(data)


class ObjectContract(BlobStoreContract):
    @pytest.fixture
    def damage(self, tmp_path):
        def flip_in_the_middle(digest):
            path = body_of(tmp_path / "objects", digest)
            flip(path, path.stat().st_size // 2)

        return flip_in_the_middle


class TestPlain(ObjectContract):
    @pytest.fixture
    def store(self, tmp_path):
        return ObjectBlobStore(FileObjects(tmp_path / "objects"), tmp_path / "spool")


class TestCompressed(ObjectContract):
    @pytest.fixture
    def store(self, tmp_path):
        return ObjectBlobStore(FileObjects(tmp_path / "objects"), tmp_path / "spool", compress=True)


class TestEncrypted(ObjectContract):
    @pytest.fixture
    def store(self, tmp_path):
        return ObjectBlobStore(FileObjects(tmp_path / "objects"), tmp_path / "spool", keys=ring("a"))


class TestStacked(ObjectContract):
    @pytest.fixture
    def store(self, tmp_path):
        sealed = ObjectBlobStore(FileObjects(tmp_path / "objects"), tmp_path / "spool", keys=ring("a"))
        return StackedBlobStore(sealed, LocalBlobStore(tmp_path / "files"))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "objects"


@pytest.fixture
def sealed(root, tmp_path):
    return ObjectBlobStore(FileObjects(root), tmp_path / "spool", keys=ring("a"))


def opened_with(root, *names, compress=False):
    keys = ring(*names) if names else None
    return ObjectBlobStore(FileObjects(root), root.parent / "spool", keys=keys, compress=compress)


def test_it_is_an_encrypted_blob_store(sealed):
    assert isinstance(sealed, BlobStore)
    assert isinstance(sealed, EncryptedStore)


def test_nothing_of_the_content_is_on_the_disk(root, sealed):
    sealed.put([b"the secret formula " * 1000])
    assert not [path for path in root.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]


def test_text_takes_less_room(root):
    assert opened_with(root, compress=True).put([TEXT]).stored_size < len(TEXT) / 10
    assert opened_with(root, "a").put([TEXT]).stored_size < len(TEXT) / 10
    assert opened_with(root, "a").put([NOISE]).stored_size < len(NOISE) + 200


def test_what_was_stored_in_another_form_is_read_and_moves_with_the_next_put(root):
    stores = [opened_with(root), opened_with(root, compress=True), opened_with(root, "a")]
    for writer in stores:
        digest = writer.put([TEXT]).digest
        for reader in (opened_with(root, "a"), opened_with(root, "b", "a")):
            assert b"".join(reader.read(digest)) == TEXT
            assert b"".join(reader.read_range(digest, 10, 99)) == TEXT[10:99]
        assert len(list(writer.walk())) == 1
    assert len([path for path in root.rglob("*") if path.is_file()]) == 2  # the box and its key


def test_without_the_key_it_says_which_key_is_missing(root, sealed):
    digest = sealed.put([TEXT]).digest
    for other in (opened_with(root), opened_with(root, "b")):
        for read in (
            lambda: list(other.read(digest)),
            lambda: other.open(digest),
            lambda: other.read_range(digest, 0, 9),
        ):
            with pytest.raises(Unavailable, match="key 'a'"):
                read()


def test_another_key_of_the_same_name_does_not_open_it(root, sealed, tmp_path):
    digest = sealed.put([TEXT]).digest
    other = ObjectBlobStore(FileObjects(root), tmp_path / "spool", keys=Keyring(f"a:{key('other')}"))
    with pytest.raises(ArtifactCorrupted):
        list(other.read(digest))


def test_a_key_of_another_blob_does_not_open_it(root, sealed):
    first, second = sealed.put([TEXT]).digest, sealed.put([NOISE]).digest
    keys = {digest: next(root.glob(f"sha256/*/*/{digest[7:]}.*.key")) for digest in (first, second)}
    keys[first].write_bytes(keys[second].read_bytes())
    with pytest.raises(ArtifactCorrupted):
        list(sealed.read(first))


def test_a_lost_key_is_damage_that_a_new_put_heals(root, sealed):
    digest = sealed.put([TEXT]).digest
    next(root.glob("sha256/*/*/*.key")).unlink()
    with pytest.raises(ArtifactCorrupted):
        sealed.open(digest)
    sealed.put([TEXT])
    assert b"".join(sealed.read(digest)) == TEXT


def test_rotation_rewraps_keys_and_writes_no_body(root, sealed):
    digests = [sealed.put([bytes([n]) * 100_000]).digest for n in range(5)]
    bodies = {
        digest: (body_of(root, digest).read_bytes(), body_of(root, digest).stat().st_mtime_ns) for digest in digests
    }
    both = opened_with(root, "b", "a")
    done = both.rewrap_keys()
    assert (done.rewrapped, done.current, done.failed) == (5, 0, [])
    assert both.rewrap_keys().current == 5
    for n, digest in enumerate(digests):
        path = body_of(root, digest)
        assert (path.read_bytes(), path.stat().st_mtime_ns) == bodies[digest]
        assert b"".join(opened_with(root, "b").read(digest)) == bytes([n]) * 100_000
        with pytest.raises(Unavailable):
            list(opened_with(root, "a").read(digest))


def test_rotation_tells_what_it_could_not_open(root, sealed):
    digest = sealed.put([TEXT]).digest
    done = opened_with(root, "b").rewrap_keys()
    assert (done.rewrapped, done.failed) == (0, [digest])
    assert b"".join(sealed.read(digest)) == TEXT


def test_rotation_and_puts_and_reads_at_once(root, sealed):
    digest = sealed.put([TEXT]).digest
    stores = [opened_with(root, "a", "b"), opened_with(root, "b", "a")]

    def work(n):
        store = stores[n % 2]
        if n % 4 == 0:
            store.put([TEXT])
        elif n % 4 == 1:
            assert not store.rewrap_keys().failed
        return b"".join(store.read(digest)) == TEXT

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(60)))


def test_old_keys_without_a_box_are_dropped_by_rotation(root, sealed):
    digest = sealed.put([TEXT]).digest
    kept = next(root.glob("sha256/*/*/*.key"))
    stale = kept.with_name(f"{digest[7:]}.{'0' * 32}.key")
    stale.write_bytes(kept.read_bytes())
    sealed.rewrap_keys()
    assert stale.exists()  # it may be of a put under way
    os.utime(stale, (0, 0))
    sealed.rewrap_keys()
    assert not stale.exists()
    assert kept.exists()


@pytest.mark.parametrize("full", ["objects", "spool"])
def test_a_disk_that_is_full_leaves_nothing_and_goes_on(tmp_path, small_disk, full):
    """On a real file system of two mebibytes, for the objects or for what is on its way."""
    (tmp_path / full).symlink_to(small_disk("2m"))
    store = ObjectBlobStore(FileObjects(tmp_path / "objects"), tmp_path / "spool", keys=ring("a"))
    kept = store.put([b"kept"])
    with pytest.raises(StorageFull):
        store.put([NOISE])
    assert store.stat(digest_of(NOISE)) is None
    assert b"".join(store.read(kept.digest)) == b"kept"
    left = [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
    assert len(left) == 2
    assert store.put([b"x" * 100_000]).size == 100_000


def test_a_full_disk_leaves_nothing(root, sealed, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(StorageFull):
        sealed.put([TEXT])
    monkeypatch.undo()
    assert sealed.stat(digest_of(TEXT)) is None
    assert not [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", ["files", "plain", "sealed"])
def test_a_put_between_the_look_at_the_age_and_the_deletion_is_not_lost(root, kind, monkeypatch):
    choices = {
        "files": lambda: LocalBlobStore(root),
        "plain": lambda: opened_with(root),
        "sealed": lambda: opened_with(root, "a"),
    }
    store, other = choices[kind](), choices[kind]()
    digest = store.put([TEXT]).digest
    putter = threading.Thread(target=other.put, args=([TEXT],))
    real = durable.written_at

    def look(facts):
        found = real(facts)
        if not putter.ident:
            putter.start()
            putter.join(0.5)  # it ends here only where nothing holds it off
        return found

    monkeypatch.setattr(durable, "written_at", look)
    assert store.delete(digest, unless_put_since=datetime.now(UTC) + timedelta(hours=1))
    putter.join()
    assert b"".join(store.read(digest)) == TEXT


def test_a_deleted_blob_leaves_no_key(root, sealed):
    sealed.delete(sealed.put([TEXT]).digest)
    assert not [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a remark",
        "a",
        "a:",
        "a:short",
        f"a:{key('a')[:-4]}",
        f"a b:{key('a')}",
        f"a:{key('a')}\na:{key('b')}",
    ],
)
def test_keys_of_another_form_are_refused_and_not_shown(text):
    with pytest.raises(InvalidInput) as refused:
        Keyring(text)
    assert key("a")[:8] not in str(refused.value)


def test_keys_may_be_lines_or_parted_by_commas():
    assert Keyring(f"# keys\n new : {key('n')}\n\nold:{key('o')}\n").first == "new"
    assert Keyring(f"new:{key('n')},old:{key('o')}").first == "new"


KEY = bytes(range(32))
HEADER = box.Header(b"s" * 16)
SMALL = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def boxed(content, header=HEADER, data_key=KEY, *, compress=True):
    file = io.BytesIO()
    box.write(file, content, header, header.guard(data_key), compress=compress)
    return file.getvalue()


def unboxed(data, data_key=KEY):
    file = io.BytesIO(data)
    header = box.read_header(file)
    return b"".join(box.read(file, header.guard(data_key)))


CONTENTS = st.one_of(
    st.binary(max_size=2000),
    st.integers(0, 3 * box.CHUNK).map(lambda size: hashlib.shake_128(b"x").digest(size)),
    st.integers(0, 3 * box.CHUNK).map(lambda size: b"\0" * size),
)


@SMALL
@given(CONTENTS, st.lists(st.integers(1, 2 * box.CHUNK), max_size=4), st.booleans(), st.booleans())
def test_any_content_comes_back_however_it_was_cut(content, cuts, is_sealed, compress):
    header, data_key = (HEADER, KEY) if is_sealed else (box.Header(box.NO_SEAL), None)
    chunks, rest = [], content
    for cut in cuts:
        chunks.append(rest[:cut])
        rest = rest[cut:]
    data = boxed([*chunks, rest], header, data_key, compress=compress)
    assert unboxed(data, data_key) == content
    assert data == boxed([content], header, data_key, compress=compress)


@SMALL
@given(st.data())
def test_any_range_of_a_boxed_file_is_that_range(data):
    content = data.draw(CONTENTS)
    raw = boxed([content])
    with io.BufferedReader(box.BoxFile(io.BytesIO(raw), HEADER, HEADER.guard(KEY))) as file:
        for _ in range(3):
            start = data.draw(st.integers(0, len(content) + 10))
            length = data.draw(st.integers(0, len(content) + 10))
            file.seek(start)
            assert file.read(length) == content[start : start + length]


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300), st.booleans(), st.data())
def test_any_flipped_bit_is_refused(content, is_sealed, data):
    header, data_key = (HEADER, KEY) if is_sealed else (box.Header(box.NO_SEAL), None)
    raw = bytearray(boxed([content], header, data_key))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(box.DamagedError):
        unboxed(bytes(raw), data_key)


@SMALL
@given(CONTENTS, st.data())
def test_what_is_cut_off_or_added_is_refused(content, data):
    raw = boxed([content])
    with pytest.raises(box.DamagedError):
        unboxed(raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(box.DamagedError):
        unboxed(raw + data.draw(st.binary(min_size=1, max_size=40)))


def test_chunks_that_change_places_are_refused():
    raw = boxed([b"a" * box.CHUNK + b"b" * box.CHUNK], compress=False)
    record = 4 + 1 + box.CHUNK + 16
    start = box.HEADER.size
    swapped = (
        raw[:start] + raw[start + record : start + 2 * record] + raw[start : start + record] + raw[start + 2 * record :]
    )
    assert len(swapped) == len(raw)
    with pytest.raises(box.DamagedError):
        unboxed(swapped)


def test_another_key_opens_nothing():
    with pytest.raises(box.DamagedError):
        unboxed(boxed([TEXT]), bytes(32))


@SMALL
@given(st.binary(max_size=300), st.booleans(), st.integers(0, 10**6), st.integers(0, 7))
def test_any_flipped_bit_in_any_file_of_a_blob_is_refused_by_the_store(content, of_key, position, bit):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "objects"
        store = opened_with(root, "a")
        digest = store.put([content]).digest
        path = next(root.glob("sha256/*/*/*.key" if of_key else "sha256/*/*/*.box"))
        flip(path, position % path.stat().st_size, 1 << bit)
        with pytest.raises(MLOpsError):
            list(store.read(digest))
        store.put([content])
        assert b"".join(store.read(digest)) == content


def test_memory_does_not_grow_with_the_blob(sealed):
    import tracemalloc

    chunk = os.urandom(box.CHUNK)

    def content():
        for _ in range(64):
            yield chunk

    tracemalloc.start()
    digest = sealed.put(content()).digest
    for _ in sealed.read(digest):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * box.CHUNK


def test_a_missing_object_is_missing(root):
    with pytest.raises(MissingError):
        FileObjects(root).open("sha256/nothing")

"""What a blob store promises."""

import hashlib
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from modelops.contracts.errors import ArtifactCorrupted, InvalidInput, NotFound
from modelops.contracts.ports import BlobInfo, BlobStore
from modelops.testing.waiting import wait_for

TEXT = b"The same words again and again. " * 50_000
NOISE = random.Random(7).randbytes(3 * 1024 * 1024 + 17)  # noqa: S311 - bytes that do not compress


def digest_of(content: bytes) -> str:
    """Return the name of a content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class BlobStoreContract:
    """Derive from it and give the fixtures `store` and `damage`."""

    @pytest.fixture
    def store(self) -> BlobStore:
        """Return an empty store."""
        raise NotImplementedError("Give a fixture `store`.")

    @pytest.fixture
    def damage(self, store: BlobStore) -> Callable[[str], None]:
        """Return a function that changes one stored byte of a blob, behind the store's back."""
        raise NotImplementedError("Give a fixture `damage`.")

    @pytest.mark.parametrize("content", [b"", b"x", TEXT, NOISE], ids=["empty", "tiny", "text", "noise"])
    def test_a_content_comes_back_as_it_was(self, store: BlobStore, content: bytes) -> None:
        """Round trip, by `read` and by `open`."""
        info = store.put([content])
        assert (info.digest, info.size) == (digest_of(content), len(content))
        assert b"".join(store.read(info.digest)) == content
        with store.open(info.digest) as file:
            assert file.read() == content

    def test_how_it_was_cut_does_not_matter(self, store: BlobStore) -> None:
        """The digest is of the content, not of its chunks."""
        whole = store.put([TEXT])
        cut = store.put(TEXT[start : start + 999] for start in range(0, len(TEXT), 999))
        assert whole == cut

    def test_a_second_put_keeps_one_copy(self, store: BlobStore) -> None:
        """Storing a content again changes nothing."""
        first = store.put([NOISE])
        assert store.put([NOISE]) == first
        assert store.stat(first.digest) == first
        store.delete(first.digest)
        assert store.stat(first.digest) is None

    def test_stat_tells_what_put_told(self, store: BlobStore) -> None:
        """`stat` agrees with `put`, and knows nothing of what is not there."""
        assert store.stat(digest_of(TEXT)) is None
        assert store.put([TEXT]) == store.stat(digest_of(TEXT))

    def test_an_expected_digest_is_checked(self, store: BlobStore) -> None:
        """Bytes that are not the expected ones are refused, and nothing is kept."""
        with pytest.raises(InvalidInput):
            store.put([b"other"], expected=digest_of(TEXT))
        assert store.stat(digest_of(TEXT)) is None
        assert store.stat(digest_of(b"other")) is None
        assert store.put([TEXT], expected=digest_of(TEXT)).size == len(TEXT)

    def test_what_is_not_there_is_not_found(self, store: BlobStore) -> None:
        """`read` and `open` raise NotFound, at the latest with the first chunk."""
        with pytest.raises(NotFound):
            list(store.read(digest_of(b"nothing")))
        with pytest.raises(NotFound):
            store.open(digest_of(b"nothing"))

    @pytest.mark.parametrize(
        "digest", ["", "sha256:", "sha256:../../etc/passwd", "md5:" + "0" * 64, "sha256:" + "A" * 64, "0" * 64]
    )
    def test_what_is_no_digest_is_refused(self, store: BlobStore, digest: str) -> None:
        """A malformed digest is the caller's error, and never a path."""
        operations: list[Callable[[], object]] = [
            lambda: list(store.read(digest)),
            lambda: store.open(digest),
            lambda: store.stat(digest),
            lambda: store.delete(digest),
            lambda: list(store.read_range(digest, 0, 1)),
            lambda: list(store.walk(after=digest)),
            lambda: store.put([b""], expected=digest),
        ]
        for operation in operations:
            with pytest.raises(InvalidInput):
                operation()

    def test_delete_twice(self, store: BlobStore) -> None:
        """Deleting what is gone is no error."""
        digest = store.put([TEXT]).digest
        store.delete(digest)
        store.delete(digest)
        with pytest.raises(NotFound):
            store.open(digest)

    @pytest.mark.parametrize("content", [b"x", TEXT, NOISE], ids=["tiny", "text", "noise"])
    def test_a_part_is_that_part(self, store: BlobStore, content: bytes) -> None:
        """Ranges are cut as Python cuts, at chunk borders, across them, and behind the end."""
        digest = store.put([content]).digest
        mebibyte = 1024 * 1024
        for start, stop in [(0, 1), (0, 0), (5, 3), (mebibyte - 3, mebibyte + 3), (7, 10**9), (len(content), 10**9)]:
            assert b"".join(store.read_range(digest, start, stop)) == content[start:stop]
        with pytest.raises(NotFound):
            list(store.read_range(digest_of(b"nothing"), 0, 1))

    def test_walk_names_every_blob_in_order(self, store: BlobStore) -> None:
        """A walk can go on where another ended."""
        assert list(store.walk()) == []
        before = datetime.now(UTC) - timedelta(seconds=5)
        infos = sorted((store.put([b"%d" % n]) for n in range(20)), key=lambda info: info.digest)
        found = list(store.walk())
        assert [(blob.digest, blob.stored_size) for blob in found] == [(i.digest, i.stored_size) for i in infos]
        assert all(blob.stored_at >= before for blob in found)
        assert list(store.walk(after=infos[7].digest)) == found[8:]

    def test_a_young_blob_is_kept(self, store: BlobStore) -> None:
        """A deletion of old blobs spares one that was put again since."""
        now = datetime.now(UTC)
        digest = store.put([TEXT]).digest
        assert not store.delete(digest, unless_put_since=now - timedelta(minutes=1))
        assert store.stat(digest) is not None
        assert store.delete(digest, unless_put_since=now + timedelta(minutes=1))
        assert store.stat(digest) is None
        assert not store.delete(digest, unless_put_since=now + timedelta(minutes=1))

    def test_a_second_put_renews_the_age(self, store: BlobStore) -> None:
        """What is put again counts as put now."""
        digest = store.put([TEXT]).digest
        first = next(store.walk()).stored_at
        wait_for(lambda: store.put([TEXT]).digest == digest and next(store.walk()).stored_at > first, every_s=0.3)

    def test_the_store_tells_that_it_works(self, store: BlobStore) -> None:
        """`check` leaves nothing behind."""
        assert store.check()
        assert list(store.walk()) == []

    def test_an_opened_blob_is_seekable(self, store: BlobStore) -> None:
        """Libraries that read models seek in them."""
        for content in (TEXT, NOISE):
            with store.open(store.put([content]).digest) as file:
                assert file.seekable()
                file.seek(1000)
                assert file.read(50) == content[1000:1050]
                file.seek(-10, 2)
                assert file.read() == content[-10:]

    def test_an_opened_blob_outlives_its_deletion(self, store: BlobStore) -> None:
        """Who holds a file may read it to its end."""
        digest = store.put([NOISE]).digest
        with store.open(digest) as file:
            store.delete(digest)
            assert file.read() == NOISE

    @pytest.mark.parametrize("content", [b"x", TEXT, NOISE], ids=["tiny", "text", "noise"])
    def test_damage_is_noticed_and_healed(
        self, store: BlobStore, damage: Callable[[str], None], content: bytes
    ) -> None:
        """A damaged blob raises before its last chunk; storing the content again replaces it."""
        digest = store.put([content]).digest
        damage(digest)
        seen: list[bytes] = []
        with pytest.raises(ArtifactCorrupted):
            seen.extend(store.read(digest))
        assert len(b"".join(seen)) < len(content)
        with pytest.raises(ArtifactCorrupted):
            store.open(digest)
        store.put([content])
        assert b"".join(store.read(digest)) == content

    def test_a_source_that_fails_leaves_nothing(self, store: BlobStore) -> None:
        """When the sender goes away half-way, no blob is there."""

        def failing() -> Iterator[bytes]:
            yield TEXT
            raise ConnectionError("gone")

        with pytest.raises(ConnectionError):
            store.put(failing())
        assert store.stat(digest_of(TEXT)) is None

    def test_many_threads_put_and_read_the_same(self, store: BlobStore) -> None:
        """One copy, whole at every moment."""

        def put_and_read(_: int) -> tuple[BlobInfo, bool]:
            info = store.put([TEXT])
            return info, b"".join(store.read(info.digest)) == TEXT

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(put_and_read, range(32)))
        assert {info for info, _ in results} == {store.stat(digest_of(TEXT))}
        assert all(same for _, same in results)

"""Garbage collection: what nothing refers to goes after its time of grace, and what anything refers to never does."""

import contextlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sqlalchemy import delete

from modelops.contracts.errors import Conflict, InvalidInput, NotFound, PermissionDenied
from modelops.contracts.ports import BlobStore
from modelops.domains.data import collecting
from modelops.domains.data.tables import ArtifactRow
from modelops.kernel.holding import Holders
from modelops.sdk.registry import ModelRegistry
from modelops.testing.blob_store import digest_of
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform

GRACE = 3600
CSV = b"a,b\n1,2\n3,4\n"


@pytest.fixture(params=["sqlite", "postgres"])
def aging(request, tmp_path):
    """A platform whose clock can be moved."""
    chosen = {"database": request.getfixturevalue("postgres_database")} if request.param == "postgres" else {}
    clock = VirtualClock(datetime.now(UTC))
    with running_platform(tmp_path / "home", clock=clock, artifact_grace_s=GRACE, **chosen) as platform:
        yield platform, clock


def stored(platform):
    return {blob.digest for blob in platform.place.ports[BlobStore].walk()}


def put(platform, content):
    return platform.place.ports[BlobStore].put([content]).digest


def age(platform, clock, hours=2):
    """Let a collection see what is unheld, and its time of grace go by."""
    collecting.collect_garbage(platform.place, dry_run=False)
    clock.advance(hours=hours)


def test_bytes_nobody_recorded_go_after_their_time(aging):
    platform, clock = aging
    data, orphan = platform.client().data, put(platform, b"orphan")
    kept = data.upload_artifact(b"kept").digest
    first = data.collect_garbage()
    assert (first.examined, first.unheld, first.waiting, first.removed) == (2, 1, 1, 0)
    clock.advance(hours=2)
    tried = platform.client().data.collect_garbage(dry_run=True)
    assert (tried.unheld, tried.waiting, tried.removed, tried.dry_run) == (1, 0, 0, True)
    assert stored(platform) == {orphan, kept}
    done = platform.client().data.collect_garbage()
    assert (done.removed, done.removed_size) == (1, len(b"orphan"))
    assert stored(platform) == {kept}
    assert platform.client().data.collect_garbage().unheld == 0


def test_a_dry_run_notes_nothing(aging):
    platform, clock = aging
    orphan = put(platform, b"orphan")
    platform.client().data.collect_garbage(dry_run=True)
    clock.advance(hours=2)
    assert platform.client().data.collect_garbage().removed == 0
    assert orphan in stored(platform)


def test_the_reconciler_does_it_by_itself(aging):
    platform, clock = aging
    orphans = {put(platform, b"%d" % n) for n in range(7)}
    kept = platform.client().data.upload_artifact(b"kept").digest
    for _ in range(4):
        platform.controller.turn()
    assert stored(platform) == orphans | {kept}
    clock.advance(hours=2)
    for _ in range(4):
        platform.controller.turn()
    assert stored(platform) == {kept}


def test_a_collector_killed_after_removing_goes_on(aging):
    platform, clock = aging
    put(platform, b"orphan")
    age(platform, clock)
    with platform.place.work(write=False) as ctx:
        doomed = collecting.doomed_blobs(ctx)
    assert len(collecting.remove(platform.place.ports[BlobStore], doomed)) == 1  # and here it is killed
    for _ in range(3):
        platform.controller.turn()
    with platform.place.work(write=False) as ctx:
        assert not collecting.any_doomed(ctx)
    assert stored(platform) == set()


def test_two_collections_at_once_note_a_blob_once(aging):
    platform, clock = aging
    for n in range(30):
        put(platform, b"%d" % n)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: collecting.collect_garbage(platform.place, dry_run=False), range(4)))
    assert {each.unheld for each in done} == {30}
    clock.advance(hours=2)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: collecting.collect_garbage(platform.place, dry_run=False), range(4)))
    assert sum(each.removed for each in done) == 30
    assert stored(platform) == set()


def test_files_of_a_run_removed_for_good_go_unless_something_else_needs_them(aging):
    platform, clock = aging
    client = platform.client()
    client.data.create_dataset("d")
    version = client.data.create_dataset_version("d", CSV, format="csv")
    experiment = client.experiments.create_experiment("e").name
    removed, other = (client.experiments.create_run(experiment).id for _ in range(2))
    alone, shared = (client.data.upload_artifact(content).digest for content in (b"alone", b"shared"))
    for run, digest in ((removed, alone), (removed, shared), (other, shared), (removed, version.digest)):
        client.experiments.link_run_artifact(run, digest[7:17], digest)
    client.experiments.delete_run(removed)
    platform.controller.turn()
    assert client.data.get_artifact(alone).digest == alone  # the run can still be restored
    clock.advance(seconds=platform.place.settings.restore_within_s + 60)
    for _ in range(3):
        platform.controller.turn()
        age(platform, clock)
    assert stored(platform) == {shared, version.digest, version.table_digest}


def test_long_walks_go_stretch_by_stretch(aging, monkeypatch):
    platform, clock = aging
    monkeypatch.setattr(collecting, "AT_ONCE", 3)
    for n in range(10):
        put(platform, b"%d" % n)
    age(platform, clock)
    for _ in range(12):
        platform.controller.turn()
    assert stored(platform) == set()


def test_what_each_domain_refers_to_stays_though_no_artifact_is_recorded(aging):
    """The worst case: the rows of artifacts are gone, and the domains' own rows remain."""
    platform, clock = aging
    client = platform.client()
    client.data.create_dataset("numbers")
    version = client.data.create_dataset_version("numbers", CSV, format="csv")
    run = client.experiments.create_run(client.experiments.create_experiment("e").name)
    run_file = client.data.upload_artifact(b"of a run").digest
    client.experiments.link_run_artifact(run.id, "notes.txt", run_file)
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    registered = ModelRegistry(client).register_model("numbers", model, sample=np.array([[0.0], [1.0]]))
    files = {file.digest for file in registered.files}
    needed = {run_file, version.digest, version.table_digest} | files
    with platform.place.work() as ctx:
        ctx.session.execute(delete(ArtifactRow))
    for _ in range(3):
        age(platform, clock)
    assert stored(platform) == needed
    with platform.place.work() as ctx:
        assert ctx.port(Holders).held(ctx, sorted(needed)) == needed


def test_parts_of_an_upload_under_way_stay(aging):
    platform, clock = aging
    data = platform.client().data
    upload = data.create_upload(digest_of(b"x" * 100), 100)
    data.put_upload_part(upload.id, 1, b"x" * 100)
    for _ in range(3):
        age(platform, clock)
    assert platform.client().data.complete_upload(upload.id).size == 100


def test_what_is_put_again_begins_its_time_anew(aging):
    platform, clock = aging
    orphan = put(platform, b"orphan")
    age(platform, clock)
    platform.place.ports[BlobStore].delete(orphan)
    with platform.place.work() as ctx:
        cutoff = collecting.cutoff(ctx)
    assert cutoff > datetime.now(UTC)  # by the clock that was moved, everything is old
    put(platform, b"orphan")
    assert platform.client().data.upload_artifact(b"orphan").digest == orphan
    assert platform.client().data.collect_garbage().removed == 0
    assert stored(platform) == {orphan}


def test_the_store_itself_keeps_what_is_young(tmp_path):
    """Whatever the rows say, a blob that was put within the time of grace is not removed."""
    with running_platform(tmp_path / "home", artifact_grace_s=GRACE) as platform:
        orphan = put(platform, b"orphan")
        with platform.place.work() as ctx:
            doomed = collecting.recheck(ctx, [orphan])
        assert doomed.digests == [orphan]
        assert collecting.remove(platform.place.ports[BlobStore], doomed) == []
        assert stored(platform) == {orphan}


def test_a_deleted_artifact_can_be_had_back_within_its_time(aging):
    platform, clock = aging
    data = platform.client().data
    digest = data.upload_artifact(b"regretted").digest
    clock.advance(hours=5)
    data = platform.client().data
    data.delete_artifact(digest)
    with pytest.raises(NotFound):
        data.download_artifact(digest)
    assert data.collect_garbage().removed == 0
    assert data.upload_artifact(b"regretted").digest == digest
    age(platform, clock)
    assert platform.client().data.collect_garbage().removed == 0
    platform.client().data.delete_artifact(digest)
    age(platform, clock)
    assert platform.client().data.collect_garbage().removed == 1


def test_what_is_referred_to_is_not_deleted_and_the_error_tells_by_what(platform):
    client = platform.client()
    client.data.create_dataset("d")
    version = client.data.create_dataset_version("d", CSV, format="csv")
    run = client.experiments.create_run(client.experiments.create_experiment("e").name)
    file = client.data.upload_artifact(b"file").digest
    client.experiments.link_run_artifact(run.id, "file", file)
    for digest, holder in ((version.digest, "data"), (version.table_digest, "data"), (file, "experiments")):
        with pytest.raises(Conflict) as refused:
            client.data.delete_artifact(digest)
        assert refused.value.extra["held_by"] == [holder]
    with pytest.raises(PermissionDenied):
        platform.member("data_scientist").data.delete_artifact(file)
    with pytest.raises(NotFound):
        platform.stranger().data.delete_artifact(file)


def test_another_project_keeps_its_right(platform):
    digest = platform.client().data.upload_artifact(b"shared").digest
    other = platform.stranger()
    other.data.upload_artifact(b"shared")
    platform.client().data.delete_artifact(digest)
    assert other.data.download_artifact(digest) == b"shared"
    with platform.place.work() as ctx:
        assert ctx.port(Holders).held(ctx, [digest]) == {digest}


def test_only_platform_admins_collect_and_rewrap(platform):
    member = platform.member("project_admin").data
    for act in (member.collect_garbage, member.rewrap_keys):
        with pytest.raises(PermissionDenied):
            act()
    with pytest.raises(Conflict, match="not encrypted"):
        platform.client().data.rewrap_keys()


def test_linking_and_deleting_at_once_never_leaves_a_link_to_nothing(platform):
    client = platform.client()
    run = client.experiments.create_run(client.experiments.create_experiment("e").name).id
    digests = [client.data.upload_artifact(b"%d" % n).digest for n in range(12)]

    def link(digest):
        try:
            platform.client().experiments.link_run_artifact(run, digest[7:27], digest)
        except NotFound:
            return False
        return True

    def delete(digest):
        try:
            platform.client().data.delete_artifact(digest)
        except (Conflict, NotFound):
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        links = [pool.submit(link, digest) for digest in digests]
        deletes = [pool.submit(delete, digest) for digest in digests]
    for digest, linked, deleted in zip(digests, links, deletes, strict=True):
        assert linked.result() != deleted.result()
        if linked.result():
            assert client.data.get_artifact(digest).digest == digest


def test_uploads_and_collections_at_once_lose_nothing(aging):
    """Collections one after another, beside senders that store, read and let go of the same few contents."""
    platform, _ = aging
    contents = [b"content %d" % n for n in range(15)]
    stop = threading.Event()

    def collect():
        while not stop.is_set():
            collecting.collect_garbage(platform.place, dry_run=False)

    def upload(seed):
        chosen = random.Random(seed)
        data = platform.client().data
        for _ in range(10):
            content = chosen.choice(contents)
            with contextlib.suppress(NotFound):  # another sender may let go of it at any moment
                digest = data.upload_artifact(content).digest
                assert data.download_artifact(digest) == content
                if chosen.random() < 0.5:
                    data.delete_artifact(digest)

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(upload, range(3)))
    finally:
        stop.set()
        collector.join()
    held = {artifact.digest for artifact in platform.client().data.list_artifacts(limit=100).items}
    assert held <= stored(platform)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "upload", "delete", "link", "collect", "wait"]), st.integers(0, 5)),
        min_size=5,
        max_size=25,
    )
)
def test_whatever_happens_what_is_held_is_there(tmp_path_factory, steps):
    clock = VirtualClock(datetime.now(UTC))
    home = tmp_path_factory.mktemp("gc") / "home"
    with running_platform(home, clock=clock, artifact_grace_s=GRACE, token_ttl_s=86_400) as platform:
        client = platform.client()
        run = client.experiments.create_run(client.experiments.create_experiment("e").name).id
        held, linked = set(), set()
        for what, n in steps:
            content = b"content %d" % n
            digest = digest_of(content)
            if what == "put":
                put(platform, content)
            elif what == "upload":
                client.data.upload_artifact(content)
                held.add(digest)
            elif what == "delete" and digest in held and digest not in linked:
                client.data.delete_artifact(digest)
                held.discard(digest)
            elif what == "link" and digest in held:
                client.experiments.link_run_artifact(run, str(n), digest)
                linked.add(digest)
            elif what == "collect":
                collecting.collect_garbage(platform.place, dry_run=False)
            elif what == "wait":
                clock.advance(hours=n)
                platform.controller.turn()
            assert held <= stored(platform)
        for digest in held:
            assert digest_of(client.data.download_artifact(digest)) == digest
        for _ in range(2):
            collecting.collect_garbage(platform.place, dry_run=False)
            clock.advance(hours=2)
        collecting.collect_garbage(platform.place, dry_run=False)
        assert stored(platform) == held


def test_a_grace_too_short_is_refused(tmp_path):
    from modelops.contracts.settings import load_settings

    with pytest.raises(InvalidInput):
        load_settings(home=tmp_path, artifact_grace_s=60)

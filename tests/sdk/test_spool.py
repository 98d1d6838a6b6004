"""The spool's files on their own: what was written is read, in order and once, whatever happens to the disk meanwhile."""

import json
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelops.contracts.errors import InvalidInput
from modelops.sdk.spool.folder import Header, Progress, SpoolFolder, spools
from modelops.sdk.spool.records import End, File, Parameter, Point, Tag, read, seal, unseal, write
from modelops.sdk.spool.segments import (
    BATCH,
    START,
    Position,
    Room,
    Writer,
    forget_before,
    is_unfinished,
    read_batch,
    segments,
    waiting_bytes,
)
from modelops.sdk.spool.sender import write_batch
from modelops.sdk.spool.values import MetricKeys, metric_pairs

HEADER = {
    "key": "k",
    "url": None,
    "project": None,
    "experiment": "e",
    "name": None,
    "parameters": {},
    "tags": {},
    "began_at": "2026-01-01T00:00:00Z",
}
RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
entries = st.one_of(
    st.builds(Point, st.text(min_size=1), st.floats(), st.integers(-(2**63), 2**63 - 1), st.integers(-(2**52), 2**52)),
    st.builds(Parameter, st.text(min_size=1), json_values),
    st.builds(Tag, st.text(min_size=1), st.text()),
    st.builds(File, st.text(min_size=1), st.text(), st.text()),
    st.builds(End, st.sampled_from(["finished", "failed"]), st.none() | st.text(), st.booleans()),
)


def fresh_folder(tmp_path, name=None):
    name = name or f"local_{len(list(tmp_path.iterdir())):06d}"
    return SpoolFolder.create(tmp_path, Header.model_validate({**HEADER, "spool_id": name}))


def writer_in(folder, limit=2**30):
    return Writer(folder.path, Room(folder.path.parent, limit))


def read_all(path, start=START):
    """Read every batch, and return the entries, the damaged places and the end."""
    found, damaged, place = [], [], start
    while (batch := read_batch(path, place)).end != place:
        assert len(batch.entries) <= BATCH
        found += batch.entries
        damaged += batch.damaged
        place = batch.end
    return found, damaged, place


def same(one, other):
    return repr(one) == repr(other)  # NaN is no NaN


@given(entry=entries)
def test_a_record_says_what_was_written(entry):
    line = write(entry)
    assert line.count(b"\n") == 1
    [found] = read(line)
    assert same(found, entry)


@given(entry=entries, place=st.integers(0), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unseen(entry, place, bit):
    line = bytearray(write(entry))
    place %= len(line)
    line[place] ^= 1 << bit
    found = read(bytes(line))
    assert found is None or same(found, [entry])  # a capital hex digit, or another line break, says the same


@given(metrics=st.dictionaries(st.text("ab.é/ü😀", min_size=1, max_size=4), st.floats(), min_size=1))
def test_metrics_are_written_as_the_platform_reads_them(metrics):
    [(pairs, count)] = metric_pairs(MetricKeys(), metrics)
    found = read(seal(f'["m",7,-3,{{{pairs}}}]'.encode()))
    assert count == len(metrics)
    assert same(found, [Point(key, value, -3, 7) for key, value in metrics.items()])


@pytest.mark.parametrize("key", ["", "a\nb", "x" * 251, "\ud800", "\x7f"])
def test_a_key_that_the_platform_would_refuse_is_refused_at_once(key):
    with pytest.raises(ValueError):
        list(metric_pairs(MetricKeys(), {"good": 1, key: 2}))


def test_the_body_of_a_batch_is_what_the_platform_takes():
    batch = [
        Point("a", 1.5, 3, 1_700_000_000_000_001),
        Point("b", math.nan, 0, -1),
        Point("c", -math.inf, 0, 253_402_300_799_999_999),
        Parameter("p", [1, None]),
        Tag("t", "1"),
        Tag("t", "2"),
    ]
    assert json.loads(write_batch(batch)) == {
        "metrics": [
            {"key": "a", "value": 1.5, "step": 3, "timestamp": "2023-11-14T22:13:20.000001Z"},
            {"key": "b", "value": "NaN", "step": 0, "timestamp": "1969-12-31T23:59:59.999999Z"},
            {"key": "c", "value": "-Infinity", "step": 0, "timestamp": "9999-12-31T23:59:59.999999Z"},
        ],
        "parameters": {"p": [1, None]},
        "tags": {"t": "2"},
    }


@RELAXED
@given(written=st.lists(entries, max_size=60), limit=st.integers(20_000, 200_000))
def test_what_was_written_is_read_in_order_and_once_over_segments(tmp_path, written, limit):
    folder = fresh_folder(tmp_path)
    writer = Writer(folder.path, Room(folder.path, 2**30))
    writer._room.segment_bytes = limit // 100
    for entry in written:
        assert writer.append(write(entry))
    found, damaged, end = read_all(folder.path)
    assert damaged == []
    assert same(found, written)
    assert end == writer.position
    forget_before(folder.path, end)
    assert segments(folder.path) == [end.segment]
    assert waiting_bytes(folder.path, end) == 0
    writer.close()
    folder.remove()


@RELAXED
@given(place=st.integers(0), bit=st.integers(0, 7), start=st.integers(0, 49))
def test_a_flipped_bit_costs_what_it_hits_and_that_is_told(tmp_path, place, bit, start):
    written = [Point("m", float(number), number, number) for number in range(50)]
    folder = fresh_folder(tmp_path)
    writer = writer_in(folder)
    for entry in written:
        writer.append(write(entry))
    writer.close()
    file = folder.path / "000001.log"
    content = bytearray(file.read_bytes())
    content[place % len(content)] ^= 1 << bit
    file.write_bytes(content)
    found, damaged, _ = read_all(folder.path)
    lost = [entry for entry in written if entry not in found]
    assert found == [entry for entry in written if entry in found]
    assert len(lost) <= 2  # a line break that is gone joins two records
    assert not lost or damaged or is_unfinished(folder.path)
    folder.remove()


def test_a_torn_tail_is_left_alone_and_told(tmp_path):
    folder = fresh_folder(tmp_path)
    writer = writer_in(folder)
    writer.append(write(Tag("a", "1")))
    writer.append(write(Tag("a", "2")))
    file = folder.path / "000001.log"
    file.write_bytes(file.read_bytes()[:-3])
    assert read_all(folder.path)[:2] == ([Tag("a", "1")], [])
    assert is_unfinished(folder.path)


def test_times_grow_within_a_run_even_where_the_clock_goes_backwards(tmp_path, monkeypatch):
    clock = iter([5_000_000, 5_000_000, 1_000_000, 9_000_000])
    monkeypatch.setattr("time.time_ns", lambda: next(clock))
    writer = writer_in(folder := fresh_folder(tmp_path))
    for step in range(4):
        writer.append_points(None, step, '"m":1.0', 1)
    assert [point.time_us for point in read_all(folder.path)[0]] == [5_000, 5_001, 5_002, 9_000]


def test_what_finds_no_room_is_refused_counted_and_taken_again_when_there_is(tmp_path, monkeypatch):
    folder = fresh_folder(tmp_path)
    writer = writer_in(folder, limit=16_384)
    kept = sum(writer.append(write(Tag("k", "x" * 100))) for _ in range(1_000))
    assert 50 < kept < 200
    assert writer.dropped == 1_000 - kept
    assert "tracking_spool_bytes" in writer.trouble
    found, damaged, end = read_all(folder.path)
    assert (len(found), damaged) == (kept, [])
    assert writer.append(write(End("finished", None, True)), anyway=True)
    forget_before(folder.path, end)
    monkeypatch.setattr("modelops.sdk.spool.segments._REFUSED_FOR_S", 0)
    assert writer.append(write(Tag("k", "again")))


FULL = """
    import resource, signal, sys
    from pathlib import Path
    from modelops.sdk.spool.segments import Room, Writer
    from modelops.sdk.spool.records import Tag, write
    folder = Path(sys.argv[1])
    if sys.argv[2] == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_001, 10_001))
    writer = Writer(folder, Room(folder, 2**30))
    kept = sum(writer.append(write(Tag("k", "x" * 100))) for _ in range(10_000))
    print(kept, writer.dropped, writer.trouble)
"""


@pytest.mark.parametrize("how", ["limit", "tmpfs"])
def test_a_full_disk_costs_what_finds_no_room_and_spoils_nothing(tmp_path, small_disk, how):
    folder = small_disk("64k") if how == "tmpfs" else tmp_path
    script = [sys.executable, "-c", textwrap.dedent(FULL), str(folder), how]
    done = subprocess.run(script, capture_output=True, text=True, check=True, timeout=60)
    kept, dropped, *trouble = done.stdout.split()
    assert int(kept) + int(dropped) == 10_000
    assert int(kept) > 50
    assert " ".join(trouble) in ("the disk is full", "no space left on device", "file too large")
    found, damaged, _ = read_all(folder)
    assert (found, damaged) == ([Tag("k", "x" * 100)] * int(kept), [])


def test_one_at_a_time_has_the_lock_in_one_process_and_among_several(tmp_path):
    folder = fresh_folder(tmp_path)
    again = SpoolFolder(folder.path)
    assert not again.try_lock()
    script = f"""
        from pathlib import Path
        from modelops.sdk.spool.folder import SpoolFolder
        print(SpoolFolder(Path({str(folder.path)!r})).try_lock())
    """

    def other():
        command = [sys.executable, "-c", textwrap.dedent(script)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    assert other() == "False"
    folder.unlock()
    assert other() == "True"
    assert again.try_lock()


def test_a_forked_child_does_not_keep_its_parents_lock(tmp_path):
    folder = fresh_folder(tmp_path)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"%d" % SpoolFolder(folder.path).try_lock())
        os.read(reading, 0)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(reading, 1) == b"0"
    folder.unlock()
    assert SpoolFolder(folder.path).try_lock()
    os.close(reading)
    os.close(writing)


def test_a_damaged_state_means_from_the_start_and_a_damaged_head_is_told(tmp_path):
    folder = fresh_folder(tmp_path)
    folder.save(Progress(run_id="run_1", offset=7))
    assert folder.progress().position == Position(1, 7)
    state = folder.path / "state.json"
    state.write_bytes(state.read_bytes().replace(b'"offset":7', b'"offset":8'))
    assert folder.progress() == Progress()
    [found] = spools(tmp_path)
    assert found.header().experiment == "e"
    head = folder.path / "run.json"
    head.write_bytes(head.read_bytes().replace(b'"experiment":"e"', b'"experiment":"f"'))
    with pytest.raises(InvalidInput, match=r"run\.json is damaged"):
        found.header()
    assert spools(folder.path)[0].path == folder.path
    assert spools(Path("/no/such/folder")) == []


def test_what_is_refused_is_kept_with_its_reason_and_can_be_sent_again(tmp_path):
    folder = fresh_folder(tmp_path)
    writer = writer_in(folder)
    refused = [Point("m", math.nan, 1, 2), Parameter("p", {"a": 1}), File("f", "sha256:0", "file_1")]
    writer.append(write(Tag("t", "1")))
    end = writer.position
    folder.set_aside(refused, "because")
    folder.save(Progress(run_id="r", offset=end.offset, refused=3, ended=True))
    assert [why for why, _ in folder.refused()] == ["because"] * 3
    folder.take_refused_back()
    assert list(folder.refused()) == []
    assert folder.progress().refused == 0
    assert same(read_all(folder.path, folder.progress().position)[0], refused)


def test_bytes_that_are_no_record_are_damage():
    for line in (b"", b"\n", b"zzzzzzzz {}\n", b"00000000 {}\n", b"12345678\n"):
        assert unseal(line) is None
        assert read(line) is None
    for content in (b"{}", b"[]", b'["x"]', b'["m",1]', b"7", b"not json"):
        assert read(seal(content)) is None

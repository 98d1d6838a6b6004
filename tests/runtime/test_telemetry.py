"""The tap, the spool and the sender on their own."""

import itertools
import json
import os
import threading
from datetime import UTC, datetime

import numpy as np
import pytest

from modelops.domains.models.schemas import Feature, ModelSignature
from modelops.domains.monitoring.schemas import SketchBatch
from modelops.domains.monitoring.sketches import build_reference
from modelops.runtime.serving.config import read_config
from modelops.runtime.serving.counting.metrics import Metrics
from modelops.runtime.serving.predicting import Answer
from modelops.runtime.serving.telemetry import tap as tapping
from modelops.runtime.serving.telemetry.observing import Observer
from modelops.runtime.serving.telemetry.sender import Sender
from modelops.runtime.serving.telemetry.spool import Lost, Spool
from modelops.runtime.serving.telemetry.tap import Tap

NOW = datetime(2025, 1, 1, tzinfo=UTC)
ONE_NUMBER = ModelSignature(inputs=[Feature(name="x")])


def batch(sequence, source="a", deployment="dep_1", rows=1):
    return SketchBatch(
        source=source,
        sequence=sequence,
        deployment_id=deployment,
        revision=1,
        model_version_id="mver_1",
        started_at=NOW,
        ended_at=NOW,
        rows=rows,
        requests=1,
        errors=0,
        dropped_rows=2,
        inputs=[],
        outputs=[],
    )


@pytest.fixture
def document(bench):
    folder = bench.folder / "files"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(b"x")
    return bench.document(bench.upload(folder), ONE_NUMBER)


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool", "a", "dep_1", capacity=3)


def sequences(spool, limit=10):
    return [found.sequence for found in spool.waiting(limit).values()]


def age(spool, name, seconds):
    path = spool._folder / name
    written = path.stat().st_mtime - seconds
    os.utime(path, (written, written))


def test_the_oldest_go_when_the_spool_is_full(spool):
    for sequence in range(3):
        assert spool.put(batch(sequence, rows=10)) == Lost()
        age(spool, f"a-{sequence}.json", 60 - sequence)

    assert spool.put(batch(3)) == Lost(batches=1, rows=12)
    assert sequences(spool) == [1, 2, 3]
    assert sequences(spool, 2) == [1, 2]


def test_others_batches_are_taken_over_once_they_are_old(spool):
    spool.put(batch(1, source="b"))
    spool.put(batch(2, source="c", deployment="dep_2"))
    assert sequences(spool) == []

    for name in ("b-1.json", "c-2.json"):
        age(spool, name, 60)
    assert sequences(spool) == [1]


def test_what_is_no_batch_is_removed(spool, tmp_path):
    (tmp_path / "spool" / "a-1.json").write_text('{"half":')

    assert sequences(spool) == []
    assert not (tmp_path / "spool" / "a-1.json").exists()


def test_a_batch_that_the_platform_refuses_for_good_does_not_hold_up_others(bench, document):
    refused = 422

    class Refusing(type(bench.platform)):
        def _handler(platform):
            class Handler(super()._handler()):
                def do_POST(self):  # noqa: N802
                    content = self.rfile.read(int(self.headers["Content-Length"]))
                    batches = json.loads(content)["batches"]
                    if any(each["sequence"] == 1 for each in batches):
                        return self._send(refused, b"{}")
                    platform.batches.update({(each["source"], each["sequence"]): each for each in batches})
                    return self._send(200, b"{}")

            return Handler

    platform = Refusing()
    try:
        config = read_config({"MODELOPS_WORKDIR": str(bench.workdir(document)), "MODELOPS_FLUSH_S": "60"})
        spool, metrics = Spool(config.spool, "a", "dep_1"), Metrics(document)
        for sequence in range(3):
            spool.put(batch(sequence))
        sender = Sender(config, platform.url, spool, metrics)
        sender.start()
        sender.close()
    finally:
        platform.close()

    assert sorted(sequence for _, sequence in platform.batches) == [0, 2]
    assert spool.waiting(10) == {}
    assert b"serving_telemetry_lost_batches_total{" in metrics.render([metrics.counted()])


def _tap(document, spool, metrics, reference=None):
    counts = metrics.of(document.revision, document.champion.name)
    metrics.adopt(document.revision, document.champion.name, counts)
    numbers = itertools.count()
    return Tap(document, document.champion, reference, "a", spool, metrics, counts, 60, numbers, clock=lambda: NOW)


def test_the_tap_counts_what_it_saw_and_what_it_dropped(document, spool, monkeypatch):
    monkeypatch.setattr(tapping, "_CAPACITY_BYTES", 100)
    metrics = Metrics(document)
    tap = _tap(document, spool, metrics)
    rows = np.ones((10, 1))
    for _ in range(3):  # its thread does not run yet: the first fits, the others find it full
        tap.count(1, 0)
        tap.offer(rows, Answer(rows[:, 0], None), 10)
    tap.count(1, 1)

    tap.start()
    tap.close()

    (written,) = spool.waiting(10).values()
    assert (written.rows, written.dropped_rows, written.requests, written.errors) == (10, 20, 4, 1)
    assert b'revision="7",tenant="ten_1",variant="champion"} 20.0' in metrics.render([metrics.counted()])


def test_of_more_than_a_sample_needs_the_tap_leaves_some_out_and_counts_them(document, spool, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(tapping, "_BYTES_PER_S", 1_000)
    monkeypatch.setattr(tapping.time, "perf_counter", lambda: now[0])
    tap = _tap(document, spool, Metrics(document))
    rows = np.ones((24, 1))  # 192 bytes, for a little less than a fifth of a second

    def offer(times):
        for _ in range(times):
            tap.offer(rows, Answer(rows[:, 0], None), 24)
        return tap._dropped // 24

    assert offer(6) == 0, "a second's worth may come at once"
    assert offer(4) == 4
    now[0] += 1.0
    assert offer(5) == 4, "and as much in each second after"
    assert offer(5) == 9

    now[0] += 60
    assert offer(6) == 9, "rest is not saved up"
    assert offer(1) == 10


def test_batches_are_sketched_together_and_one_that_does_not_fit_is_lost_by_itself(document, spool):
    reference = build_reference(np.arange(100.0)[:, None], np.arange(100) % 2, input_names=["x"])
    alone, together = Observer(document.champion.signature, reference), Observer(document.champion.signature, reference)
    parts = [(np.full((size, 1), float(size)), Answer(np.ones(size, dtype=int), None), size) for size in (1, 3, 8)]
    for part in parts:
        alone.add([part])
    together.add(parts)
    assert together.take() == alone.take()

    metrics = Metrics(document)
    tap = _tap(document, spool, metrics, reference)
    for rows, answer, size in (*parts, (np.ones((5, 2)), Answer(np.ones(5), None), 5), *parts):
        tap.offer(rows, answer, size)
    tap.start()
    tap.close()
    (written,) = spool.waiting(10).values()
    assert (written.rows, written.dropped_rows) == (24, 5)


def test_nothing_seen_is_nothing_written(document, spool):
    tap = _tap(document, spool, Metrics(document))
    tap.start()
    tap.close()

    assert spool.waiting(10) == {}


def test_a_full_disk_is_told_of_in_the_next_batch(document, spool, monkeypatch):
    tap = _tap(document, spool, Metrics(document))
    rows = np.ones((10, 1))
    tap.count(1, 0)
    tap.offer(rows, Answer(rows[:, 0], None), 10)
    put = spool.put

    def full(_batch):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "put", full)
    tap._sketch()
    tap._flush(tap._marks())
    monkeypatch.setattr(spool, "put", put)
    tap._flush(tap._marks())

    (written,) = spool.waiting(10).values()
    assert (written.rows, written.dropped_rows, written.sequence) == (0, 10, 1)


def test_threads_of_the_tap_end(document, spool):
    before = threading.active_count()
    tap = _tap(document, spool, Metrics(document))
    tap.start()
    tap.close()

    assert threading.active_count() == before

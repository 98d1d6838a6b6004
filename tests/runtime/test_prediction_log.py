"""Predictions logged beside a replica: which, what of them, and that none is lost or told twice whoever dies."""

import fcntl
import json
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from tests.logged import about, batch
from tests.runtime.test_swaps import Steered

from modelops.domains.models.flavours.sklearn import flavour
from modelops.domains.models.schemas import Feature, FeatureType, ModelSignature
from modelops.domains.models.signatures import infer_signature
from modelops.domains.serving.logs.logtables import read_contents
from modelops.domains.serving.schemas import ServingLimits
from modelops.runtime.serving.counting.metrics import Counts, Metrics
from modelops.runtime.serving.logs.batches import batch_of
from modelops.runtime.serving.logs.files import LogFolder, identity_of, rows_of
from modelops.runtime.serving.logs.log import PredictionLog, is_picked
from modelops.runtime.serving.logs.logged import About, Entry, Logged
from modelops.runtime.serving.predicting import Answer

X, y = load_iris(return_X_y=True)
ALL = ServingLimits(log_sample=1)
OF = about("dep_1")


def tables(contents):
    return [pa.ipc.open_stream(body).read_all() for body in contents]


@pytest.fixture
def document(bench):
    files = bench.package(flavour, LogisticRegression(max_iter=1000).fit(X, y))
    return lambda **limits: bench.document(files, infer_signature(X), limits=ServingLimits(**limits))


def test_what_was_predicted_is_told_once(bench, document):
    replica = bench.serve(document(log_sample=1))
    headers = [{"x-request-id": f"r-{number}"} for number in range(20)]
    answers = [
        replica.client.post("/predict", json={"instances": X[n : n + 2].tolist()}, headers=headers[n]).json()
        for n in range(20)
    ]
    slow = replica.client.post("/predict", json={"instances": X[:3].tolist()}, headers={"traceparent": "x"})
    refused = replica.client.post("/predict", json={"instances": [[1]]})
    assert (slow.status_code, refused.status_code) == (200, 422)
    assert replica.terminate() == 0

    files = bench.platform.logs
    assert [read_contents(pa.BufferReader(body)).rows for body in files.values()] == [43]
    (table,) = tables(files.values())
    rows = table.to_pylist()
    assert [row["request_id"] for row in rows[:40]] == [f"r-{n // 2}" for n in range(40)]
    assert [row["row"] for row in rows[:4]] == [0, 1, 0, 1]
    assert [row["prediction"] for row in rows[:40]] == [value for one in answers for value in one["predictions"]]
    named = [f"input.{feature.name}" for feature in infer_signature(X).inputs]
    np.testing.assert_array_equal([[row[name] for name in named] for row in rows[:2]], X[:2])
    assert rows[0]["probability.2"] == answers[0]["probabilities"][0][2]
    assert all(0 < row["latency_ms"] < 60_000 for row in rows)
    assert not list((bench.folder / "spool" / "predictions").iterdir())


@pytest.mark.parametrize(
    ("limits", "columns"),
    [({"log_inputs": False}, {"prediction"}), ({"log_outputs": False}, {"input"})],
)
def test_what_is_not_to_be_logged_is_not(bench, document, limits, columns):
    replica = bench.serve(document(log_sample=1, **limits))
    replica.predict(X[:1].tolist())
    replica.terminate()

    (table,) = tables(bench.platform.logs.values())
    told = {name.partition(".")[0] for name in table.column_names} & {"input", "prediction"}
    assert told == columns


def test_a_share_is_logged_by_the_requests_ids(bench, document):
    replica = bench.serve(document(log_sample=0.25))
    names = [f"request-{number}" for number in range(100)]
    for name in names:
        replica.client.post("/predict", json={"instances": X[:1].tolist()}, headers={"x-request-id": name})
    replica.terminate()

    logged = [name for table in tables(bench.platform.logs.values()) for name in table["request_id"].to_pylist()]
    assert logged == [name for name in names if is_picked(name, 0.25)]
    assert 10 < len(logged) < 45


def test_without_the_limit_nothing_is_there(bench, document):
    replica = bench.serve(document())
    replica.predict(X[:1].tolist())
    replica.terminate()

    assert not bench.platform.logs
    assert not (bench.folder / "spool" / "predictions").exists()


def test_what_a_killed_replica_wrote_comes_later_and_once(bench, document, wait_until):
    asked = document(log_sample=1)
    killed = bench.serve(asked)
    spool = bench.folder / "spool" / "predictions"
    bench.platform.status = 503
    killed.predict(X[:3].tolist())
    wait_until(lambda: any(path.stat().st_size > 500 for path in spool.glob("*")))
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait()
    bench.platform.status = 200
    assert bench.platform.logs == {}

    bench.serve(asked)
    wait_until(lambda: bench.platform.logs)

    (table,) = tables(bench.platform.logs.values())
    assert table.num_rows == 3
    wait_until(lambda: not list(spool.iterdir()))


def test_an_answer_of_the_platform_that_got_lost_tells_nothing_twice(bench, document, wait_until):
    bench.platform.answers_lost = 2
    replica = bench.serve(document(log_sample=1))
    replica.predict(X[:3].tolist())
    replica.terminate()
    again = bench.serve(document(log_sample=1))
    wait_until(lambda: not list((bench.folder / "spool" / "predictions").iterdir()))
    again.terminate()

    assert [table.num_rows for table in tables(bench.platform.logs.values())] == [3]


def test_a_shadow_logs_what_its_champion_logs(bench):
    files = bench.package(flavour, LogisticRegression(max_iter=1000).fit(X, y))
    signature = infer_signature(X)
    variants = [
        bench.variant(files, signature),
        bench.variant(files, signature, name="ghost", role="shadow", share=100.0),
    ]
    replica = bench.serve(bench.of_variants(variants, limits=ServingLimits(log_sample=0.5)))
    for number in range(30):
        for headers in ({"x-request-id": f"r-{number}"}, {"x-request-id": f"o-{number}", "expect": "100-continue"}, {}):
            replica.client.post("/predict", json={"instances": X[:1].tolist()}, headers=headers)
    replica.terminate()

    logged = {"champion": [], "ghost": []}
    for table in tables(bench.platform.logs.values()):
        variant = json.loads(table.schema.metadata[b"modelops"])["variant"]
        logged[variant] += table["request_id"].to_pylist()
    assert sorted(logged["champion"]) == sorted(logged["ghost"])
    assert 20 < len(logged["champion"]) < 70


def test_logging_begins_and_ends_with_a_swap(bench, document):
    replica = Steered(bench, document())
    for number, limits in enumerate(({}, {"log_sample": 1}, {"log_sample": 1, "log_inputs": False}, {})):
        asked = document(**limits)
        replica.swap(asked.model_copy(update={"revision": 8 + number}))
        assert replica.process.predict(X[:1].tolist()).status_code == 200
    replica.process.terminate()

    told = [
        (json.loads(table.schema.metadata[b"modelops"])["revision"], table.num_rows, "prediction" in table.column_names)
        for table in tables(bench.platform.logs.values())
    ]
    assert sorted(told) == [(9, 1, True), (10, 1, True)]


def test_texts_and_nulls_are_logged_as_they_came(bench):
    frame = pd.DataFrame({"city": list("abab") * 5, "size": np.arange(20.0)})
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city"]), remainder="drop"),
        LogisticRegression(),
    ).fit(frame, np.where(frame["size"] > 9, "large", "small"))
    signature = ModelSignature(
        inputs=[Feature(name="city", type=FeatureType.STRING, required=False), Feature(name="size", required=False)]
    )
    replica = bench.serve(bench.document(bench.package(flavour, model), signature, limits=ALL))
    assert replica.predict([["a", 1.5], ["ü", None]]).status_code == 200
    replica.terminate()

    (table,) = tables(bench.platform.logs.values())
    assert table["input.city"].to_pylist() == ["a", "ü"]
    assert table["input.size"].to_pylist() == [1.5, None]
    assert set(table["prediction"].to_pylist()) <= {"large", "small"}
    assert table.column_names[-2:] == ["probability.large", "probability.small"]


def test_integers_and_booleans_keep_their_types():
    kinds = (FeatureType.INTEGER, FeatureType.BOOLEAN)
    inputs = [
        Feature(name=f"{kind}{int(needed)}", type=kind, required=needed) for kind in kinds for needed in (True, False)
    ]
    rows = {
        "integer1": np.array([1, 2]),
        "integer0": np.array([3.0, np.nan]),
        "boolean1": np.array([True, False]),
        "boolean0": np.array([True, np.nan], dtype=object),
    }
    what = About({}, ModelSignature(inputs=inputs), None, True, True, 1.0, 1)
    found = batch_of(Logged(what, rows, Answer([{"a": 1}, None], None), [Entry("r", 0, 2, 0.0)], 1.0))

    columns = {name.removeprefix("input."): found.column(name).to_pylist() for name in found.schema.names[4:]}
    assert columns == {
        "integer1": [1, 2],
        "integer0": [3, None],
        "boolean1": [True, False],
        "boolean0": [True, None],
        "prediction": ['{"a": 1}', "null"],
    }


@given(st.text(max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_who_is_logged_at_a_share_is_at_any_greater(name, one, other):
    assert is_picked(name, min(one, other)) <= is_picked(name, max(one, other))
    assert is_picked(name, 1)
    assert not is_picked(name, 0)


def metrics():
    return Metrics(SimpleNamespace(tenant_id="t", project_id="p", deployment="d", deployment_id="dep_1"))


def logging_into(folder, **changes):
    counts = Counts()
    log = PredictionLog(folder, metrics(), changes.pop("file_s", 60))
    log.become(about("dep_1", **changes), counts)
    return log, counts


def ask(log, count):
    return SimpleNamespace(logged=log.pick(None), count=count, began=time.perf_counter())


def offer(log, count=2, classes=2):
    answer = Answer(np.zeros(count), np.full((count, classes), 0.5))
    log.offer(np.ones((count, 2)), answer, [ask(log, count)])


def test_a_file_ends_with_its_revision_and_its_size(tmp_path):
    folder = LogFolder(tmp_path, "me")
    log, counts = logging_into(folder)
    offer(log)
    log.become(about("dep_1", revision=2), counts)
    offer(log, 4)
    log.close()

    assert [(identity_of(path), rows_of(path)) for path in folder.finished()] == [(("me", 0), 2), (("me", 1), 4)]
    assert counts.log_dropped == 0


def test_where_the_disk_is_full_it_is_counted(tmp_path, monkeypatch):
    log, counts = logging_into(LogFolder(tmp_path, "me"))
    monkeypatch.setattr(LogFolder, "begin", lambda *_: (_ for _ in ()).throw(OSError("no space left on device")))
    offer(log, 3)
    log.close()

    assert counts.log_dropped == 3


def test_what_waits_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("modelops.runtime.serving.logs.log._CAPACITY_BYTES", 100)
    log, counts = logging_into(LogFolder(tmp_path, "me"))
    for _ in range(5):
        offer(log, 3)
    log.close()

    assert counts.log_dropped == 9


def test_the_oldest_files_go_where_there_is_no_room(tmp_path):
    folder = LogFolder(tmp_path, "me", capacity_bytes=5_000)
    log, counts = logging_into(folder, file_s=0)
    for number in range(8):
        offer(log)
        log.write()
        for path in folder.finished():
            os.utime(path, (number, number)) if identity_of(path)[1] == number else None
    log.close()

    kept = [identity_of(path)[1] for path in folder.finished()]
    assert kept == list(range(8 - len(kept), 8))
    assert 0 < len(kept) < 8
    assert counts.log_dropped == 2 * (8 - len(kept))


@given(cut=st.integers(0, 4_000))
def test_a_file_that_was_cut_off_is_read_up_to_its_last_batch(tmp_path_factory, cut):
    folder = LogFolder(tmp_path_factory.mktemp("cut"), "me")
    parts = [batch(OF, np.ones((4, 2)), ids=(f"r{n}",)) for n in range(3)]
    file, sizes = folder.begin(parts[0].schema), []
    for part in parts:
        file.write(part)
        sizes.append(file.size)
    file._file.close()
    (path,) = folder.path.iterdir()
    os.truncate(path, min(cut, sizes[-1]))

    LogFolder(folder.path, "other").adopt()

    whole = sum(size <= cut for size in sizes)
    assert [rows_of(path) for path in folder.finished()] == ([4 * whole] if whole else [])
    assert len(list(folder.path.iterdir())) == bool(whole)


def test_what_is_not_ours_is_left_alone_or_thrown_away(tmp_path):
    (tmp_path / "notes.arrow").write_bytes(b"mine")
    (tmp_path / "torn-0.part").write_bytes(b"\xff" * 64)
    folder = LogFolder(tmp_path, "me")
    folder.adopt()

    assert folder.finished() == []
    assert [path.name for path in tmp_path.iterdir()] == ["notes.arrow"]


def test_a_file_that_is_written_to_is_left_alone(tmp_path):
    folder = LogFolder(tmp_path, "me")
    file = folder.begin(batch(OF, np.ones((1, 2))).schema)
    LogFolder(tmp_path, "other").adopt()
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]

    fcntl.flock(file._file, fcntl.LOCK_UN)
    LogFolder(tmp_path, "other").adopt()
    assert not list(tmp_path.iterdir())
    file._file.close()

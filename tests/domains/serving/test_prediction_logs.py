"""Files of logged predictions on the platform: kept once, listed, put together, forgotten in time."""

import dataclasses
import io
import itertools
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.logged import about, batch, send, stream

from modelops.contracts.errors import InvalidInput, NotFound, PermissionDenied
from modelops.domains.serving.logs.logtables import read_contents, write_together
from modelops.domains.serving.logs.retention import PredictionLogReconciler, holds
from modelops.domains.serving.schemas import LogFormat, ServingLimits

ROWS = [[1.0, 2.0], [3.0, float("nan")], [5.0, 6.0], [7.0, 8.0]]


@pytest.fixture
def deployment(platform, register):
    admin = platform.client()
    register(admin, "numbers")
    return admin.serving.create_deployment(
        "live", "numbers", replicas=0, limits=ServingLimits(log_sample=1, log_retention_days=7)
    )


def test_a_file_is_kept_once_and_comes_back_as_a_table(platform, deployment, tmp_path):
    admin = platform.client()
    of = about(deployment.id, model_version_id=deployment.model_version_id)
    body = stream(batch(of, ROWS, ids=("a", "b"), ago_s=20), batch(of, ROWS[:1], ids=("c",), ago_s=5))

    first, again = (send(admin, "live", body).json() for _ in range(2))
    other = send(admin, deployment.id, stream(batch(of, ROWS[:2], ids=("d",))), sequence=1).json()

    assert first == again
    assert other["id"] != first["id"]
    listed = admin.serving.list_prediction_logs("live", order_by="rows")
    assert [file.rows for file in listed.items] == [2, 5]
    file = listed.items[1]
    assert (file.variant, file.model, file.version, file.revision) == ("champion", "numbers", 1, 1)
    assert timedelta(days=6.9) < file.expires_at - file.created_at < timedelta(days=7.1)
    assert timedelta(seconds=14) < file.ended_at - file.began_at < timedelta(seconds=16)
    for kind, read in (("parquet", pq.read_table), ("arrow", lambda path: pa.ipc.open_file(path).read_all())):
        path = admin.serving.download_prediction_logs("live", tmp_path / kind, format=kind)
        table = read(path).to_pydict()
        assert table["request_id"] == ["a", "a", "b", "b", "c", "d", "d"]
        assert table["row"] == [0, 1, 0, 1, 0, 0, 1]
        assert table["input.x1"] == [2.0, None, 6.0, 8.0, 2.0, 2.0, None]
        assert table["prediction"] == [0, 1, 0, 1, 0, 0, 1]
        assert table["probability.0"] == [0.5] * 7
        assert table["latency_ms"] == pytest.approx([2.0] * 7)
        assert set(table["deployment_id"]) == {deployment.id}
    records = admin.identity.list_audit_records(filter='operation = "serving.download_prediction_logs"')
    assert records.total == 2


def test_a_window_or_a_variant_is_cut_out(platform, deployment, tmp_path):
    admin, now = platform.client(), datetime.now(UTC)
    send(admin, "live", stream(batch(about(deployment.id), ROWS[:2], ids=("old", "older"), ago_s=100)))
    send(admin, "live", stream(batch(about(deployment.id, variant="blue"), ROWS[:1], ids=("new",))), sequence=1)

    def ids(**window):
        path = admin.serving.download_prediction_logs("live", tmp_path / "cut", **window)
        return pq.read_table(path).column("request_id").to_pylist()

    assert ids() == ["old", "older", "new"]
    assert ids(since=now - timedelta(seconds=50)) == ["new"]
    assert ids(until=now - timedelta(seconds=50)) == ["old", "older"]
    assert ids(variant="blue") == ["new"]
    with pytest.raises(NotFound, match="No predictions"):
        ids(since=now + timedelta(days=1))
    with pytest.raises(InvalidInput, match="ends before"):
        ids(since=now, until=now - timedelta(days=1))


def test_what_is_no_such_file_is_refused(platform, deployment):
    admin = platform.client()
    of, table = about(deployment.id), pa.table({"x": [1]})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    whole = stream(batch(of, ROWS))
    bare = batch(of, ROWS).replace_schema_metadata(None)
    for body in (
        b"",
        b"nonsense",
        sink.getvalue(),
        whole[: len(whole) // 2],
        stream(bare),
        stream(batch(of, ROWS)[:0]),
    ):
        with pytest.raises(InvalidInput):
            send(admin, "live", body)
    with pytest.raises(InvalidInput, match="another deployment"):
        send(admin, "live", stream(batch(about("dep_other"), ROWS)))
    assert admin.serving.list_prediction_logs("live").total == 0


def test_who_may_read_and_send(platform, deployment, tmp_path):
    body = stream(batch(about(deployment.id), ROWS))
    send(platform.client(), "live", body)
    viewer, scientist, stranger = platform.member("viewer"), platform.member("data_scientist"), platform.stranger()
    for member in (viewer, scientist):
        for call in (
            lambda member=member: member.serving.list_prediction_logs("live"),
            lambda member=member: member.serving.download_prediction_logs("live", tmp_path / "x"),
        ):
            with pytest.raises(PermissionDenied):
                call()
    with pytest.raises(PermissionDenied):
        send(viewer, "live", body)
    for name in ("live", deployment.id):
        for call in (
            lambda name=name: stranger.serving.list_prediction_logs(name),
            lambda name=name: stranger.serving.download_prediction_logs(name, tmp_path / "x"),
            lambda name=name: send(stranger, name, body),
        ):
            with pytest.raises(NotFound):
                call()
    assert platform.member("ml_engineer").serving.list_prediction_logs("live").total == 1


def test_files_are_held_until_their_time_is_over(platform, deployment, world):
    world(platform)
    admin, reconciler = platform.client(), PredictionLogReconciler()
    digest = send(admin, "live", stream(batch(about(deployment.id), ROWS))).json()["digest"]

    def held(days=0.0):
        clock = SimpleNamespace(
            now=lambda: datetime.now(UTC) + timedelta(days=days), monotonic=lambda: time.monotonic() + 100 * days
        )
        with platform.place.work() as ctx:
            ctx = dataclasses.replace(ctx, clock=clock)
            for key in reconciler.pending(ctx):
                reconciler.apply(ctx, key, reconciler.act({}, reconciler.load(ctx, key)))
            return [found for _, found in holds(ctx, [digest, "sha256:other"])]

    assert held() == [digest]
    assert held(6.9) == [digest]
    assert held(7.9) == []


def test_files_go_with_their_deployment(platform, deployment, world):
    world(platform)
    admin = platform.client()
    digest = send(admin, "live", stream(batch(about(deployment.id), ROWS))).json()["digest"]
    admin.serving.delete_deployment("live")
    for _ in range(3):
        platform.controller.turn()

    with platform.place.work() as ctx:
        reconciler = PredictionLogReconciler()  # the controller's may have been there just before
        for key in reconciler.pending(ctx):
            reconciler.apply(ctx, key, key)
        assert list(holds(ctx, [digest])) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    parts=st.lists(
        st.tuples(
            st.integers(1, 4),
            st.sampled_from([("a",), ("a", "b"), ("c",)]),
            st.sampled_from(["number", "float", "text", "list", "bool"]),
        ),
        min_size=1,
        max_size=4,
    ),
    kind=st.sampled_from(LogFormat),
)
def test_files_of_any_shapes_make_one_table(parts, kind):
    values = {
        "number": lambda count: np.arange(count),
        "float": lambda count: np.arange(count) / 2,
        "text": lambda count: np.array([f"t{n}" for n in range(count)], dtype=object),
        "list": lambda count: [[n, None] for n in range(count)],
        "bool": lambda count: np.arange(count) % 2 == 0,
    }
    number = itertools.count()
    bodies = []
    for count, features, what in parts:
        of = about("dep_1", features=features, classes=None, revision=1 + next(number))
        rows = np.arange(count * len(features), dtype=float).reshape(count, -1)
        bodies.append(stream(batch(of, rows, values[what](count), ids=[f"r{n}" for n in range(count)])))

    target = io.BytesIO()
    rows = write_together([lambda body=body: io.BytesIO(body) for body in bodies], target, kind, None, None)
    target.seek(0)
    table = pq.read_table(target) if kind is LogFormat.PARQUET else pa.ipc.open_file(target).read_all()

    assert rows == table.num_rows == sum(count for count, _, _ in parts)
    assert table.column("revision").to_pylist() == [
        place + 1 for place, (count, _, _) in enumerate(parts) for _ in range(count)
    ]
    kinds = {what for _, _, what in parts}
    assert (table.schema.field("prediction").type == pa.string()) == bool(
        kinds - {"number", "float"} and kinds != {"bool"}
    )


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_and_nothing_worse(data):
    whole = bytearray(stream(batch(about("dep_1"), ROWS)))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with suppress(InvalidInput):
        assert read_contents(io.BytesIO(bytes(whole))).rows >= 0

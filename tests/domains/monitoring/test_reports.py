"""Telemetry is counted once, reports stand on the model's own reference, and a runtime speaks for itself alone."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from modelops.contracts.errors import InvalidInput, MonitoringError, NotFound, PermissionDenied
from modelops.domains.identity import service as identity
from modelops.domains.monitoring.schemas import Accepted, SketchBatch, SketchBatches
from modelops.domains.monitoring.sketches import Sketcher, build_reference
from modelops.sdk.registry import ModelRegistry

LUCK = np.random.default_rng(0)
ROWS = LUCK.normal(size=(800, 3))
LABELS = (ROWS[:, 0] > 0).astype(int)


@pytest.fixture
def world(platform):
    client = platform.client()
    model = LogisticRegression().fit(ROWS, LABELS)
    version = ModelRegistry(client).register_model("m", model, sample=ROWS, feature_names=["a", "b", "c"])
    deployment = client.serving.create_deployment("live", "m:1", replicas=0)
    return platform, client, deployment, version


def batch(deployment, version, rows, sequence=0, source="r1", age_s=5):
    sketcher = Sketcher(build_reference(ROWS, LABELS, input_names=["a", "b", "c"]))
    sketcher.add(rows, (rows[:, 0] > 0).astype(int))
    inputs, outputs, count = sketcher.take()
    end = datetime.now(UTC) - timedelta(seconds=age_s)
    return SketchBatch(
        source=source,
        sequence=sequence,
        deployment_id=deployment.id,
        revision=1,
        model_version_id=version.id,
        started_at=end - timedelta(seconds=1),
        ended_at=end,
        rows=count,
        requests=1,
        errors=0,
        dropped_rows=0,
        inputs=inputs,
        outputs=outputs,
    )


def send(client, *batches):
    answer = client.rest.request("POST", "/monitoring/sketches", json=SketchBatches(batches=list(batches)))
    return Accepted.model_validate_json(answer.content)


def test_a_batch_is_counted_once_however_often_it_comes(world):
    _, client, deployment, version = world
    first, second = batch(deployment, version, ROWS[:100]), batch(deployment, version, ROWS[:50], sequence=1)
    assert send(client, first) == Accepted(accepted=1, duplicates=0)
    assert send(client, first, second) == Accepted(accepted=1, duplicates=1)
    assert send(client, first, second) == Accepted(accepted=0, duplicates=2)
    traffic = client.monitoring.get_traffic("live")
    assert (traffic.rows, traffic.requests, traffic.batches) == (150, 2, 2)


def test_a_report_names_what_moved_and_is_kept(world):
    platform, client, deployment, version = world
    moved = LUCK.normal(size=(500, 3))
    moved[:, 1] += 1.0
    send(client, batch(deployment, version, moved))
    report = client.monitoring.detect_drift("live")
    assert report.drifted_columns == ["b"]
    assert (report.rows, report.reference_rows) == (500, 800)
    assert client.monitoring.get_drift_report(report.id) == report
    assert client.monitoring.list_drift_reports(filter="drifted = true").total == 1
    platform.controller.turn()
    kinds = [event.type for event in client.platform.stream_events(follow=False)]
    assert "modelops.monitoring.drift_detected" in kinds


def test_windows_hold_what_happened_in_them(world):
    _, client, deployment, version = world
    send(client, batch(deployment, version, ROWS[:100], age_s=3600), batch(deployment, version, ROWS[:50], sequence=1))
    recent = datetime.now(UTC) - timedelta(minutes=5)
    assert client.monitoring.get_traffic("live", since=recent).rows == 50
    assert client.monitoring.get_traffic("live", until=recent).rows == 100
    with pytest.raises(InvalidInput, match="ends before it begins"):
        client.monitoring.get_traffic("live", since=recent, until=recent - timedelta(seconds=1))


def test_without_traffic_or_reference_it_says_so(world):
    _, client, _, _ = world
    with pytest.raises(MonitoringError, match="answered nothing"):
        client.monitoring.detect_drift("live")
    with pytest.raises(NotFound):
        client.monitoring.detect_drift("nope")


def test_a_runtime_speaks_for_its_own_deployment(world):
    platform, client, deployment, version = world
    other = client.serving.create_deployment("other", "m:1", replicas=0)
    with platform.place.work() as ctx:
        inside = ctx.within(deployment.project_id)
        token = identity.grant_token(inside, other.id, ["monitoring.write"], ttl_s=60)
    runtime = platform.client(token)
    with pytest.raises(PermissionDenied, match="does not speak"):
        send(runtime, batch(deployment, version, ROWS[:10]))
    assert send(runtime, batch(other, version, ROWS[:10])).accepted == 1


def test_rights_and_isolation(world):
    platform, client, deployment, version = world
    send(client, batch(deployment, version, ROWS[:100]))
    report = client.monitoring.detect_drift("live")
    viewer, stranger = platform.member("viewer"), platform.stranger()
    assert viewer.monitoring.get_drift_report(report.id).id == report.id
    with pytest.raises(PermissionDenied):
        send(viewer, batch(deployment, version, ROWS[:10], sequence=9))
    with pytest.raises(NotFound):
        send(stranger, batch(deployment, version, ROWS[:10], sequence=9))
    with pytest.raises(NotFound):
        stranger.monitoring.get_drift_report(report.id)

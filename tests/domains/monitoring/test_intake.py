"""What is wrong is refused when it comes, what is right is counted once, and nobody's batch passes for another's."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from modelops.contracts.errors import InvalidInput, MonitoringError
from modelops.domains.monitoring.rules import MOST_ROWS, check_batch, fits, stored_source
from modelops.domains.monitoring.schemas import Accepted, SketchBatch, SketchBatches
from modelops.domains.monitoring.sketches import Sketcher, build_reference
from modelops.sdk.registry import ModelRegistry

LUCK = np.random.default_rng(0)
ROWS = LUCK.normal(size=(300, 2))
LABELS = (ROWS[:, 0] > 0).astype(int)
REFERENCE = build_reference(ROWS, LABELS, input_names=["a", "b"])


def world_of(client):
    model = LogisticRegression().fit(ROWS, LABELS)
    version = ModelRegistry(client).register_model("m", model, sample=ROWS, feature_names=["a", "b"])
    return client.serving.create_deployment("live", "m:1", replicas=0), version


@pytest.fixture
def world(platform):
    client = platform.client()
    return platform, client, *world_of(client)


def batch(deployment="dep_1", version="mver_1", rows=ROWS[:50], **changes):
    sketcher = Sketcher(REFERENCE)
    sketcher.add(rows, (rows[:, 0] > 0).astype(int))
    inputs, outputs, count = sketcher.take()
    end = datetime.now(UTC) - timedelta(seconds=5)
    facts = {
        "source": "r1",
        "sequence": 0,
        "deployment_id": deployment,
        "revision": 1,
        "model_version_id": version,
        "started_at": end - timedelta(seconds=1),
        "ended_at": end,
        "rows": count,
        "requests": 1,
        "errors": 0,
        "dropped_rows": 0,
        "inputs": inputs,
        "outputs": outputs,
    }
    return SketchBatch(**(facts | changes))


def changed(one, role="inputs", **changes):
    first, *others = getattr(one, role)
    return one.model_copy(update={role: [first.model_copy(update=changes), *others]})


def counted(one, extra, role="inputs"):
    first = getattr(one, role)[0]
    return changed(one, role, counts=[first.counts[0] + extra, *first.counts[1:]])


def send(client, *batches):
    answer = client.rest.request("POST", "/monitoring/sketches", json=SketchBatches(batches=list(batches)))
    return Accepted.model_validate_json(answer.content)


GOOD = batch()
WRONG = {
    "sequence": GOOD.model_copy(update={"sequence": 2**63}),
    "rows": GOOD.model_copy(update={"rows": 2**70}),
    "requests": GOOD.model_copy(update={"requests": MOST_ROWS + 1}),
    "revision": GOOD.model_copy(update={"revision": 2**31}),
    "negative revision": GOOD.model_copy(update={"revision": -1}),
    "long id": GOOD.model_copy(update={"model_version_id": "v" * 41}),
    "NUL in id": GOOD.model_copy(update={"model_version_id": "v\0"}),
    "NUL in source": GOOD.model_copy(update={"source": "r\0"}),
    "surrogate in source": GOOD.model_copy(update={"source": "r\ud800"}),
    "NUL in column": changed(GOOD, name="a\0"),
    "surrogate in column": changed(GOOD, name="a\ud800"),
    "NaN sum": changed(GOOD, sum=float("nan")),
    "infinite extreme": changed(GOOD, high=float("inf")),
    "negative count": counted(GOOD, -500),
    "negative missing": changed(GOOD, missing=-1),
    "huge missing": changed(GOOD, missing=2**70),
    "rows that nobody saw": counted(GOOD, 1),
    "answers that nobody gave": counted(GOOD, 1, "outputs"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_batch_is_refused(name):
    with pytest.raises(InvalidInput, match="cannot be counted") as refused:
        check_batch(WRONG[name])
    refused.value.detail.encode()


def test_refused_batches_are_answered_and_leave_reports_as_they_were(world):
    platform, client, deployment, version = world
    mine = {"deployment_id": deployment.id, "model_version_id": version.id}
    send(client, GOOD.model_copy(update=mine))
    with platform.http(authorization=f"Bearer {platform.admin_key}") as http:
        for place, (name, wrong) in enumerate(WRONG.items(), start=1):
            whole = {**mine, "sequence": max(place, wrong.sequence)}
            keep = {"model_version_id"} if "id" in name.split() else set()
            body = wrong.model_copy(update={key: value for key, value in whole.items() if key not in keep})
            # By `json`: a surrogate must travel as `\ud800`, which is valid JSON.
            content = json.dumps({"batches": [_wire(body)]})
            answer = http.post("/v1/monitoring/sketches", content=content, headers={"content-type": "application/json"})
            assert (name, answer.status_code) == (name, 422)
    assert client.monitoring.get_traffic("live").batches == 1
    assert client.monitoring.detect_drift("live").rows == 50


def _wire(body):
    """Return a batch as JSON types, whatever is wrong with it."""
    facts = body.model_dump(mode="python")
    facts["started_at"], facts["ended_at"] = body.started_at.isoformat(), body.ended_at.isoformat()
    for column in facts["inputs"] + facts["outputs"]:
        for key, value in column.items():
            if isinstance(value, float) and not np.isfinite(value):
                column[key] = {"nan": "NaN", "inf": "Infinity"}[str(value)]
    return facts


def test_of_several_batches_a_wrong_one_keeps_none(world):
    _, client, deployment, version = world
    good = batch(deployment.id, version.id)
    with pytest.raises(InvalidInput):
        send(client, good, counted(batch(deployment.id, version.id, sequence=1), 1))
    assert client.monitoring.get_traffic("live").batches == 0
    assert send(client, good, good) == Accepted(accepted=1, duplicates=1)


def test_batches_that_come_at_once_are_counted_once(world):
    _, client, deployment, version = world
    batches = [batch(deployment.id, version.id, sequence=number) for number in range(10)]
    with ThreadPoolExecutor(6) as pool:
        orders = [batches, batches[::-1]] * 3
        answers = list(pool.map(lambda order: send(client, *order), orders))
    assert sum(answer.accepted for answer in answers) == 10
    assert sum(answer.duplicates for answer in answers) == 50
    assert client.monitoring.get_traffic("live").rows == 500


def test_a_batch_of_one_tenant_or_deployment_never_passes_for_anothers(world):
    platform, client, deployment, version = world
    stranger = platform.stranger()
    theirs, their_version = world_of(stranger)
    assert send(stranger, batch(theirs.id, their_version.id)).accepted == 1
    assert send(client, batch(deployment.id, version.id)).accepted == 1
    other = client.serving.create_deployment("other", "m:1", replicas=0)
    assert send(client, batch(other.id, version.id)).accepted == 1
    assert client.monitoring.get_traffic("live").rows == stranger.monitoring.get_traffic("live").rows == 50


def test_a_deployment_may_be_named(world):
    _, client, deployment, version = world
    assert send(client, batch("live", version.id)).accepted == 1
    assert send(client, batch(deployment.id, version.id)).duplicates == 1
    assert client.monitoring.get_traffic("live").rows == 50


@pytest.mark.parametrize("bins", [{"counts": [50, 0]}, {"name": "z"}])
def test_other_bins_are_told_and_can_be_left_out(world, bins):
    _, client, deployment, version = world
    now = datetime.now(UTC)
    send(client, batch(deployment.id, version.id))
    old = {"started_at": now - timedelta(hours=2), "ended_at": now - timedelta(hours=1)}
    send(client, changed(batch(deployment.id, version.id, sequence=1, **old), **bins))
    with pytest.raises(MonitoringError, match="reference") as told:
        client.monitoring.detect_drift("live")
    assert "since" in told.value.hint
    assert client.monitoring.detect_drift("live", since=now - timedelta(minutes=5)).rows == 50


@given(st.sets(st.text(min_size=1, max_size=200), min_size=2, max_size=5))
def test_each_source_has_a_key_that_fits_the_column(sources):
    keys = {stored_source(f"dep_{'0' * 32}", source) for source in sources}
    assert len(keys) == len(sources)
    assert all(len(key) <= 200 for key in keys)


def test_sketches_fit_their_own_reference_alone():
    assert fits(REFERENCE.inputs, GOOD.inputs)
    assert fits(REFERENCE.outputs, GOOD.outputs)
    assert not fits(REFERENCE.inputs, GOOD.inputs[::-1])
    assert not fits(REFERENCE.inputs, GOOD.inputs[:1])
    check_batch(GOOD)
    check_batch(GOOD.model_copy(update={"rows": 0, "inputs": [], "outputs": []}))

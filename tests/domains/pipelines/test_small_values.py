"""Small values travel with reports and claims, and are artifacts all the same; a report may ask for more to do."""

import json

import pytest
from tests.domains.pipelines.theatre import function, output

from modelops.contracts.errors import InvalidInput, PermissionDenied
from modelops.contracts.ports import BlobStore
from modelops.domains.data import service as data
from modelops.domains.pipelines.schemas import StepReport


def told(task, **contents):
    return StepReport(step=task.id, attempt=task.attempt, contents=contents)


def begun(theatre, **steps):
    theatre.register(steps=steps)
    run = theatre.start()
    theatre.until_step(run, next(iter(steps)), "ready")
    return run, theatre.worker(run)


def test_a_small_value_is_an_artifact_and_comes_with_the_step_that_takes_it(theatre):
    run, worker = begun(theatre, a=function(), b=function(inputs={"value": output("a")}))
    worker.report(told(worker.take(), result='{"x":[1,2]}'))
    theatre.until_step(run, "b", "ready")
    work = worker.claim()
    ref = work.tasks[0].references["value"]
    assert (ref.size, work.contents) == (11, {ref.digest: '{"x":[1,2]}'})
    assert theatre.client.data.download_artifact(ref.digest) == b'{"x":[1,2]}'
    assert theatre.client.data.get_artifact(ref.digest).media_type == "application/json"
    worker.report(told(work.tasks[0], result="3"))
    assert theatre.until(run, "succeeded")
    assert theatre.pipelines.read_output(run.id, "a") == {"x": [1, 2]}
    assert theatre.pipelines.read_output(run.id, "b") == 3
    with pytest.raises(Exception, match="referred to by: pipelines"):
        theatre.client.data.delete_artifact(ref.digest)


def test_values_of_many_steps_are_stored_once_each_and_come_from_the_store_when_nobody_remembers(theatre, monkeypatch):
    steps = {f"s{n}": function() for n in range(6)} | {
        "total": function(inputs={f"v{n}": output(f"s{n}") for n in range(6)})
    }
    run, worker = begun(theatre, **steps)
    theatre.until_step(run, "s5", "ready")
    stored = []
    store = theatre.platform.place.ports[BlobStore]
    put = type(store).put
    monkeypatch.setattr(type(store), "put", lambda self, chunks, **k: stored.append(1) or put(self, chunks, **k))
    tasks = worker.claim(most=6).tasks
    worker.report(*(told(task, result=str(900 + number // 2)) for number, task in enumerate(tasks)))
    assert len(stored) == 3
    theatre.until_step(run, "total", "ready")
    monkeypatch.setattr("modelops.domains.pipelines.values._TEXTS.get", lambda digest: None)
    work = worker.claim()
    assert sorted(work.contents.values()) == ["900", "901", "902"]
    worker.report(told(work.tasks[0], result="900"))
    assert len(stored) == 3, "the project holds it"
    assert theatre.until(run, "succeeded")


def test_a_value_that_was_deleted_while_it_was_told_is_stored_again(sqlite_theatre, monkeypatch):
    run, worker = begun(sqlite_theatre, a=function())
    kept = sqlite_theatre.client.data.upload_artifact(b"77")
    find, looks = data.find_artifacts, []

    def gone_after_the_first_look(ctx, digests, **options):
        found = find(ctx, digests, **options)
        looks.append(found)
        if len(looks) == 1:
            sqlite_theatre.client.data.delete_artifact(kept.digest)
        return found

    monkeypatch.setattr(data, "find_artifacts", gone_after_the_first_look)
    worker.report(told(worker.take(), result="77"))
    assert kept.digest in looks[0]
    assert sqlite_theatre.until(run, "succeeded")
    assert sqlite_theatre.pipelines.read_output(run.id, "a") == 77


def test_a_value_that_is_too_long_or_of_another_type_is_refused(sqlite_theatre):
    run, worker = begun(sqlite_theatre, a=function(outputs={"result": "arrow"}))
    task = worker.take()
    long = {"step": task.id, "attempt": task.attempt, "contents": {"result": json.dumps("x" * 16_384)}}
    path = f"/pipeline-runs/{run.id}/steps/report"
    with pytest.raises(InvalidInput, match="16384"):
        worker.client.rest.request("POST", path, json={"worker": worker.name, "reports": [long]})
    worker.report(told(task, result="1"))
    assert "is json, and declared is arrow" in sqlite_theatre.until(run, "failed").reason


def test_who_is_no_worker_of_the_run_stores_nothing(sqlite_theatre):
    _, worker = begun(sqlite_theatre, a=function())
    task = worker.take()
    worker.client = sqlite_theatre.client
    before = sqlite_theatre.client.data.list_artifacts().total
    with pytest.raises(PermissionDenied):
        worker.report(told(task, result="12345"))
    assert sqlite_theatre.client.data.list_artifacts().total == before


def test_a_report_asks_for_more(theatre):
    run, worker = begun(theatre, a=function(), b=function(), c=function())
    theatre.until_step(run, "c", "ready")
    first = worker.take()
    orders = worker.report(told(first, result="1"), most=1)
    (second,) = orders.work.tasks
    (third,) = worker.report(told(second, result="2"), most=5).work.tasks
    assert {first.key, second.key, third.key} == {"a", "b", "c"}
    assert worker.report(told(third, result="3"), most=5).work.tasks == []
    assert theatre.until(run, "succeeded")


def test_a_paused_run_and_a_worker_that_was_given_up_get_no_more(sqlite_theatre):
    run, worker = begun(sqlite_theatre, a=function(), b=function())
    sqlite_theatre.until_step(run, "b", "ready")
    task = worker.take()
    sqlite_theatre.pipelines.pause_run(run.id)
    assert worker.report(told(task, result="1"), most=5).work.tasks == []
    sqlite_theatre.pipelines.resume_run(run.id)
    (task,) = worker.report(told(task, result="1"), most=5).work.tasks
    assert task.key == "b"

"""Runs whose platform goes away and comes back, that take too long, or whose story breaks."""

import threading

import pytest
from tests.domains.pipelines.theatre import Player, Theatre, function, output

from modelops.contracts.ports import JobBackend
from modelops.domains.pipelines import turns
from modelops.kernel.workflows import Workflows
from modelops.testing.platform import running_platform

CHAIN = {
    "a": function("a"),
    "b": function("b", inputs={"x": output("a")}),
    "each": function("each", inputs={"x": {"item": True}}, foreach=output("b")),
}


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_run_goes_on_where_it_was_when_the_platform_comes_back(database, tmp_path, request):
    settings = {"database": request.getfixturevalue("postgres_database")} if database == "postgres" else {}
    with running_platform(tmp_path / "home", **settings) as platform:
        theatre = Theatre(platform)
        theatre.register(steps=CHAIN)
        run = theatre.start()
        theatre.until_step(run, "a", "ready")
        worker = theatre.worker(run)
        worker.succeed(worker.take(), result=1)
        theatre.until_step(run, "b", "ready")
        task, key, backend = worker.take(), theatre.platform.admin_key, theatre.backend
    with running_platform(tmp_path / "home", **settings) as platform:
        platform.admin_key = key
        theatre = Theatre(platform)
        theatre.backend = platform.place.ports[JobBackend] = backend
        token = backend.specs[worker.name].files["token"]
        worker = Player(theatre, run, worker.name, platform.client(token))
        assert worker.beat(task).stop == []
        worker.succeed(task, result=[1, 2])
        theatre.until_step(run, "each[1]", "ready")
        for _ in range(2):
            each = worker.take()
            worker.succeed(each, result=each.inputs["x"])
        assert theatre.until(run, "succeeded").steps == {"succeeded": 4}
        assert theatre.pipelines.get_step(run.id, "a").attempt == 1


def test_what_a_turn_writes_twice_is_there_once(sqlite_theatre, monkeypatch):
    """Whoever dies between the writing of a turn and its being kept has it written again."""
    written = turns.write_orders
    seen = []

    def twice(ctx, run_id, orders, lists):
        written(ctx, run_id, orders, lists)
        ctx.session.flush()
        written(ctx, run_id, orders, lists)
        seen.append(run_id)

    monkeypatch.setattr("modelops.domains.pipelines.conduct.write_orders", twice)
    steps = {**CHAIN, "tell": {"notify": {"message": "done"}, "after": ["each"]}}
    sqlite_theatre.register(steps=steps)
    done = sqlite_theatre.play(sqlite_theatre.start(), {"b": lambda x: [1, 2, 3]})
    assert seen
    assert done.steps == {"succeeded": 6}
    told = [event for event in events(sqlite_theatre) if event.type == "modelops.pipelines.notified"]
    assert [event.data["message"] for event in told] == ["done"]


def events(theatre):
    theatre.turn()
    return list(theatre.client.platform.stream_events(follow=False))


def test_a_run_that_takes_too_long_fails(sqlite_theatre):
    sqlite_theatre.register(steps={"a": function("a")}, timeout_s=5)
    run = sqlite_theatre.start()
    sqlite_theatre.until_step(run, "a", "ready")
    worker = sqlite_theatre.worker(run)
    task = worker.take()
    while not worker.beat(task).stop:
        threading.Event().wait(0.1)
    worker.fail(task, "stopped")
    found = sqlite_theatre.until(run, "failed")
    assert found.reason == "The run took longer than 5 s."


def test_a_run_whose_story_broke_is_told_to_have_failed(sqlite_theatre):
    sqlite_theatre.register(steps={"a": function("a")})
    run = sqlite_theatre.start()
    sqlite_theatre.until_step(run, "a", "ready")
    sqlite_theatre.platform.place.ports[Workflows].cancel(run.id)
    for reconciler in sqlite_theatre.platform.controller._loops:
        if reconciler.reconciler.name == "pipelines.stories":
            reconciler.reconciler._check._every_s = 0.0
            reconciler.reconciler._check._due.clear()
    found = sqlite_theatre.until(run, "failed", within_s=40)
    assert "could not conduct" in found.reason
    assert sqlite_theatre.states(run) == {"a": "canceled"}


@pytest.mark.slow
def test_a_run_of_ten_thousand_steps_ends(sqlite_theatre):
    steps = {
        f"s{number}": function("f", after=[f"s{number - 100}"] if number >= 100 else []) for number in range(10_000)
    }
    sqlite_theatre.register(steps=steps)
    done = sqlite_theatre.play(sqlite_theatre.start(), {}, most=64, within_s=280)
    assert done.state == "succeeded"
    assert done.steps == {"succeeded": 10_000}

"""What is kept of runs: results for equal steps to come, outputs while something needs them, and nothing beyond."""

import json

import pytest
from tests.domains.pipelines.theatre import function, output

from modelops.contracts.errors import Conflict, NotFound
from modelops.kernel.holding import Holders

CODE = "sha256:" + "c" * 64


def cacheable(theatre, digest="one", **rest):
    """Register a pipeline whose first step may be taken from the cache."""
    archive = theatre.client.data.upload_artifact(b"the code")
    steps = {
        "a": function("a", inputs={"x": {"parameter": "x"}}, cache=True),
        "b": function("b", inputs={"y": output("a")}),
    }
    code = {"digest": archive.digest, "digests": {"code:a": digest, "code:b": "other"}}
    parameters = {"x": {"type": "integer", "default": 1}}
    theatre.register(steps=steps, code=code, parameters=parameters, **rest)


def played(theatre, calls, **options):
    def a(x):
        calls.append(x)
        return x * 10

    return theatre.play(theatre.start(**options), {"a": a, "b": lambda y: y + 1})


def test_an_equal_step_takes_its_outputs_from_the_run_before(theatre):
    calls = []
    cacheable(theatre)
    first = played(theatre, calls)
    second = played(theatre, calls)
    assert calls == [1]
    step = theatre.pipelines.get_step(second.id, "a")
    assert (step.state, step.cached_from, step.attempt) == ("cached", first.id, 0)
    assert theatre.pipelines.read_output(second.id, "b") == 11
    played(theatre, calls, parameters={"x": 2})
    assert calls == [1, 2]
    played(theatre, calls, use_cache=False)
    assert calls == [1, 2, 1]
    cacheable(theatre, digest="two")
    played(theatre, calls)
    assert calls == [1, 2, 1, 1]


def test_forgotten_results_are_made_again(theatre):
    calls = []
    cacheable(theatre)
    played(theatre, calls)
    assert theatre.pipelines.clear_cache("other").removed == 0
    assert theatre.pipelines.clear_cache("p").removed == 1
    played(theatre, calls)
    assert calls == [1, 1]


def test_members_of_a_fan_out_are_cached_each_by_its_item(sqlite_theatre):
    archive = sqlite_theatre.client.data.upload_artifact(b"the code")
    steps = {
        "items": function("items"),
        "each": function("each", inputs={"x": {"item": True}}, foreach=output("items"), cache=True),
    }
    code = {"digest": archive.digest, "digests": {"code:each": "one", "code:items": "two"}}
    sqlite_theatre.register(steps=steps, code=code)
    ran, items = [], [1, 2]
    functions = {"items": lambda: items, "each": lambda x: ran.append(x)}
    sqlite_theatre.play(sqlite_theatre.start(), functions)
    items = [2, 3]
    done = sqlite_theatre.play(sqlite_theatre.start(), functions)
    assert sorted(ran) == [1, 2, 3]
    assert sqlite_theatre.states(done)["each[0]"] == "cached"


def held(theatre, digest):
    with theatre.platform.place.work(write=False) as ctx:
        return theatre.platform.place.ports[Holders].by_domain["pipelines"](ctx, [digest])


def test_outputs_are_held_while_a_run_or_the_cache_needs_them(theatre):
    calls = []
    cacheable(theatre)
    run = played(theatre, calls)
    a = theatre.pipelines.get_step(run.id, "a").outputs["result"].digest
    b = theatre.pipelines.get_step(run.id, "b").outputs["result"].digest
    assert held(theatre, a)
    with pytest.raises(Conflict):
        theatre.client.data.delete_artifact(b)
    with pytest.raises(Conflict):
        theatre.pipelines.delete_pipeline("p")
    theatre.pipelines.delete_run(run.id)
    with pytest.raises(NotFound):
        theatre.pipelines.get_run(run.id)
    assert not held(theatre, b)
    with pytest.raises(NotFound):
        theatre.client.data.get_artifact(b)
    assert held(theatre, a)  # by the cache
    theatre.pipelines.clear_cache()
    assert not held(theatre, a)
    theatre.pipelines.delete_pipeline("p")
    with pytest.raises(NotFound):
        theatre.pipelines.get_pipeline("p")


def test_the_same_document_is_the_same_version(theatre):
    steps = {"a": function("a")}
    first = theatre.register(steps=steps)
    assert theatre.register(steps=steps).id == first.id
    second = theatre.register(steps={**steps, "b": function("b")})
    assert (first.version, second.version) == (1, 2)
    assert theatre.pipelines.get_pipeline("p").latest_version == 2
    assert [each.version for each in theatre.pipelines.list_pipeline_versions("p").items] == [2, 1]
    assert list(theatre.pipelines.get_pipeline_version("p", 1).document.steps) == ["a"]


def test_code_that_the_project_does_not_hold_is_refused(theatre):
    with pytest.raises(NotFound):
        theatre.register(steps={"a": function("a")}, code={"digest": CODE, "digests": {"code:a": "x"}})


def test_a_condition_on_a_large_value_is_read_from_the_store(sqlite_theatre):
    when = {"left": {"value": "last"}, "operator": "in", "right": output("a")}
    sqlite_theatre.register(steps={"a": function("a"), "b": function("b", when=when)})
    large = [*("word" * 100 for _ in range(1000)), "last"]
    assert len(json.dumps(large)) > 100_000
    done = sqlite_theatre.play(sqlite_theatre.start(), {"a": lambda: large})
    assert sqlite_theatre.states(done)["b"] == "succeeded"

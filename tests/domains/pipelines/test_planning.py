"""The planner: small stories told by hand, and what holds of any document whatever comes when."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.domains.pipelines.documents import document, documents

from modelops.contracts.schemas import Json
from modelops.domains.pipelines.document import FromOutput, PipelineDocument
from modelops.domains.pipelines.graph import downstream_of, needs_of
from modelops.domains.pipelines.planning import Outcome, Planner, Turn, member_key, parse_key
from modelops.domains.pipelines.schemas import RunState, StepState

DONE, BAD = StepState.SUCCEEDED, StepState.FAILED


def keys(turn: Turn) -> list[str]:
    return [beginning.key for beginning in turn.ready]


def well(*told: str, **values: Json) -> list[Outcome]:
    return [Outcome(key, DONE, values) for key in told]


def needing(*steps: str) -> dict[str, Any]:
    return {"after": list(steps)}


def test_a_step_begins_when_what_it_needs_has_ended() -> None:
    planner = Planner(document({"a": {}, "b": {"inputs": {"x": {"step": "a"}}}, "c": needing("a", "b")}), {})
    assert keys(planner.begin()) == ["a"]
    assert keys(planner.settle(well("a"))) == ["b"]
    assert planner.ended is None
    assert keys(planner.settle(well("b"))) == ["c"]
    planner.settle(well("c"))
    assert planner.ended is RunState.SUCCEEDED


def test_a_failure_skips_what_needs_it_and_lets_the_rest_go_on() -> None:
    planner = Planner(
        document({"a": {}, "b": needing("a"), "c": needing("b"), "free": {}, "last": needing("free")}), {}
    )
    planner.begin()
    turn = planner.settle([Outcome("a", BAD)])
    assert [(gone.key, gone.state, gone.reason) for gone in turn.settled] == [
        ("b", StepState.SKIPPED, "It needs 'a', which failed."),
        ("c", StepState.SKIPPED, "It needs 'b', which was skipped."),
    ]
    assert keys(planner.settle(well("free"))) == ["last"]
    planner.settle(well("last"))
    assert planner.ended is RunState.FAILED
    assert planner.failed == ["a"]


def test_branches_meet_again() -> None:
    branch = {"left": {"step": "score"}, "operator": ">", "right": {"parameter": "least"}}
    steps = {
        "score": {},
        "good": {"when": branch},
        "poor": {"when": {"negated": branch}},
        "both": {**needing("good", "poor"), "even_if": "not_failed"},
        "neither": needing("good", "poor"),
    }
    planner = Planner(document(steps, parameters={"least": {"type": "number", "default": 0.5}}), {"least": 0.5})
    planner.begin()
    assert planner.wanted("score") == {"result"}
    turn = planner.settle(well("score", result=0.9))
    assert keys(turn) == ["good"]
    assert [gone.key for gone in turn.settled] == ["poor"]
    turn = planner.settle(well("good"))
    assert keys(turn) == ["both"]
    assert [gone.key for gone in turn.settled] == ["neither"]
    planner.settle(well("both"))
    assert planner.ended is RunState.SUCCEEDED


def test_where_branches_meet_a_failure_is_not_passed_over_but_cleaning_up_is_done() -> None:
    steps = {
        "a": {},
        "b": needing("a"),
        "meet": {**needing("b"), "even_if": "not_failed"},
        "clean": {**needing("b"), "even_if": "ended"},
    }
    planner = Planner(document(steps), {})
    planner.begin()
    turn = planner.settle([Outcome("a", BAD)])
    assert [gone.key for gone in turn.settled] == ["b", "meet"]
    assert keys(turn) == ["clean"]


def test_a_fan_out_runs_a_member_for_each_item_so_many_at_once() -> None:
    steps = {
        "parts": {},
        "each": {"foreach": {"step": "parts"}, "inputs": {"x": {"item": True}}, "most_at_once": 2},
        "again": {"foreach": {"step": "each"}, "inputs": {"x": {"item": True}}},
        "join": {"inputs": {"all": {"step": "again"}}},
    }
    planner = Planner(document(steps), {})
    planner.begin()
    assert planner.wanted("each") == frozenset()
    turn = planner.settle(well("parts", result=["a", "b", "c"]))
    assert turn.members == {"each": 3}
    assert keys(turn) == ["each[0]", "each[1]"]
    assert keys(planner.settle(well("each[1]"))) == ["each[2]"]
    turn = planner.settle(well("each[0]", "each[2]"))
    assert keys(turn) == ["again[0]", "again[1]", "again[2]"]
    assert keys(planner.settle(well("again[0]", "again[1]", "again[2]"))) == ["join"]


def test_an_empty_list_succeeds_at_once() -> None:
    steps = {
        "each": {"foreach": {"value": []}},
        "over": {"foreach": {"step": "each"}},
        "join": {"inputs": {"all": {"step": "over"}}, "when": {"negated": {"true": {"step": "over"}}}},
    }
    planner = Planner(document(steps), {})
    turn = planner.begin()
    assert [(gone.key, gone.state) for gone in turn.settled] == [("each", DONE), ("over", DONE)]
    assert keys(turn) == ["join"]


def test_a_member_that_fails_fails_the_step_after_the_others_ended() -> None:
    planner = Planner(document({"each": {"foreach": {"value": [1, 2]}}, "join": needing("each")}), {})
    planner.begin()
    assert not planner.settle([Outcome("each[0]", BAD)]).settled
    turn = planner.settle(well("each[1]"))
    assert [gone.key for gone in turn.settled] == ["join"]
    assert planner.ended is RunState.FAILED
    assert planner.failed == ["each[0]"]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"foreach": {"step": "a"}}, "no list"),
        ({"when": {"left": {"step": "a"}, "operator": "<", "right": {"value": 1}}}, "no order"),
        ({"when": {"left": {"value": 1}, "operator": "in", "right": {"step": "a"}}}, "cannot be searched"),
    ],
)
def test_what_cannot_be_made_out_fails_the_step(spec: dict[str, Any], reason: str) -> None:
    planner = Planner(document({"a": {}, "b": spec}), {})
    planner.begin()
    turn = planner.settle(well("a", result="text"))
    assert turn.settled[0].state is BAD
    assert reason in turn.settled[0].reason
    assert planner.ended is RunState.FAILED


def test_a_stop_lets_nothing_begin_and_waits_for_what_is_under_way() -> None:
    steps = {"a": {}, "b": needing("a"), "each": {"foreach": {"value": [1, 2, 3]}, "most_at_once": 1}}
    planner = Planner(document(steps), {})
    planner.begin()
    gone = planner.stop().settled
    assert {(one.key, one.state) for one in gone} == {(key, StepState.CANCELED) for key in ("b", "each[1]", "each[2]")}
    assert planner.ended is None
    assert not planner.settle(well("a")).ready
    planner.settle([Outcome("each[0]", StepState.CANCELED)])
    assert planner.ended is RunState.CANCELED


def test_a_run_is_begun_again_from_a_step_and_all_behind_it() -> None:
    steps = document({"a": {}, "b": needing("a"), "c": needing("b"), "d": needing("a")}).steps
    assert downstream_of(steps, "b") == {"b", "c"}


def test_ten_thousand_steps_wide_and_deep() -> None:
    count = 5_000
    wide = {f"w{at}": needing("first") for at in range(count)}
    deep = {f"d{at}": needing(f"d{at - 1}" if at else "first") for at in range(count)}
    planner = Planner(document({"first": {}, **wide, **deep, "last": needing(*wide, f"d{count - 1}")}), {})
    waiting = keys(planner.begin())
    while waiting:
        waiting += keys(planner.settle(well(waiting.pop())))
    assert planner.ended is RunState.SUCCEEDED


def act(key: str) -> tuple[StepState, Json]:
    """Return how a step ends and with which value: the same for the same key."""
    number = sum(key.encode())
    state = [DONE, DONE, StepState.CACHED, DONE, BAD][number % 5]
    values: list[Json] = [0, 1, 2.5, "a", [], [1, 2], True, None]
    return state, values[number % 8]


def outcome(key: str) -> Outcome:
    state, value = act(key)
    return Outcome(key, state, {"result": value})


def carried_out(whole: PipelineDocument, choose: Any) -> tuple[Planner, list[str], dict[str, StepState]]:
    """Carry a run out, ending in each turn some of the steps under way; return what began when, and how keys ended."""
    planner = Planner(whole, {"p": 1})
    under_way: list[str] = []
    began: list[str] = []
    ends: dict[str, StepState] = {}

    def take(turn: Turn) -> None:
        for settled in turn.settled:
            assert settled.key not in ends
            ends[settled.key] = settled.state
        for beginning in turn.ready:
            assert beginning.key not in began
            step, index = parse_key(beginning.key)
            assert (step, index) == (beginning.step, beginning.index)
            for need in needs_of(whole.steps[step]):
                assert planner.state(need).final
            began.append(beginning.key)
            under_way.append(beginning.key)
            most = whole.steps[step].most_at_once
            assert most is None or sum(parse_key(key)[0] == step for key in under_way) <= most

    take(planner.begin())
    while planner.ended is None:
        assert under_way, "nothing is under way and the run has not ended"
        some = [under_way.pop(choose(len(under_way))) for _ in range(1 + choose(len(under_way)))]
        for key in some:
            assert key not in ends
            ends[key] = act(key)[0]
        take(planner.settle([outcome(key) for key in some]))
    assert not under_way
    return planner, began, ends


@given(documents(), st.randoms(use_true_random=False), st.randoms(use_true_random=False))
def test_the_order_in_which_steps_end_does_not_change_the_result(whole: PipelineDocument, one: Any, other: Any) -> None:
    first, began, ends = carried_out(whole, lambda count: one.randrange(count))
    second, also_began, also_ends = carried_out(whole, lambda count: other.randrange(count))
    assert ends == also_ends
    assert sorted(began) == sorted(also_began)
    assert first.ended is second.ended
    for name in whole.steps:
        assert first.state(name).final
        assert first.state(name) == second.state(name)


@given(documents(), st.randoms(use_true_random=False), st.data())
def test_a_run_that_is_taken_over_goes_on_where_it_was(
    whole: PipelineDocument, chance: Any, data: st.DataObject
) -> None:
    planner, began, ends = carried_out(whole, lambda count: chance.randrange(count))
    known = data.draw(st.lists(st.sampled_from(sorted(ends)), unique=True)) if ends else []
    told = [outcome(key) if key in began else Outcome(key, ends[key]) for key in known]
    taken_over = Planner(whole, {"p": 1})
    turn = taken_over.settle(told)
    left = keys(turn)
    left += keys(taken_over.begin())
    assert not set(left) & {key for key in known if key in began}
    while left:
        left += keys(taken_over.settle([outcome(left.pop())]))
    assert taken_over.ended is planner.ended
    assert {name: taken_over.state(name) for name in whole.steps} == {name: planner.state(name) for name in whole.steps}
    assert not taken_over.settle(told).ready  # told once more, nothing follows


@given(documents())
def test_a_run_fails_only_if_a_step_did(whole: PipelineDocument) -> None:
    planner, _, ends = carried_out(whole, lambda _: 0)
    assert (planner.ended is RunState.FAILED) == (BAD in ends.values())
    assert set(planner.failed) == {key for key, state in ends.items() if state is BAD}
    for name, spec in whole.steps.items():
        needs = {planner.state(need) for need in needs_of(spec)}
        if spec.even_if == "succeeded" and needs - {DONE, StepState.CACHED}:
            assert planner.state(name) is StepState.SKIPPED


@given(documents())
def test_a_fan_out_is_what_its_members_are(whole: PipelineDocument) -> None:
    planner, began, ends = carried_out(whole, lambda _: 0)
    for name, spec in whole.steps.items():
        members = [key for key in began if parse_key(key)[0] == name and parse_key(key)[1] is not None]
        if members:
            assert members == [member_key(name, index) for index in range(len(members))]
            assert (planner.state(name) is BAD) == any(ends[key] is BAD for key in members)
        if spec.foreach is not None and isinstance(spec.foreach, FromOutput):
            assert name not in began

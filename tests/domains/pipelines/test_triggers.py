"""Triggers on events, on both databases: what counts, what is handed over, once each, and no chain for ever."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.domains.pipelines.scheduling import SetClock, actor, beginnings, end_runs, open_runs, register, runs, states

from modelops.contracts.errors import AlreadyExists, InvalidInput, NotFound, PermissionDenied
from modelops.domains.pipelines.triggers.facts import check_content, fits, given_by
from modelops.domains.pipelines.triggers.schemas import RateLimit
from modelops.domains.pipelines.triggers.tables import TriggerRow
from modelops.domains.training.schemas import JobCreate
from modelops.testing.platform import running_platform

CREATED = "modelops.data.dataset_version_created"


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture(params=["sqlite", "postgres"])
def wired(request, tmp_path, clock):
    given = {"database": request.getfixturevalue("postgres_database")} if request.param == "postgres" else {}
    with running_platform(tmp_path / "home", clock=clock, **given) as platform:
        register(platform)
        yield platform


@pytest.fixture
def local(tmp_path, clock):
    with running_platform(tmp_path / "home", clock=clock) as platform:
        register(platform)
        yield platform


def turn(platform, times=3):
    for _ in range(times):
        platform.controller.turn()


def emit(platform, type_, subject="thing", who=None, **data):
    me = actor(platform)
    with platform.place.work(me if who is None else replace(me, id=who)) as ctx:
        ctx.emit(type_, subject, **data)


def test_a_dataset_version_begins_a_run_once_with_what_the_event_says(wired):
    client = wired.client()
    made = client.pipelines.create_trigger(
        "retrain", events=[CREATED], pipeline="train", parameters={"size": 9}, mapping={"day": "data.dataset"}
    )
    assert (made.hook_path, made.secret) == (None, None)
    client.data.create_dataset("numbers")
    client.data.create_dataset_version("numbers", b"a,b\n1,2\n", format="csv")
    turn(wired)
    assert runs(wired) == [("trigger:retrain", {"day": "numbers", "size": 9})]
    (begun,) = client.pipelines.list_trigger_history("retrain").items
    assert (begun.state, begun.depth, begun.run_id) == ("begun", 0, open_runs(wired)[0])


def test_what_was_before_or_while_it_was_paused_begins_nothing(local):
    client = local.client()
    emit(local, "modelops.test.happened", n=1)
    client.pipelines.create_trigger("t", events=["modelops.test.*"], pipeline="train")
    client.pipelines.update_trigger("t", paused=True)
    emit(local, "modelops.test.happened", n=2)
    turn(local)
    client.pipelines.update_trigger("t", paused=False)
    emit(local, "modelops.test.happened", n=3)
    turn(local)
    assert len(runs(local)) == 1


def test_a_condition_decides_which_events_count(wired):
    client = wired.client()
    client.pipelines.create_trigger(
        "promoted", events=["modelops.models.stage_changed"], pipeline="train",
        condition='data.to_stage = "Production" and data.version >= 2 and data.model ~ "FRAUD"', mapping={"day": "data.model"},
    )  # fmt: skip
    for stage, version, model in [
        ("Production", 2, "fraud-eu"), ("Staging", 3, "fraud-eu"), ("Production", 1, "fraud-eu"), ("Production", 3, "churn"),
        ("Production", "2", "fraud-us"),
    ]:  # fmt: skip
        emit(wired, "modelops.models.stage_changed", model, to_stage=stage, version=version, model=model)
    turn(wired)
    assert [parameters["day"] for _, parameters in runs(wired)] == ["fraud-eu"]


def test_a_reconciler_that_is_killed_before_its_commit_begins_nothing_twice(wired, monkeypatch):
    client = wired.client()
    client.pipelines.create_trigger("t", events=["modelops.test.*"], pipeline="train")
    for n in range(5):
        emit(wired, "modelops.test.happened", f"s{n}")
    from modelops.domains.pipelines.triggers import reconcilers

    fire, fired = reconcilers.fire, []

    def dies(*arguments, **options):
        fired.append(1)
        if len(fired) == 3:
            raise KeyboardInterrupt
        return fire(*arguments, **options)

    monkeypatch.setattr(reconcilers, "fire", dies)
    with pytest.raises(KeyboardInterrupt):
        turn(wired)
    assert runs(wired) == []
    turn(wired)
    assert len(runs(wired)) == 5
    with wired.place.work() as ctx:  # the place in the stream is lost: what the events led to is known still
        ctx.session.query(TriggerRow).update({"position": 0})
    turn(wired)
    assert len(runs(wired)) == 5


def test_a_debounced_trigger_begins_once_for_the_last_of_many(local, clock):
    client = local.client()
    client.pipelines.create_trigger(
        "t", events=["modelops.test.*"], pipeline="train", debounce_s=60, mapping={"day": "data.name"}
    )
    for name in "abc":
        emit(local, "modelops.test.happened", name=name)
        turn(local)
        clock.advance(30)
    assert runs(local) == []
    clock.advance(31)
    turn(local)
    assert [parameters["day"] for _, parameters in runs(local)] == ["c"]
    assert states(local) == ["skipped", "skipped", "begun"]
    assert "newer" in beginnings(local)[0].reason


def test_a_rate_limit_skips_what_is_more(local, clock):
    client = local.client()
    client.pipelines.create_trigger(
        "t", events=["modelops.test.*"], pipeline="train", limit=RateLimit(most=2, per_s=3600)
    )
    for _ in range(4):
        emit(local, "modelops.test.happened")
    turn(local)
    assert states(local) == ["begun", "begun", "skipped", "skipped"]
    assert "2 in 3600 s" in beginnings(local)[3].reason
    clock.advance(hours=2)
    emit(local, "modelops.test.happened")
    turn(local)
    assert len(runs(local)) == 3


def test_overlap_is_minded_by_triggers_too(local):
    client = local.client()
    client.pipelines.create_trigger("t", events=["modelops.test.*"], pipeline="train", overlap="queue")
    for _ in range(3):
        emit(local, "modelops.test.happened")
    turn(local)
    assert sorted(states(local)) == ["begun", "skipped", "waiting"]
    end_runs(local)
    turn(local)
    assert len(open_runs(local)) == 1


def test_a_pipeline_that_triggers_itself_for_ever_is_stopped_and_people_are_told(wired):
    client = wired.client()
    client.pipelines.create_trigger("loop", events=["modelops.pipelines.run_queued"], pipeline="train")
    client.pipelines.create_trigger("told", events=["modelops.pipelines.beginning_failed"], pipeline="train")
    emit(wired, "modelops.pipelines.run_queued", "prn_of_a_person")
    turn(wired, 15)
    found = client.pipelines.list_trigger_history("loop").items
    assert [one.depth for one in found] == list(range(10, -1, -1))
    assert [one.state for one in found] == ["failed"] + ["begun"] * 10
    assert "11th of a chain" in found[0].reason
    assert client.pipelines.list_trigger_history("told").items == []  # what tells of triggers triggers nothing
    assert [e for e in _events(wired) if e.type == "modelops.pipelines.beginning_failed"]


def test_a_chain_is_followed_through_what_runs_and_jobs_do(local):
    client = local.client()
    client.pipelines.create_trigger("t", events=["modelops.test.*"], pipeline="train")
    emit(local, "modelops.test.happened")
    turn(local)
    (first,) = open_runs(local)
    emit(local, "modelops.test.happened", who=first)  # a step of the run did it, with the run's token
    turn(local)
    assert [row.depth for row in beginnings(local)] == [0, 1]
    second = beginnings(local)[1].run_id
    emit(local, "modelops.test.happened", other=second)  # it is about the run
    turn(local)
    assert [row.depth for row in beginnings(local)] == [0, 1, 2]


def test_two_triggers_hear_the_same_event_each_in_its_own_name(local):
    client = local.client()
    scientist = local.member("data_scientist")
    client.pipelines.create_trigger("a", events=["modelops.test.*"], pipeline="train")
    scientist.pipelines.create_trigger("b", events=["modelops.test.*"], pipeline="train")
    emit(local, "modelops.test.happened")
    turn(local)
    assert {row.owner for row in beginnings(local)} == {client.identity.get_me().id, scientist.identity.get_me().id}


def test_an_event_that_gives_a_job_what_it_cannot_take_holds_nothing_up(local):
    client = local.client()
    client.data.create_dataset("numbers")
    client.data.create_dataset_version("numbers", b"a,b\n1,2\n", format="csv")
    job = JobCreate(recipe="python-function", dataset="numbers", parameters={})
    client.pipelines.create_trigger("t", events=["modelops.test.*"], job=job, mapping={"function": "data.f"})
    for function in ([1, [2]], {"a": {"b": 1}}, "json:dumps"):
        emit(local, "modelops.test.happened", f=function)
    turn(local)
    found = client.pipelines.list_trigger_history("t").items
    assert [one.state for one in found] == ["begun", "failed", "failed"]
    assert client.training.get_job(found[0].job_id).parameters["function"] == "json:dumps"
    assert "take" in found[1].reason


def test_an_event_of_another_project_begins_nothing(local):
    local.client().pipelines.create_trigger("t", events=["modelops.data.*"], pipeline="train", mapping={"day": "id"})
    turn(local)
    before = len(runs(local))
    stranger = local.stranger()
    stranger.data.create_dataset("theirs")
    turn(local)
    assert len(runs(local)) == before


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"condition": "data.x is 3"}, InvalidInput, "cannot be read"),
        ({"condition": 'subjekt = "a"'}, InvalidInput, "no field 'subjekt'"),
        ({"condition": 'data = "a"'}, InvalidInput, "no field 'data'"),
        ({"mapping": {"nothing": "data.x"}}, InvalidInput, "no parameter 'nothing'"),
        ({"mapping": {"day": "body.x"}}, ValueError, "mapping"),
        ({"events": None}, ValueError, "either"),
        ({"hook": True}, ValueError, "either"),
        ({"pipeline": "none"}, NotFound, "no pipeline"),
        ({"pipeline": None}, InvalidInput, "Either a pipeline or a job"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(local, changes, error, said):
    arguments = {"events": ["modelops.test.*"], "pipeline": "train", **changes}
    with pytest.raises(error, match=said):
        local.client().pipelines.create_trigger("t", **arguments)


def test_triggers_are_changed_by_those_who_may(local):
    client = local.client()
    client.pipelines.create_trigger("t", events=["a.*"], pipeline="train", condition='type = "a.b"')
    with pytest.raises(AlreadyExists):
        client.pipelines.create_trigger("t", events=["a.*"], pipeline="train")
    changed = client.pipelines.update_trigger("t", condition=None, events=["b.*"], limit=RateLimit(most=1, per_s=1))
    assert (changed.condition, changed.events, changed.limit.most, changed.revision) == (None, ["b.*"], 1, 2)
    with pytest.raises(PermissionDenied):
        local.member("viewer").pipelines.delete_trigger("t")
    client.pipelines.delete_trigger("t")
    assert client.pipelines.list_triggers().items == []


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from("abc"), values, max_size=3),
    st.lists(st.sampled_from("abc01"), min_size=1, max_size=3),
)
def test_any_field_of_any_event_is_reached_or_missing(data, path):
    found = given_by({"p": "data." + ".".join(path)}, {"data": data})
    walked, there = data, True
    for part in path:
        if isinstance(walked, dict) and part in walked:
            walked = walked[part]
        elif isinstance(walked, list) and part in "01" and int(part) < len(walked):
            walked = walked[int(part)]
        else:
            there = False
            break
    assert ("p" in found) is there
    if there:
        assert found["p"] == walked


@given(
    values,
    st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "~"]),
    st.sampled_from(['"a"', "1", "2.5", "true", "null"]),
)
def test_a_condition_never_fails_whatever_the_event_holds(value, operator, written):
    held = fits(f"data.x {operator} {written}", {"data": {"x": value}})
    assert isinstance(held, bool)
    if operator in ("=", "!="):
        other = fits(f"data.x {'!=' if operator == '=' else '='} {written}", {"data": {"x": value}})
        assert held is not other


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "a\0b", "\ud800", {"a": ["\0"]}, {"\0": 1}])
def test_what_could_not_be_kept_is_refused(value):
    with pytest.raises(InvalidInput):
        check_content(value)


def test_nesting_is_bounded():
    deep = []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(InvalidInput, match="nested"):
        check_content(deep)


def _events(platform):
    from modelops.kernel import outbox

    with platform.place.work(write=False) as ctx:
        return outbox.stream(ctx.session, actor(platform).project_id, 0, 500)


def test_waiting_things_of_a_paused_trigger_are_skipped(local, clock):
    client = local.client()
    client.pipelines.create_trigger("t", events=["modelops.test.*"], pipeline="train", debounce_s=60)
    emit(local, "modelops.test.happened")
    turn(local)
    client.pipelines.update_trigger("t", paused=True)
    clock.advance(timedelta(minutes=5).total_seconds())
    turn(local)
    assert states(local) == ["skipped"]

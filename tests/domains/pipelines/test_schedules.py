"""Schedules on both databases, by a clock that is moved: what begins, once each, and what is told of the rest."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.domains.pipelines.scheduling import (
    START,
    SetClock,
    beginnings,
    end_runs,
    open_runs,
    register,
    runs,
    states,
)

from modelops.contracts.errors import AlreadyExists, InvalidInput, NotFound, PermissionDenied
from modelops.domains.pipelines.schedules.cron import NoCron
from modelops.domains.pipelines.schedules.when import NoTime, Times, read_when, read_zone
from modelops.domains.training.schemas import JobCreate
from modelops.testing.platform import running_platform


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture(params=["sqlite", "postgres"])
def timed(request, tmp_path, clock):
    given = {"database": request.getfixturevalue("postgres_database")} if request.param == "postgres" else {}
    with running_platform(tmp_path / "home", clock=clock, **given) as platform:
        register(platform)
        yield platform


@pytest.fixture
def local(tmp_path, clock):
    with running_platform(tmp_path / "home", clock=clock) as platform:
        register(platform)
        yield platform


def moments(platform, **where):
    return [
        row.moment for row in beginnings(platform) if all(getattr(row, key) == value for key, value in where.items())
    ]


def test_each_due_moment_begins_one_run_with_its_parameters(timed, clock):
    client = timed.client()
    made = client.pipelines.create_schedule(
        "often", "every 10m", pipeline="train", parameters={"size": 7}, moment_parameter="day", overlap="allow",
        zone="Europe/Berlin",
    )  # fmt: skip
    assert (made.state, made.next_at) == ("active", START + timedelta(minutes=10))
    timed.controller.turn()
    assert runs(timed) == []
    for _ in range(3):
        clock.advance(minutes=10)
        for _ in range(3):
            timed.controller.turn()
    days = ["2025-06-02T14:10:00+02:00", "2025-06-02T14:20:00+02:00", "2025-06-02T14:30:00+02:00"]
    assert runs(timed) == [("schedule:often", {"day": day, "size": 7}) for day in days]
    history = client.pipelines.list_schedule_history("often").items
    assert [one.state for one in history] == ["begun"] * 3
    assert {one.run_id for one in history} == set(open_runs(timed))
    assert history[0].moment == START + timedelta(minutes=30)


def test_a_run_is_of_the_newest_version_unless_one_is_named(local, clock):
    client = local.client()
    client.pipelines.create_schedule("newest", "every 1h", pipeline="train", overlap="allow")
    client.pipelines.create_schedule("first", "every 1h", pipeline="train", version=1, overlap="allow")
    register(local, description="another")
    clock.advance(hours=1)
    local.controller.turn()
    with local.place.work(write=False) as ctx:
        from sqlalchemy import select

        from modelops.domains.pipelines.tables import PipelineRunRow

        found = dict(ctx.session.execute(select(PipelineRunRow.cause, PipelineRunRow.version)).all())
    assert found == {"schedule:newest": 2, "schedule:first": 1}


@pytest.mark.parametrize(
    ("policy", "begun", "missed"), [("none", [], 24), ("latest", [24], 23), ("all", [21, 22, 23, 24], 20)]
)
def test_after_a_day_of_absence_the_policy_decides(timed, clock, policy, begun, missed):
    client = timed.client()
    client.pipelines.create_schedule(
        "hourly", "0 * * * *", pipeline="train", catch_up=policy, catch_up_most=4, overlap="allow"
    )
    clock.advance(days=1, minutes=5)
    timed.controller.turn()
    assert moments(timed, state="begun") == [START + timedelta(hours=hour) for hour in begun]
    (gone,) = [row for row in beginnings(timed) if row.state == "missed"]
    assert gone.missed == missed
    assert str(missed) in gone.reason
    clock.advance(minutes=55)
    timed.controller.turn()
    assert moments(timed, state="begun")[-1] == START + timedelta(hours=25)


def test_a_moment_that_is_noticed_within_the_grace_is_not_missed(local, clock):
    local.client().pipelines.create_schedule("s", "0 * * * *", pipeline="train", catch_up="none")
    clock.advance(hours=1, seconds=59)
    local.controller.turn()
    assert states(local) == ["begun"]


def test_what_is_under_way_lets_moments_be_skipped(timed, clock):
    client = timed.client()
    client.pipelines.create_schedule("s", "every 1h", pipeline="train")
    for _ in range(2):
        clock.advance(hours=1)
        timed.controller.turn()
    (running,) = open_runs(timed)
    skipped = client.pipelines.list_schedule_history("s").items[0]
    assert (skipped.state, skipped.reason) == ("skipped", f"{running} was under way.")
    end_runs(timed)
    clock.advance(hours=1)
    timed.controller.turn()
    assert states(timed) == ["begun", "skipped", "begun"]


def test_one_waits_for_its_turn_and_no_more(timed, clock):
    timed.client().pipelines.create_schedule("s", "every 1h", pipeline="train", overlap="queue")
    for _ in range(3):
        clock.advance(hours=1)
        timed.controller.turn()
    assert states(timed) == ["begun", "waiting", "skipped"]
    assert "waits for its turn" in beginnings(timed)[2].reason
    end_runs(timed)
    timed.controller.turn()
    timed.controller.turn()
    assert states(timed) == ["begun", "begun", "skipped"]
    assert len(open_runs(timed)) == 1


def test_the_newest_takes_over_from_what_runs(timed, clock):
    timed.client().pipelines.create_schedule("s", "every 1h", pipeline="train", overlap="cancel_running")
    for _ in range(3):
        clock.advance(hours=1)
        timed.controller.turn()
    assert states(timed) == ["begun", "skipped", "waiting"]
    with timed.place.work(write=False) as ctx:
        from modelops.domains.pipelines.tables import PipelineRunRow

        assert ctx.session.get(PipelineRunRow, open_runs(timed)[0]).state == "canceling"
    end_runs(timed)
    timed.controller.turn()
    assert states(timed) == ["begun", "skipped", "begun"]


def test_jitter_delays_but_never_loses(local, clock):
    local.client().pipelines.create_schedule("s", "every 1h", pipeline="train", jitter_s=600, overlap="allow")
    clock.advance(hours=1)
    local.controller.turn()
    (row,) = beginnings(local)
    assert (row.state, row.moment) == ("waiting", START + timedelta(hours=1))
    assert timedelta() < row.begins_at - row.moment <= timedelta(minutes=10)
    clock.advance(minutes=10)
    local.controller.turn()
    assert states(local) == ["begun"]


def test_a_paused_schedule_begins_nothing_and_does_not_make_up_for_it(local, clock):
    client = local.client()
    client.pipelines.create_schedule("s", "every 1h", pipeline="train", overlap="allow", catch_up="all")
    paused = client.pipelines.update_schedule("s", paused=True)
    assert (paused.state, paused.next_at) == ("paused", None)
    clock.advance(hours=5)
    local.controller.turn()
    client.pipelines.update_schedule("s", paused=False)
    clock.advance(hours=1)
    local.controller.turn()
    assert moments(local) == [START + timedelta(hours=6)]


def test_a_change_of_something_else_loses_no_moment(local, clock):
    client = local.client()
    client.pipelines.create_schedule("s", "every 1h", pipeline="train")
    clock.advance(hours=1, seconds=1)
    client.pipelines.update_schedule("s", description="nothing changed")
    local.controller.turn()
    assert states(local) == ["begun"]


def test_start_and_end_are_minded_and_an_ended_schedule_says_so(local, clock):
    client = local.client()
    begin, end = START + timedelta(hours=2, minutes=30), START + timedelta(hours=4, minutes=30)
    made = client.pipelines.create_schedule(
        "s", "every 1h", pipeline="train", starts_at=begin, ends_at=end, overlap="allow", catch_up="all"
    )
    assert made.next_at == begin
    clock.advance(hours=9)
    local.controller.turn()
    assert moments(local) == [begin, begin + timedelta(hours=1), end]
    assert client.pipelines.get_schedule("s").state == "ended"


def test_a_single_moment_begins_once(local, clock):
    client = local.client()
    client.pipelines.create_schedule("once", "at 2025-06-02T15:00", pipeline="train", zone="Europe/Berlin")
    clock.advance(hours=3)
    local.controller.turn()
    local.controller.turn()
    assert moments(local, state="begun") == [START + timedelta(hours=1)]
    assert client.pipelines.get_schedule("once").state == "ended"
    assert client.pipelines.update_schedule("once", description="It is over.").state == "ended"


def test_a_clock_that_jumps_ahead_and_back_doubles_and_loses_nothing(timed, clock):
    timed.client().pipelines.create_schedule("s", "0 * * * *", pipeline="train", overlap="allow")
    clock.advance(hours=1)
    timed.controller.turn()
    clock.set_by(days=30)
    timed.controller.turn()
    assert [row.state for row in beginnings(timed)] == ["begun", "missed", "begun"]
    clock.set_by(days=-30)
    timed.controller.turn()
    assert [row.state for row in beginnings(timed)] == ["begun", "begun"]
    for _ in range(3):
        clock.advance(hours=1)
        timed.controller.turn()
    clock.set_by(hours=-2)
    for _ in range(3):
        clock.advance(hours=1)
        timed.controller.turn()
    found = [moment for moment in moments(timed, state="begun") if moment < START + timedelta(days=2)]
    assert found == [START + timedelta(hours=hour) for hour in range(1, 6)]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.sampled_from(["0 * * * *", "30 2 * * *", "*/20 1-3 * * *", "every 37m", "0 9 * * 1-5", "15 14 29,L 2,3 *"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    absences=st.lists(st.integers(1, 20 * 3600), min_size=1, max_size=8),
)
def test_what_begins_is_what_is_due_however_long_nobody_looks(tmp_path_factory, text, zone, absences):
    clock = SetClock(datetime(2025, 3, 28, 20, 17, 3, tzinfo=UTC))
    with running_platform(tmp_path_factory.mktemp("platform"), clock=clock) as platform:
        register(platform)
        made = platform.client().pipelines.create_schedule(
            "s", text, zone=zone, pipeline="train", overlap="allow", catch_up="all", catch_up_most=1_000
        )
        for absence in absences:
            clock.advance(absence)
            platform.controller.turn()
        times = Times(read_when(text), read_zone(zone), made.created_at.replace(microsecond=0))
        due, complete = times.newest(made.created_at, clock.now(), 100_000)
        assert complete
        assert moments(platform, state="begun") == due
        assert len(runs(platform)) == len(due)


def test_what_cannot_begin_is_told_and_begins_nothing(timed, clock):
    client = timed.client()
    client.pipelines.create_schedule("s", "every 1h", pipeline="train", parameters={"size": 5})
    register(timed, parameters={"other": {"type": "string"}})
    clock.advance(hours=1)
    timed.controller.turn()
    (row,) = client.pipelines.list_schedule_history("s").items
    assert row.state == "failed"
    assert "no parameter 'size'" in row.reason or "size" in row.reason
    assert runs(timed) == []


def test_it_begins_with_the_rights_of_whoever_made_it_and_has_them_still(local, clock):
    scientist = local.member("data_scientist")
    me = scientist.identity.get_me()
    scientist.pipelines.create_schedule("s", "every 1h", pipeline="train", overlap="allow")
    clock.advance(hours=1)
    local.controller.turn()
    with local.place.work(write=False) as ctx:
        from modelops.domains.pipelines.tables import PipelineRunRow

        run = ctx.session.get(PipelineRunRow, open_runs(local)[0])
        assert run.created_by == me.id
        assert "models.read" in run.permissions
        assert "models.promote" not in run.permissions
    local.client().identity.set_member("default", me.name, "viewer")
    clock.advance(hours=1)
    local.controller.turn()
    local.client().identity.update_service_account(me.name, disabled=True)
    clock.advance(hours=1)
    local.controller.turn()
    assert states(local) == ["begun", "failed", "failed"]
    assert "pipelines.write" in beginnings(local)[1].reason
    assert "disabled" in beginnings(local)[2].reason


def test_a_training_job_begins_by_the_clock_too(local, clock):
    client = local.client()
    client.data.create_dataset("numbers")
    client.data.create_dataset_version("numbers", b"a,b\n1,2\n", format="csv")
    job = JobCreate(recipe="python-function", dataset="numbers", parameters={"function": "json:dumps"})
    client.pipelines.create_schedule("jobs", "every 1h", job=job)
    client.pipelines.create_schedule("runs", "every 1h", pipeline="train")
    assert [one.name for one in client.pipelines.list_scheduled_jobs().items] == ["jobs"]
    clock.advance(hours=1)
    local.controller.turn()
    (begun,) = client.pipelines.list_schedule_history("jobs").items
    assert client.training.get_job(begun.job_id).recipe == "python-function"
    clock.advance(hours=1)
    local.controller.turn()
    assert client.pipelines.list_schedule_history("jobs").items[0].state == "skipped"


def test_a_schedule_is_begun_by_hand_in_its_owners_name(local):
    client = local.client()
    client.pipelines.create_schedule("s", "@yearly", pipeline="train")
    begun = client.pipelines.run_schedule("s")
    assert (begun.state, begun.cause, begun.run_id) == ("begun", "schedule:s", open_runs(local)[0])
    assert client.pipelines.run_schedule("s").state == "skipped"
    assert local.member("data_scientist").pipelines.run_schedule("s").state == "skipped"


def test_the_next_times_are_shown_as_the_zone_shows_them(local):
    client = local.client()
    client.pipelines.create_schedule("s", "30 2 * * *", zone="Europe/Berlin", pipeline="train")
    shown = client.pipelines.list_next_times("s", count=2)
    assert [one.local for one in shown.times] == ["2025-06-03 02:30:00+02:00", "2025-06-04 02:30:00+02:00"]
    assert shown.times[0].at == datetime(2025, 6, 3, 0, 30, tzinfo=UTC)
    assert client.pipelines.preview_times("30 2 * * *", zone="Europe/Berlin", count=2) == shown
    assert client.pipelines.preview_times("at 2020-01-01").times == []


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"when": "61 * * * *"}, NoCron, "minute '61'"),
        ({"when": "every now and then"}, NoTime, "no interval"),
        ({"zone": "Mars/Olympus"}, NoTime, "no time zone"),
        ({"when": "at 2020-01-01T00:00"}, InvalidInput, "no time that is to come"),
        ({"pipeline": "none"}, NotFound, "no pipeline 'none'"),
        ({"version": 9}, NotFound, "no version 9"),
        ({"parameters": {"sise": 1}}, InvalidInput, "sise"),
        ({"moment_parameter": "nothing"}, InvalidInput, "nothing"),
        ({"starts_at": START + timedelta(2), "ends_at": START + timedelta(1)}, InvalidInput, "ends before"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(local, changes, error, said):
    arguments = {"name": "s", "when": "@daily", "pipeline": "train", **changes}
    with pytest.raises(error, match=said):
        local.client().pipelines.create_schedule(**arguments)
    assert local.client().pipelines.list_schedules().items == []
    assert runs(local) == []


def test_a_name_is_taken_once_and_others_may_not_touch_it(local):
    client = local.client()
    client.pipelines.create_schedule("s", "@daily", pipeline="train")
    with pytest.raises(AlreadyExists):
        client.pipelines.create_schedule("s", "@daily", pipeline="train")
    viewer = local.member("viewer")
    assert viewer.pipelines.get_schedule("s").name == "s"
    with pytest.raises(PermissionDenied):
        viewer.pipelines.update_schedule("s", paused=True)
    client.pipelines.delete_schedule("s")
    with pytest.raises(NotFound):
        client.pipelines.get_schedule("s")

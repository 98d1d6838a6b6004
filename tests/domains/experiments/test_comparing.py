"""Comparing, grouping and choosing runs through the client, on both databases."""

import math
import random
from datetime import UTC, datetime, timedelta

import pytest

from modelops.contracts.errors import AlreadyExists, InvalidInput, NotFound, PermissionDenied
from modelops.domains.experiments.schemas import MetricPoint

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def point(key, value, step=0, second=None):
    return MetricPoint(
        key=key, value=value, step=step, timestamp=BEGAN + timedelta(seconds=step if second is None else second)
    )


def make(experiments, name, parameters=None, tags=None, status="finished", experiment="trials", **metrics):
    run = experiments.create_run(experiment, name=name, parameters=parameters or {}, tags=tags or {})
    experiments.log_batch(run.id, metrics=[point(key, value) for key, value in metrics.items()])
    return experiments.update_run(run.id, status=status).id


def with_folds(experiments, name, scores, tags=None, key="fold_accuracy"):
    run = experiments.create_run("trials", name=name, tags={"folds": "kfold 5 seed 7"} if tags is None else tags)
    points = [point(key, score, fold) for fold, score in enumerate(scores)]
    experiments.log_batch(run.id, metrics=[*points, point("accuracy", sum(scores) / len(scores), 99)])
    return run.id


@pytest.fixture
def three(experiments):
    """Three runs: quick, good, and neither."""
    return [
        make(experiments, "quick", {"lr": 0.1, "depth": 2, "seed": 1}, {"git.commit": "a"}, accuracy=0.8, latency_ms=5),
        make(experiments, "good", {"lr": 0.1, "depth": 9, "seed": 1}, {"git.commit": "b"}, accuracy=0.9, latency_ms=30),
        make(experiments, "poor", {"lr": 0.2, "seed": 1}, {"git.commit": "b"}, accuracy=0.7, latency_ms=31),
    ]


def test_only_what_differs_is_told(experiments, three):
    found = experiments.compare(*three)
    quick, good, poor = three
    assert [run.id for run in found.runs] == three
    assert {one.key: one.values for one in found.parameters} == {
        "depth": {quick: 2, good: 9},
        "lr": {quick: 0.1, good: 0.1, poor: 0.2},
    }
    assert [one.key for one in found.metrics] == ["accuracy", "latency_ms"]
    assert {one.key: one.values for one in found.code} == {"git.commit": {quick: "a", good: "b", poor: "b"}}
    assert (found.tags, found.data, found.files) == ([], [], [])
    assert (found.alike.parameters, found.alike.metrics, found.alike.code) == (1, 0, 0)
    assert (found.importance, found.pareto, found.significance) == (None, None, None)


def test_files_of_runs_differ_by_their_digests(platform, experiments, three):
    data = platform.client().data
    for run, content in zip(three, (b"one", b"two", b"two"), strict=True):
        experiments.link_run_artifact(run, "same.txt", data.upload_artifact(b"same").digest)
        experiments.link_run_artifact(run, "other.txt", data.upload_artifact(content).digest)
    found = experiments.compare(*three)
    assert [one.key for one in found.files] == ["other.txt"]
    assert len(set(found.files[0].values.values())) == 2
    assert found.alike.files == 1


def test_runs_are_chosen_by_experiment_filter_and_objective(experiments, three):
    found = experiments.compare(experiment="trials", filter="metrics.accuracy > 0.75", objective=["accuracy:max"])
    assert [run.name for run in found.runs] == ["good", "quick"]
    found = experiments.compare(experiment="trials", objective=["latency_ms:min"], limit=1)
    assert ([run.name for run in found.runs], found.total) == (["quick"], 3)
    assert experiments.compare(experiment="trials", order_by="name").runs[0].name == "good"


def test_nothing_is_compared_with_nothing(experiments):
    found = experiments.compare(experiment="trials", objective=["accuracy:max", "loss:min"])
    assert (found.runs, found.parameters, found.pareto.front) == ([], [], [])
    assert found.significance.baseline is None


def test_the_pareto_front_is_what_nothing_beats(experiments, three):
    quick, good, poor = three
    broken = make(experiments, "broken", accuracy=math.nan, latency_ms=1)
    found = experiments.compare(*three, broken, objective=["accuracy:max", "latency_ms:min"])
    assert found.pareto.front == [quick, good]
    assert found.pareto.dominated == [poor]
    assert found.pareto.left_out == [broken]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"objective": ["loss:min", "loss:max"]}, "once"),
        ({"objective": [":min"]}, "names no metric"),
        ({"baseline": "run_0", "objective": ["accuracy:max"]}, "none of the runs"),
        ({"experiment": "trials"}, "not both"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused(experiments, three, asked, said):
    with pytest.raises(InvalidInput, match=said):
        experiments.compare(*three, **asked)


def test_a_run_that_is_not_there_is_missed(experiments, three):
    with pytest.raises(NotFound):
        experiments.compare(*three, "run_" + "0" * 32)
    with pytest.raises(NotFound):
        experiments.compare(experiment="nowhere")


def test_runs_on_the_same_folds_are_tested_in_pairs(experiments):
    base = with_folds(experiments, "base", [0.90, 0.91, 0.89, 0.90, 0.92, 0.9])
    worse = with_folds(experiments, "worse", [0.80, 0.82, 0.78, 0.77, 0.84, 0.795])
    alike = with_folds(experiments, "alike", [0.91, 0.90, 0.88, 0.91, 0.91, 0.9])
    elsewhere = with_folds(experiments, "elsewhere", [0.1] * 6, {"folds": "another split"})
    fewer = with_folds(experiments, "fewer", [0.1] * 5)
    none = make(experiments, "none", accuracy=0.5)
    found = experiments.compare(base, worse, alike, elsewhere, fewer, none, objective=["accuracy:max"]).significance
    tests = {one.run_id: one for one in found.tests}
    assert found.baseline == base
    assert "2 of 5 share" in found.message
    assert tests[worse].adjusted < 0.01 < 0.3 < tests[alike].p_value
    assert tests[worse].difference == pytest.approx(-0.1025)
    assert tests[worse].lower < tests[worse].difference < tests[worse].upper < 0
    assert tests[worse].wilcoxon_p_value == pytest.approx(2 / 2**6)
    assert "its tag `folds` is another" in tests[elsewhere].message
    assert "not those of the baseline" in tests[fewer].message
    assert "no tag `folds`" in tests[none].message
    assert tests[none].p_value is None
    against = experiments.compare(worse, base, baseline=worse, objective=["accuracy:max"]).significance
    assert against.tests[0].difference == pytest.approx(0.1025)


def test_without_folds_it_is_told_how_to_have_them(experiments, three):
    found = experiments.compare(*three, objective=["accuracy:max"]).significance
    assert found.tests == []
    assert "`folds`" in found.message
    assert "fold_accuracy" in found.message


def test_the_metric_itself_may_hold_the_folds(experiments):
    runs = [
        with_folds(experiments, name, scores, key="score")
        for name, scores in (("a", [1.0, 2.0, 4.0]), ("b", [1.1, 2.3, 4.1]))
    ]
    found = experiments.compare(*runs, objective=["score:max"]).significance
    assert found.tests[0].folds == 3


def test_a_broken_fold_is_no_number(experiments):
    runs = [with_folds(experiments, "a", [1.0, 2, 3]), with_folds(experiments, "b", [1.0, math.nan, 3])]
    found = experiments.compare(*runs, baseline=runs[0], objective=["accuracy:max"]).significance
    assert found.tests[0].message == "A fold has no number."


def test_what_mattered_is_ranked(experiments):
    for n in range(12):
        make(experiments, f"t{n}", {"lr": n / 10, "seed": (n * 7) % 5}, accuracy=0.5 + n / 100)
    found = experiments.compare(experiment="trials", objective=["accuracy:max"]).importance
    assert found.parameters[0].parameter == "lr"
    assert found.parameters[0].importance == pytest.approx(1)
    assert "of 12 runs" not in found.message
    some = experiments.compare(experiment="trials", objective=["accuracy:max"], limit=9).importance
    assert "These are 9 of 12 runs" in some.message


def test_deleted_runs_are_not_meant(experiments, three):
    experiments.delete_run(three[1])
    assert len(experiments.compare(experiment="trials").runs) == 2
    assert experiments.group_runs("parameters.lr", experiment="trials").runs == 2
    assert experiments.get_best_run("accuracy").run.id == three[0]


def test_runs_are_grouped_and_summarised(experiments, three):
    make(experiments, "other", {"lr": "0.1"}, {"team": "x"}, accuracy=math.nan)
    found = experiments.group_runs("parameters.lr", metric=["accuracy:max"], experiment="trials")
    assert [(group.value, group.runs) for group in found.items] == [("0.1", 3), ("0.2", 1)]
    best = found.items[0].metrics[0]
    assert (best.count, best.minimum, best.maximum, best.best_run) == (2, 0.8, 0.9, three[1])
    assert best.mean == pytest.approx(0.85)
    assert best.deviation == pytest.approx(0.1 / 2**0.5)
    by_tag = experiments.group_runs("tags.team", experiment="trials", limit=1)
    assert ([(g.value, g.runs) for g in by_tag.items], by_tag.groups, by_tag.runs) == ([(None, 3)], 2, 4)
    filtered = experiments.group_runs("parameters.lr", filter='tags.`git.commit` = "b"')
    assert [(group.value, group.runs) for group in filtered.items] == [("0.1", 1), ("0.2", 1)]
    assert experiments.group_runs("parameters.lr", run=three[:1]).runs == 1


@pytest.mark.parametrize("by", [None, "status", "parameters"])
def test_only_parameters_and_tags_group(experiments, by):
    with pytest.raises(InvalidInput, match="grouped by"):
        experiments.group_runs(by)


def test_the_best_run_keeps_the_constraints(experiments, three):
    quick, good, poor = three
    assert experiments.get_best_run("accuracy").run.id == good
    best = experiments.get_best_run("accuracy", constraint=["latency_ms <= 20"], experiment="trials")
    assert (best.run.id, best.value, best.candidates) == (quick, 0.8, 1)
    assert experiments.get_best_run("latency_ms", direction="min", filter="metrics.accuracy > 0.85").run.id == good
    assert experiments.get_best_run("accuracy", direction="min").run.id == poor
    make(experiments, "failed", status="failed", accuracy=0.99)
    make(experiments, "broken", accuracy=math.nan)
    assert experiments.get_best_run("accuracy").run.id == good
    assert experiments.get_best_run("accuracy", any_status=True).value == 0.99


def test_no_best_run_is_told(experiments, three):
    with pytest.raises(NotFound, match="keeps what is asked for"):
        experiments.get_best_run("accuracy", constraint=["latency_ms < 1"])
    with pytest.raises(NotFound):
        experiments.get_best_run("nothing")
    with pytest.raises(InvalidInput, match="no constraint"):
        experiments.get_best_run("accuracy", constraint=["fast"])


def test_a_stranger_compares_nothing_of_ours(platform, experiments, three):
    stranger = platform.stranger().experiments
    with pytest.raises(NotFound):
        stranger.compare(*three)
    assert stranger.compare().runs == []
    assert stranger.group_runs("parameters.lr").runs == 0
    with pytest.raises(NotFound):
        stranger.get_metric_buckets(three[0], "accuracy")
    with pytest.raises(NotFound):
        stranger.get_best_run("accuracy")


# --- buckets of a metric's history


def check_buckets(found, points, limit):
    """Hold buckets against the points they are made of: {(step, second): value}."""
    assert len(found.buckets) <= limit
    assert found.total == sum(bucket.count for bucket in found.buckets) == len(points)
    by_step = found.axis == "step"
    places = sorted(points, key=lambda one: (one[0], one[1]) if by_step else (one[1], one[0]))
    taken = 0
    for bucket in found.buckets:
        own = [points[place] for place in places[taken : taken + bucket.count]]
        numbers = [value for value in own if not math.isnan(value)]
        taken += bucket.count
        assert bucket.nan_count == len(own) - len(numbers)
        assert (bucket.minimum, bucket.maximum) == (min(numbers, default=None), max(numbers, default=None))
        assert bucket.last == own[-1] or (math.isnan(bucket.last) and math.isnan(own[-1]))
        steps = [step for step, _ in places[taken - bucket.count : taken]]
        assert (bucket.first_step, bucket.last_step) == (min(steps), max(steps))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("buckets", [4, 7, 200])
def test_each_bucket_keeps_its_least_its_greatest_and_its_last(experiments, run, seed, buckets):
    chance = random.Random(seed)
    values = [math.nan, math.inf, -math.inf, 0.0, -1.5, 3.25, 1e300]
    points = {
        (chance.randint(-50, 200), chance.randint(0, 99)): chance.choice(values)
        for _ in range(chance.choice([1, 5, 150]))
    }
    experiments.log_batch(run.id, metrics=[point("m", value, *place) for place, value in points.items()])
    check_buckets(experiments.get_metric_buckets(run.id, "m", buckets=buckets), points, buckets)
    check_buckets(experiments.get_metric_buckets(run.id, "m", buckets=buckets, axis="time"), points, buckets)


def test_a_spike_of_one_step_is_seen(experiments, run):
    steps = [point("loss", 99.0 if step == 4_321 else 1.0, step) for step in range(9_000)]
    experiments.log_batch(run.id, metrics=steps)
    found = experiments.get_metric_buckets(run.id, "loss", buckets=50)
    high = [bucket for bucket in found.buckets if bucket.maximum == 99.0]
    assert len(high) == 1
    assert high[0].first_step <= 4_321 <= high[0].last_step
    assert (high[0].minimum, high[0].last) == (1.0, 1.0)


def test_steps_at_both_ends_of_64_bits_have_buckets(experiments, run):
    ends = {(-(2**63), 0): 1.0, (-(2**63) + 1, 0): 2.0, (0, 0): 3.0, (2**63 - 1, 0): 4.0}
    experiments.log_batch(run.id, metrics=[point("m", value, *place) for place, value in ends.items()])
    for limit in (4, 5, 1_000):
        check_buckets(experiments.get_metric_buckets(run.id, "m", buckets=limit), ends, limit)


def test_a_metric_without_steps_is_told_over_time(experiments, run):
    experiments.log_batch(run.id, metrics=[point("m", float(n), 0, n) for n in range(10)])
    found = experiments.get_metric_buckets(run.id, "m", buckets=5)
    assert (found.axis, found.total) == ("time", 10)
    assert 3 <= len(found.buckets) <= 5


def test_no_points_are_no_buckets(experiments, run):
    found = experiments.get_metric_buckets(run.id, "nothing/../here")
    assert (found.key, found.total, found.buckets) == ("nothing/../here", 0, [])
    with pytest.raises(InvalidInput):
        experiments._get(type(found), f"/runs/{run.id}/metric-buckets/m", buckets=1)


# --- saved views


def test_a_view_is_saved_opened_changed_and_forgotten(experiments, three):
    view = experiments.create_view(
        "fast",
        experiment="trials",
        filter="metrics.latency_ms < 31",
        order_by="metrics.accuracy desc",
        columns=["name"],
    )
    assert experiments.get_view("fast") == experiments.get_view(view.id) == view
    assert [run.name for run in experiments.list_view_runs("fast").items] == ["good", "quick"]
    first = experiments.list_view_runs("fast", limit=1)
    assert [run.name for run in experiments.list_view_runs("fast", cursor=first.next_cursor).items] == ["quick"]
    assert [run.name for run in experiments.compare(view="fast", filter="metrics.accuracy > 0.85").runs] == ["good"]
    changed = experiments.update_view(
        "fast", name="faster", filter="", group_by="tags.`git.commit`", metrics=["accuracy"]
    )
    assert (changed.name, changed.filter, changed.order_by, changed.revision) == ("faster", None, view.order_by, 2)
    assert [group.value for group in experiments.group_runs(view="faster").items] == ["b", "a"]
    experiments.delete_view("faster")
    with pytest.raises(NotFound):
        experiments.get_view("faster")
    assert len(experiments.list_runs().items) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"filter": "bad"},
        {"filter": "nothing = 1"},
        {"order_by": "metrics"},
        {"group_by": "status"},
        {"columns": ["colour"]},
        {"columns": ["metrics"]},
        {"metrics": [":min"]},
    ],
)
def test_a_view_that_could_not_be_opened_is_refused(experiments, fields):
    with pytest.raises(InvalidInput):
        experiments.create_view("bad", **fields)
    assert experiments.list_views().items == []
    experiments.create_view("good")
    with pytest.raises(InvalidInput):
        experiments.update_view("good", **fields)


def test_views_are_ones_own_until_they_are_shared(platform, experiments):
    mine = platform.member("data_scientist").experiments
    theirs = platform.member("data_scientist").experiments
    view = mine.create_view("v", filter='name ~ "mine"')
    with pytest.raises(NotFound):
        theirs.get_view(view.id)
    assert theirs.list_views().items == []
    theirs.create_view("v", filter='name ~ "theirs"')
    mine.update_view("v", shared=True)
    assert theirs.get_view("v").filter == 'name ~ "theirs"'  # one's own comes first
    assert theirs.get_view(view.id).filter == 'name ~ "mine"'
    with pytest.raises(PermissionDenied):
        theirs.update_view(view.id, filter="")
    with pytest.raises(PermissionDenied):
        theirs.delete_view(view.id)
    experiments.update_view(view.id, filter="")  # an administrator may
    assert mine.get_view("v").filter is None


def test_a_name_is_taken_once(platform, experiments):
    experiments.create_view("v", shared=True)
    with pytest.raises(AlreadyExists):
        experiments.create_view("v")
    other = platform.member("data_scientist").experiments
    other.create_view("v")
    with pytest.raises(AlreadyExists):
        other.update_view("v", shared=True)
    with pytest.raises(AlreadyExists):
        other.create_view("v", shared=True)


def test_a_viewer_opens_views_and_saves_none(platform, experiments, three):
    experiments.create_view("v", shared=True)
    viewer = platform.member("viewer").experiments
    assert len(viewer.list_view_runs("v").items) == 3
    with pytest.raises(PermissionDenied):
        viewer.create_view("w")

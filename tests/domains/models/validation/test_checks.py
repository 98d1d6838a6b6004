"""What each check says of models whose faults are known."""

import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from modelops.contracts import plugins
from modelops.contracts.errors import InvalidInput, NotFound
from modelops.domains.models.schemas import Feature, FeatureType, ModelSignature
from modelops.domains.models.validation.behaviour import LatencyCheck, MissingValuesCheck, NoiseCheck
from modelops.domains.models.validation.columns import as_columns, digest_of_columns
from modelops.domains.models.validation.fairness import FairnessCheck
from modelops.domains.models.validation.pipeline import GROUP, ValidationPipeline, make_trial, parse_check
from modelops.domains.models.validation.quality import MetricsCheck, SignificanceCheck, SlicesCheck
from modelops.domains.models.validation.schemas import Task
from modelops.domains.models.validation.trial import Check, Contender, Finding

ROWS = 600
LUCK = np.random.default_rng(7)
COLUMNS = {
    "x": LUCK.normal(size=ROWS),
    "region": LUCK.choice(np.array(["north", "south", "west"], dtype=object), ROWS),
    "age": LUCK.integers(20, 80, ROWS),
}
COLUMNS["y"] = (COLUMNS["x"] > 0).astype(int)


class Predictor:
    def __init__(self, function, chances=None):
        self.function = function
        self.model = function
        self.classes = None if chances is None else [0, 1]
        self.chances = chances
        self.feature_names = None
        self.wants_columns = True

    def predict(self, rows):
        return self.function(rows)

    def predict_proba(self, rows):
        return self.chances(rows)


def contender(function, *, features=("x",), chances=None, required=True):
    kinds = {"region": FeatureType.STRING, "age": FeatureType.INTEGER}
    inputs = [Feature(name=name, type=kinds.get(name, FeatureType.NUMBER), required=required) for name in features]
    return Contender("m", Predictor(function, chances), ModelSignature(inputs=inputs))


def right(rows):
    return (rows["x"] > 0).astype(int)


def trial(candidate, champion=None, columns=COLUMNS, target="y", task=None):
    return make_trial(candidate, champion, columns, target, task)


def noisy(share, seed=1):
    wrong = np.random.default_rng(seed).random(ROWS) < share

    def predict(rows):
        said = right(rows)
        return np.where(wrong[: len(said)], 1 - said, said)

    return contender(predict)


GOOD, BAD = contender(right), noisy(0.2)


def test_metrics_compare_with_the_champion_and_with_minimums():
    assert MetricsCheck().run(trial(GOOD, BAD)).passed
    worse = MetricsCheck().run(trial(BAD, GOOD))
    assert not worse.passed
    assert "1 is the champion's" in worse.reason
    assert worse.figures["champion.accuracy"] == 1.0
    assert MetricsCheck(tolerance=0.5).run(trial(BAD, GOOD)).passed
    assert not MetricsCheck(minimum={"f1_macro": 0.99}).run(trial(BAD)).passed
    assert "no champion" in MetricsCheck().run(trial(BAD)).reason
    with pytest.raises(InvalidInput, match="no figure 'rmse'"):
        MetricsCheck("rmse").run(trial(BAD))


def test_errors_are_compared_the_other_way_round():
    columns = {**COLUMNS, "y": COLUMNS["x"] * 2.5}
    exact, off = contender(lambda rows: rows["x"] * 2.5), contender(lambda rows: rows["x"] * 2.5 + 1)
    assert trial(exact, off, columns).task is Task.REGRESSION
    assert MetricsCheck().run(trial(exact, off, columns)).passed
    assert not MetricsCheck().run(trial(off, exact, columns)).passed
    assert not MetricsCheck(minimum={"mae": 0.5}).run(trial(off, None, columns)).passed
    assert not SignificanceCheck().run(trial(off, exact, columns)).passed
    assert SignificanceCheck(require="better").run(trial(exact, off, columns)).passed


def test_significance_tells_chance_from_difference():
    assert not SignificanceCheck().run(trial(BAD, GOOD)).passed
    assert SignificanceCheck().run(trial(noisy(0.2, 1), noisy(0.2, 2))).passed
    assert SignificanceCheck(require="better").run(trial(GOOD, BAD)).passed
    assert not SignificanceCheck(require="better").run(trial(GOOD, GOOD)).passed
    assert SignificanceCheck().run(trial(GOOD)).passed
    with pytest.raises(InvalidInput):
        SignificanceCheck(require="nicer")


def test_a_slice_that_is_lost_is_found_among_good_ones():
    def bad_in_the_west(rows):
        return np.where(rows["region"] == "west", 1 - right(rows), right(rows))

    lost = contender(bad_in_the_west, features=("x", "region"))
    for champion in (None, GOOD):
        found = SlicesCheck().run(trial(lost, champion))
        assert not found.passed
        assert "region = west" in found.reason
        assert found.figures["gap.region = west"] == pytest.approx(1.0)
    assert SlicesCheck(by="age").run(trial(lost, lost)).passed
    with pytest.raises(InvalidInput, match="no column 'sex'"):
        SlicesCheck(by="sex").run(trial(GOOD))
    assert "No slice" in SlicesCheck(min_rows=10_000).run(trial(GOOD)).reason


def test_slices_of_a_good_model_raise_few_alarms():
    alarms = sum(not SlicesCheck(by=["region", "age"]).run(trial(noisy(0.2, seed))).passed for seed in range(40))
    assert alarms <= 4


def test_what_is_missing_is_a_slice_of_its_own():
    age = COLUMNS["age"].astype(float)
    age[:60] = np.nan
    columns = {**COLUMNS, "age": age}

    def bad_where_missing(rows):
        return np.where(np.arange(len(rows["x"])) < 60, 1 - right(rows), right(rows))

    found = SlicesCheck(by="age").run(trial(contender(bad_where_missing), None, columns))
    assert "age is missing" in found.reason


def test_latency_minds_the_budget_and_the_champion():
    def slow(rows):
        time.sleep(0.003)
        return right(rows)

    quick = LatencyCheck(budget_ms=1_000, rows=20).run(trial(GOOD))
    assert quick.passed
    assert quick.figures["p50_ms"] <= quick.figures["p95_ms"] <= quick.figures["p99_ms"]
    assert not LatencyCheck(budget_ms=1, rows=20).run(trial(contender(slow))).passed
    beside = LatencyCheck(rows=20).run(trial(contender(slow), GOOD))
    assert not beside.passed
    assert beside.figures["ratio"] > 2


def test_noise_costs_a_model_at_the_edge_and_not_one_far_from_it():
    edge = contender(lambda rows: (rows["x"] > 0).astype(int))
    far = {**COLUMNS, "x": np.where(COLUMNS["y"] == 1, 10.0, -10.0)}
    assert NoiseCheck(scale=0.1).run(trial(edge, None, far)).passed
    assert not NoiseCheck(scale=2.0).run(trial(edge, None, COLUMNS)).passed
    text = contender(lambda rows: np.zeros(len(rows["region"])), features=("region",))
    assert "No feature" in NoiseCheck().run(trial(text)).reason


def test_missing_values_are_tried_only_where_they_may_come():
    assert "required" in MissingValuesCheck().run(trial(GOOD)).reason
    patient = contender(lambda rows: (np.nan_to_num(rows["x"]) > 0).astype(int), required=False)
    assert MissingValuesCheck(share=0.1).run(trial(patient)).passed
    assert not MissingValuesCheck(share=0.9).run(trial(patient)).passed

    def breaks(rows):
        if np.isnan(rows["x"]).any():
            raise ValueError("NaN in the input")
        return right(rows)

    found = MissingValuesCheck().run(trial(contender(breaks, required=False)))
    assert not found.passed
    assert "NaN in the input" in found.reason


def test_fairness_sees_groups_that_are_chosen_more_often():
    by_region = contender(lambda rows: (rows["region"] == "west").astype(int), features=("region",))
    unfair = FairnessCheck("region").run(trial(by_region))
    assert not unfair.passed
    assert unfair.figures["demographic_parity"] == 1.0
    assert unfair.figures["equalized_odds"] == 1.0
    assert unfair.figures["selected.region = west"] == 1.0
    assert FairnessCheck("region", max_difference=0.2).run(trial(GOOD)).passed


def test_equalized_odds_forgive_what_is_true_and_parity_does_not():
    group = np.array(["a", "b"] * (ROWS // 2), dtype=object)
    truth = np.where(group == "a", LUCK.random(ROWS) < 0.8, LUCK.random(ROWS) < 0.2).astype(int)
    columns = {"x": truth - 0.5, "group": group, "y": truth}
    found = FairnessCheck("group", criteria="equalized_odds").run(trial(GOOD, None, columns))
    assert found.passed
    assert found.figures["demographic_parity"] > 0.4
    assert not FairnessCheck("group", criteria="demographic_parity").run(trial(GOOD, None, columns)).passed


def test_fairness_needs_groups_classes_and_a_label():
    with pytest.raises(InvalidInput, match="no column"):
        FairnessCheck("sex").run(trial(GOOD))
    with pytest.raises(InvalidInput, match="No row has the label"):
        FairnessCheck("region", positive="yes").run(trial(GOOD))
    with pytest.raises(InvalidInput, match="for classes"):
        FairnessCheck("region").run(trial(GOOD, task="regression"))
    with pytest.raises(InvalidInput, match="Fewer than two groups"):
        FairnessCheck("region", min_rows=10_000).run(trial(GOOD))
    with pytest.raises(InvalidInput, match="are of"):
        FairnessCheck("region", criteria="nice")


def test_probabilities_are_scored_too():
    def chances(rows):
        high = np.where(rows["x"] > 0, 0.9, 0.1)
        return np.column_stack([1 - high, high])

    figures = MetricsCheck().run(trial(contender(right, chances=chances))).figures
    assert figures["roc_auc"] == 1.0
    assert figures["brier"] == pytest.approx(0.01)


def test_a_check_that_breaks_has_failed_and_the_others_run():
    class Broken:
        name = "broken"

        def run(self, trial):
            raise RuntimeError("oh")

    class Impossible:
        name = "impossible"

        def run(self, trial):
            raise InvalidInput("Not on this data.")

    results = ValidationPipeline([Broken(), Impossible(), MetricsCheck()]).run(trial(GOOD))
    assert [one.passed for one in results] == [False, False, True]
    assert "RuntimeError: oh" in results[0].reason
    assert "Not on this data" in results[1].reason
    assert results[2].parameters == {"metric": None, "tolerance": 0.01, "minimum": {}}


def test_a_check_that_says_what_cannot_be_kept_has_failed():
    class Odd:
        name = "odd"

        def run(self, trial):
            return Finding(True, "fine", {"k" * 300: 1.0})

    class Nul:
        name = "nul"

        def run(self, trial):
            raise RuntimeError("a\x00b")

    results = ValidationPipeline([Odd(), Nul()]).run(trial(GOOD))
    assert [one.passed for one in results] == [False, False]
    assert results[1].reason == "It broke: RuntimeError: ab"
    Odd.name = "Not a name"
    with pytest.raises(InvalidInput, match="cannot name a check"):
        ValidationPipeline([Odd()])
    with pytest.raises(InvalidInput, match="no task 'nope'"):
        trial(GOOD, task="nope")


def test_a_models_failure_is_the_checks_result():
    def broken(rows):
        raise KeyError("x")

    results = ValidationPipeline(["metrics"]).run(trial(contender(broken), task="classification"))
    assert "KeyError" in results[0].reason


def test_checks_come_through_the_plug_in_door():
    assert set(plugins.discover(GROUP)) >= {
        "metrics",
        "significance",
        "slices",
        "latency",
        "noise",
        "missing",
        "fairness",
    }
    assert isinstance(parse_check("metrics"), Check)
    made = parse_check('slices:by=["region","age"],max_gap=0.2')
    assert (made.by, made.max_gap) == (["region", "age"], 0.2)
    assert parse_check('metrics:minimum={"accuracy":0.9,"f1_macro":0.8}').minimum == {"accuracy": 0.9, "f1_macro": 0.8}
    assert parse_check("fairness:group=region").group == "region"
    with pytest.raises(NotFound, match="no plug-in 'nope'"):
        parse_check("nope")
    with pytest.raises(InvalidInput, match="cannot be made so"):
        parse_check("metrics:nope=1")
    with pytest.raises(InvalidInput, match="cannot be made so"):
        parse_check("fairness")
    with pytest.raises(InvalidInput, match="KEY=VALUE"):
        parse_check("metrics:nope")


def test_the_truth_must_be_there():
    with pytest.raises(InvalidInput, match="no column 'z'"):
        trial(GOOD, target="z")
    with pytest.raises(InvalidInput, match="2 rows have no truth"):
        trial(GOOD, None, {**COLUMNS, "y": np.array([np.nan, np.nan, *COLUMNS["y"][2:]])})
    with pytest.raises(InvalidInput, match="lacks 1 of the model's features"):
        trial(contender(right, features=("x", "w"))).said  # noqa: B018


def test_tables_of_every_kind_are_the_same_table():
    frame = pd.DataFrame({"a": [1.0, 2.0, np.nan], "b": ["x", None, "z"], "c": [True, False, True]})
    records = [{"a": 1.0, "b": "x", "c": True}, {"a": 2.0, "b": None, "c": False}, {"a": None, "b": "z", "c": True}]
    table = pa.Table.from_pylist(records)
    named = {name: table.column(name).to_pylist() for name in table.column_names}
    found = [as_columns(one) for one in (frame, records, table, named)]
    assert [list(one) for one in found] == [["a", "b", "c"]] * 4
    assert digest_of_columns(found[1]) == digest_of_columns(as_columns(records))
    assert digest_of_columns(found[1]) != digest_of_columns(as_columns(records[:2]))


@pytest.mark.parametrize("data", [[], [[1, 2]], 3, {}, {"a": []}, {"a": [1], "b": [1, 2]}, {"a": [[1]]}, "text"])
def test_what_is_no_table_is_refused(data):
    with pytest.raises(InvalidInput):
        as_columns(data)


def test_a_finding_needs_no_figures():
    assert Finding(True, "fine").figures == {}

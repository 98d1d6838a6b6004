"""Sketches count each row once, whatever the batches, the kinds of column and the values."""

import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.contracts.errors import InvalidInput
from modelops.domains.monitoring.schemas import ColumnSketch, Reference
from modelops.domains.monitoring.sketches import Sketcher, as_columns, build_reference, merge

cells = st.one_of(st.floats(), st.integers(-3, 3).map(float), st.sampled_from([1e308, -1e308, 1e100, -0.0]))
tables = st.lists(st.tuples(cells, cells), min_size=1, max_size=40).map(lambda rows: np.array(rows, dtype=float))
records = st.lists(
    st.fixed_dictionaries({"c": st.sampled_from(["a", "b", "", None, True, 1, 1.5]), "x": st.none() | cells}),
    min_size=1,
    max_size=30,
)


def sketch(reference, *batches):
    sketcher = Sketcher(reference)
    for batch in batches:
        sketcher.add(batch)
    return sketcher.take()[0]


def counted(columns):
    return [(column.name, column.counts, column.missing, column.low, column.high) for column in columns]


@settings(max_examples=80, deadline=None)
@given(reference=tables, live=tables, cuts=st.lists(st.integers(1, 20), max_size=4))
def test_each_row_is_counted_once_whatever_the_batches(reference, live, cuts):
    profile = build_reference(reference)
    pieces = np.split(live, np.minimum(np.cumsum(cuts, dtype=int), len(live)))
    whole = sketch(profile, live)
    assert counted(whole) == counted(sketch(profile, *pieces))
    for column, values in zip(whole, live.T, strict=True):
        assert sum(column.counts) + column.missing == len(live)
        assert column.missing == np.isnan(values).sum()
        assert np.isfinite([column.sum, column.sum_squares]).all()
        assert ColumnSketch.model_validate_json(column.model_dump_json()) == column


@settings(max_examples=60, deadline=None)
@given(reference=tables)
def test_a_sketch_of_the_reference_counts_what_the_reference_does(reference):
    profile = build_reference(reference)
    assert [column.counts for column in sketch(profile, reference)] == [column.counts for column in profile.inputs]
    assert Reference.model_validate_json(profile.model_dump_json()) == profile


@settings(max_examples=40, deadline=None)
@given(reference=records, live=records)
def test_mixed_columns_are_conserved_too(reference, live):
    profile = build_reference([{**row, "c": str(row["c"])} for row in reference])
    names, columns = as_columns(live, ["c", "x"])
    for column in sketch(profile, dict(zip(names, columns, strict=True))):
        assert sum(column.counts) + column.missing == len(live)


@settings(max_examples=40, deadline=None)
@given(reference=tables, parts=st.tuples(tables, tables, tables))
def test_merging_is_associative_and_commutative(reference, parts):
    profile = build_reference(reference)
    a, b, c = (sketch(profile, part) for part in parts)
    together = counted(sketch(profile, *parts))
    for merged in (merge([a, b, c]), merge([merge([a, b]), c]), merge([a, merge([c, b])]), merge([c, a, b])):
        assert counted(merged) == together


def test_sketches_of_different_references_do_not_add_up():
    one, other = build_reference(np.arange(5.0)[:, None]), build_reference(np.arange(9.0)[:, None])
    wide = build_reference(np.zeros((3, 2)))
    for stranger in (other, wide):
        with pytest.raises(InvalidInput, match="different references"):
            merge([sketch(one), sketch(stranger)])


def test_infinite_values_lie_in_the_outer_bins_and_count_in_the_sums_as_the_outer_edges():
    profile = build_reference(np.array([[1.0], [2.0], [3.0]]))
    (column,) = sketch(profile, np.array([[np.inf], [-np.inf], [2.0], [1e200], [np.nan]]))
    assert (column.counts, column.missing) == ([1, 1, 0, 2], 1)
    assert (column.sum, column.low, column.high) == (3.0 + 1.0 + 2.0 + 3.0, 2.0, 2.0)


@pytest.mark.parametrize("value", [-1e308, 1e308, -np.inf, np.inf])
def test_values_too_large_to_square_leave_finite_moments(value):
    profile = build_reference(np.array([[value], [value]])).inputs[0]
    assert profile.count == sum(profile.counts) == 2
    assert np.isfinite([profile.mean or 0.0, profile.std or 0.0]).all()


def test_few_values_have_a_bin_each_and_many_share_quantiles():
    luck = np.random.default_rng(0)
    dice, wide = luck.integers(1, 7, 5000).astype(float), luck.normal(size=5000)
    one, other = build_reference(np.column_stack([dice, wide])).inputs
    assert one.edges == [1, 2, 3, 4, 5, 6]
    assert one.counts == [*np.bincount(dice.astype(int))[1:], 0]
    assert len(other.edges) == 256
    assert max(other.counts) <= 2 * 5000 / 255


def test_what_is_added_is_copied():
    profile, row = build_reference(np.array([[1.0], [2.0]])), np.array([[1.0]])
    sketcher = Sketcher(profile)
    sketcher.add(row)
    row[:] = 2.0
    assert sketcher.take()[0][0].counts == [1, 0, 0]


def test_kinds_of_table_profile_alike():
    frame = pd.DataFrame(
        {
            "yes": [True, False, True, True],
            "n": pd.array([1, 2, None, 4], dtype="Int64"),
            "s": pd.array(["u", None, "v", "u"], dtype="string"),
            "t": pd.to_datetime(["2026-01-01", "2026-01-02", None, "2026-01-04"]),
        }
    )
    arrow = pa.Table.from_pandas(frame)
    profile = build_reference(frame)
    assert build_reference(arrow) == profile
    assert [(c.name, c.kind, c.missing) for c in profile.inputs] == [
        ("yes", "categorical", 0),
        ("n", "numeric", 1),
        ("s", "categorical", 1),
        ("t", "numeric", 1),
    ]
    plain = [{"n": 1.0, "s": "u"}, {"n": 2.0}, {"s": "v"}, {"n": 4.0, "s": "u"}]
    assert build_reference(plain).inputs == [profile.inputs[1], profile.inputs[2]]


def test_a_yes_that_arrives_as_one_is_a_yes():
    profile = build_reference([{"b": True}, {"b": False}, {"b": True}])
    sketcher = Sketcher(profile)
    for rows in ([[1.0]], [[True]], [[1]], np.array([["0"]], dtype=object)):
        sketcher.add(np.asarray(rows))
    assert sketcher.take()[0][0].counts == [3, 1, 0]


def test_what_is_no_number_in_live_data_is_missing():
    profile = build_reference([{"x": 1.0}, {"x": 2.0}])
    (column,) = sketch(profile, np.array([["oops"], [None], [pd.NA], [2]], dtype=object))
    assert (column.counts, column.missing) == ([0, 1, 0], 3)


def test_categories_beyond_the_cap_are_counted_together():
    profile = build_reference([{"c": f"c{n}"} for n in range(300)])
    assert (len(profile.inputs[0].categories), profile.inputs[0].counts[-1]) == (200, 100)


def test_outputs_are_labels_where_they_are_few_whole_numbers():
    rows, luck = np.zeros((40, 1)), np.random.default_rng(0)
    labels, scores = np.arange(40) % 3, luck.random((40, 2))
    assert build_reference(rows, labels).outputs[0].categories == ["0", "1", "2"]
    assert build_reference(rows[:10], luck.random(10)).outputs[0].kind == "numeric"
    profile = build_reference(rows, scores)
    assert [(c.name, c.kind) for c in profile.outputs] == [("prediction_0", "numeric"), ("prediction_1", "numeric")]
    sketcher = Sketcher(profile)
    sketcher.add(rows, scores)
    _, outputs, count = sketcher.take()
    assert [sum(c.counts) + c.missing for c in outputs] == [count, count] == [40, 40]


def test_what_does_not_fit_is_told_and_not_counted():
    profile = build_reference(np.zeros((5, 2)), np.zeros(5))
    sketcher = Sketcher(profile)
    for inputs, outputs in (
        (np.zeros((3, 1)), None),
        (np.zeros(2), None),
        (np.zeros((3, 2)), np.zeros(2)),
        (np.zeros((3, 2)), np.zeros((3, 2))),
        ({"x0": np.zeros(2), "x1": np.zeros(3)}, None),
        ({"x0": np.zeros(2)}, None),
    ):
        with pytest.raises(InvalidInput):
            sketcher.add(inputs, outputs)
    assert sketcher.take()[2] == 0
    with pytest.raises(InvalidInput, match="outputs of shape"):
        build_reference(np.zeros((5, 2)), np.zeros(4))


def test_threads_lose_nothing():
    sketcher = Sketcher(build_reference(np.arange(10.0)[:, None]))
    taken, batch = [], np.arange(7.0)[:, None]
    threads = [
        threading.Thread(target=lambda: [sketcher.add(batch) or taken.append(sketcher.take()) for _ in range(100)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(rows for _, _, rows in taken) == 4 * 100 * 7
    assert sum(merge([inputs for inputs, _, _ in taken])[0].counts) == 4 * 100 * 7


def test_without_numpy_it_says_what_to_install():
    script = "import sys; sys.modules['numpy'] = None; import modelops.domains.monitoring.sketches"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "MissingExtra" in done.stderr
    assert "modelops[sklearn]" in done.stderr

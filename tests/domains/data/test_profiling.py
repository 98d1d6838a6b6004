"""Profiles: what a table holds, whatever the batches in which it passes."""

import math
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.domains.data import profiling
from modelops.domains.data.profiling import TableProfile


def profile(values, kind, *, step=None):
    array = pa.array(values, kind)
    found = TableProfile(pa.schema([("c", kind)]))
    for start in range(0, len(array), step or len(array)):
        found.add(pa.record_batch([array.slice(start, step or len(array))], ["c"]))
    (column,) = found.result()
    return column


numbers = st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True, width=64), min_size=1, max_size=60)


@settings(max_examples=150, deadline=None)
@given(values=numbers, step=st.integers(1, 20))
def test_a_profile_of_any_numbers_does_not_depend_on_the_batches(values, step):
    whole, parts = profile(values, pa.float64()), profile(values, pa.float64(), step=step)
    known = [value for value in values if value is not None and not math.isnan(value)]
    finite = [value for value in known if math.isfinite(value)]
    for found in (whole, parts):
        assert (found.count, found.missing) == (len(values), len(values) - len(known))
        assert found.distinct == len(set(known))
        assert (found.min, found.max) == ((min(known), max(known)) if known else (None, None))
        assert (found.mean is None, found.std is None) == (not finite, len(finite) < 2)
    if finite:
        assert whole.quantiles == parts.quantiles
        scale = max(1e-300, *(abs(value) for value in finite))
        assert whole.mean / scale == pytest.approx(math.fsum(v / scale / len(finite) for v in finite), abs=1e-9)
        assert parts.mean / scale == pytest.approx(whole.mean / scale, abs=1e-9)
    if len(finite) > 1:
        assert parts.std / scale == pytest.approx(whole.std / scale, abs=1e-9)
        assert 0 <= whole.std <= scale * 2


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60))
def test_moments_and_quantiles_are_those_of_numpy(values):
    found = profile(values, pa.float64(), step=7)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-6)
    assert found.std == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    assert found.quantiles == pytest.approx(np.quantile(values, profiling.QUANTILES), abs=1e-6)


def test_whole_numbers_beyond_those_of_a_double_stay_apart():
    values = [2**63 - 1, 2**63 - 2, -(2**63), None]
    found = profile(values, pa.int64())
    assert (found.distinct, found.missing) == (3, 1)
    assert found.mean == pytest.approx((2**63 - 3) / 3)


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.decimal128(9, 2)])
def test_every_kind_of_number_has_moments(kind):
    values = [Decimal(n) for n in (1, 2, 3)] if pa.types.is_decimal(kind) else [1, 2, 3]
    found = profile([*values, None], kind)
    assert (found.mean, found.min, found.max, found.distinct, found.missing) == (2.0, 1.0, 3.0, 3, 1)


def test_a_negative_zero_is_zero():
    assert profile([0.0, -0.0], pa.float64()).distinct == 1


def test_quantiles_of_many_values_come_from_a_uniform_sample():
    values = np.random.default_rng(1).permutation(300_000).astype(float)
    found = profile(values, pa.float64(), step=50_000)
    assert (found.quantiles[0], found.quantiles[-1]) == (0.0, 299_999.0)
    assert found.quantiles[4] == pytest.approx(150_000, rel=0.02)
    assert found.quantiles[3] == pytest.approx(75_000, rel=0.03)
    assert found.distinct is None
    assert found.mean == pytest.approx(149_999.5)


def test_the_samples_of_a_wide_table_stay_small():
    columns = 2_000
    schema = pa.schema([(f"c{n}", pa.float64()) for n in range(columns)])
    wide = TableProfile(schema)
    assert sum(column._size for column in wide._columns) <= profiling.SAMPLES


def test_distinct_texts_are_exact_up_to_the_limit_and_the_frequent_stay_known_beyond():
    few = [f"v{n % 9_999}" for n in range(30_000)]
    assert profile(few, pa.string(), step=4_000).distinct == 9_999
    many = [f"v{n}" if n % 3 else "often" for n in range(90_000)]
    found = profile(many, pa.string(), step=8_000)
    assert found.distinct is None
    assert found.top[0] == ("often", 30_000)
    assert profile(many, pa.string()).top[0] == ("often", 30_000)


def test_long_texts_are_told_apart_and_shown_short():
    found = profile(["x" * 5_000 + "a", "x" * 5_000 + "b", "n\x00l"], pa.string())
    assert found.distinct == 3
    assert [len(value) for value, _ in found.top] == [3, 200, 200]
    assert "\x00" not in found.top[0][0]


@pytest.mark.parametrize(
    ("kind", "values", "distinct"),
    [
        (pa.bool_(), [True, False, None], 2),
        (pa.date32(), [1, 2, 2], 2),
        (pa.timestamp("ns", "UTC"), [1, 2, 2**62], 3),
        (pa.duration("s"), [1, 1, 2], 2),
        (pa.time64("us"), [1, 2, 3], 3),
        (pa.null(), [None, None, None], 0),
        (pa.large_string(), ["a", "b", "a"], 2),
        (pa.binary(), [b"a", b"b", None], None),
        (pa.list_(pa.int64()), [[1], [2], None], None),
        (pa.month_day_nano_interval(), [None, None, None], None),
    ],
)
def test_every_other_kind_has_counts(kind, values, distinct):
    found = profile(values, kind)
    assert (found.count, found.missing, found.distinct) == (3, values.count(None), distinct)
    assert found.mean is None

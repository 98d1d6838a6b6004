"""The tail probabilities, against SciPy's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from modelops.domains.serving.analysis.significance import chi_squared_sf, kolmogorov_sf, normal_sf, student_sf


@given(st.floats(-37, 37))
def test_normal(z):
    assert normal_sf(z) == pytest.approx(stats.norm.sf(z), rel=1e-9, abs=1e-300)


@given(st.floats(-1e4, 1e4), st.floats(0.5, 1e7))
def test_student(t, freedom):
    assert student_sf(t, freedom) == pytest.approx(stats.t.sf(t, freedom), rel=1e-6, abs=1e-12)


@given(st.floats(0, 1e4), st.integers(1, 2_000))
def test_chi_squared(statistic, freedom):
    assert chi_squared_sf(statistic, freedom) == pytest.approx(special.chdtrc(freedom, statistic), rel=1e-6, abs=1e-12)


@given(st.floats(0, 10))
def test_kolmogorov(statistic):
    assert kolmogorov_sf(statistic) == pytest.approx(special.kolmogorov(statistic), rel=1e-9, abs=1e-10)


def test_infinite_statistics():
    assert (student_sf(float("inf"), 3), student_sf(float("-inf"), 3)) == (0.0, 1.0)

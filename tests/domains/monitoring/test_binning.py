"""Counting at and below edges: looked up, sorted or found one by one, the counts are the same."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.domains.monitoring.binning import CELLS, MOST_IN_A_CELL, EdgeCounts

TAME = 1e100
ANY = st.floats(allow_nan=False)
EDGES = st.one_of(
    st.lists(ANY, min_size=1, max_size=40, unique=True),
    st.lists(st.floats(-10, 10), min_size=1, max_size=40, unique=True),
    st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=11, unique=True),
).map(lambda edges: np.array(sorted(edges)))


@settings(max_examples=300, deadline=None)
@given(st.lists(EDGES, min_size=1, max_size=4), st.data())
def test_the_counts_are_those_of_each_value_looked_for_among_the_edges(edges: list, data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 30))
    at_edges = st.sampled_from([float(edge) for each in edges for edge in each])
    value = st.one_of(st.floats(), at_edges, at_edges.map(lambda edge: math.nextafter(edge, math.inf)))
    numbers = np.array([data.draw(st.lists(value, min_size=width, max_size=width)) for _ in edges])
    counts = EdgeCounts(edges, TAME)
    for part in np.array_split(numbers, 2, axis=1):
        counts.add(np.ascontiguousarray(part), whole=not np.isnan(part).any())
    for place, each in enumerate(edges):
        assert counts.upto(place).tolist() == [int((numbers[place] <= edge).sum()) for edge in each]


def test_edges_that_crowd_together_are_sorted_and_others_looked_up() -> None:
    rng = np.random.default_rng(0)
    spread, crowded = np.linspace(0, 1, 256), np.append(np.linspace(0, 1e-9, 255), 1e6)
    numbers = np.stack([rng.random(5_000), rng.random(5_000) * 2e-9])
    counts = EdgeCounts([spread, crowded], TAME)
    counts.add(numbers, whole=True)
    for place, edges in enumerate((spread, crowded)):
        assert counts.upto(place).tolist() == np.searchsorted(np.sort(numbers[place]), edges, side="right").tolist()
    assert MOST_IN_A_CELL < CELLS

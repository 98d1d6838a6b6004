"""The network's parts without a group of processes: how rows are divided, what a missing value counts, what is answered."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelops.contracts.errors import InvalidInput
from modelops.domains.training.recipes.frames import Examples
from modelops.domains.training.recipes.networks import Answering, Lesson, Network
from modelops.domains.training.recipes.torch_classification import recipe


def examples(classes, features=2):
    rows = np.arange(len(classes) * features, dtype=float).reshape(-1, features)
    return Examples(pd.DataFrame(rows, columns=[f"f{n}" for n in range(features)]), pd.Series(classes), 0)


@given(
    counts=st.lists(st.integers(3, 40), min_size=2, max_size=5),
    test=st.floats(0.01, 0.49),
    validation=st.floats(0.01, 0.49),
    seed=st.integers(0, 1_000),
)
def test_each_row_has_one_purpose_and_each_class_has_rows_for_each(counts, test, validation, seed):
    classes = [f"c{number}" for number, count in enumerate(counts) for _ in range(count)]
    lesson = Lesson.of(examples(classes), test, validation, seed)
    parts = (lesson.train, lesson.validation, lesson.test)
    assert sorted(np.concatenate(parts)) == list(range(len(classes)))
    for part in parts:
        assert set(lesson.classes[part]) == set(range(len(counts)))
    again = Lesson.of(examples(classes), test, validation, seed)
    assert all(np.array_equal(a, b) for a, b in zip(parts, (again.train, again.validation, again.test), strict=True))


def test_a_missing_value_counts_as_the_mean_and_a_constant_column_is_no_harm():
    torch.manual_seed(0)
    lesson = Lesson.of(examples([0, 1] * 10), 0.2, 0.1, 0)
    lesson.rows[:, 1] = 7.0
    lesson.rows[lesson.train[0], 0] = np.nan
    network = Network(lesson, [4])
    mean = float(np.nanmean(lesson.rows[lesson.train, 0]))
    missing, known = torch.tensor([[np.nan, 7.0]]), torch.tensor([[mean, 7.0]])
    assert torch.equal(network(missing.float()), network(known.float()))


@pytest.mark.parametrize(("names", "answers"), [([3, 7], {3, 7}), (["no", "yes"], {0, 1})])
def test_whole_numbers_are_answered_as_they_are_and_texts_by_their_places(names, answers):
    torch.manual_seed(1)
    lesson = Lesson.of(examples(names * 10), 0.2, 0.1, 0)
    said = Answering(Network(lesson, []), lesson.names)(torch.randn(200, 2) * 1000)
    assert set(said.tolist()) == answers


def test_a_column_of_texts_is_refused():
    class Job:
        parameters = recipe.Parameters(target="t", model="m")

        def table(self):
            return pa.table({"x": ["a", "b"] * 5, "t": [0, 1] * 5})

    with pytest.raises(InvalidInput, match="'x' holds texts"):
        recipe.run(Job())

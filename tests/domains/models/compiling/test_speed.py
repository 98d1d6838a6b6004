"""Measuring gives a figure for each size of batch."""

import numpy as np

from modelops.domains.models.compiling.speed import BATCHES, measure


def test_each_batch_is_timed_with_as_many_rows_as_it_says():
    seen = set()

    def ask(batch):
        seen.add(batch.shape)

    found = measure(ask, ask, np.zeros((3, 2)))
    assert [one.rows for one in found] == list(BATCHES)
    assert seen == {(size, 2) for size in BATCHES}
    assert all(one.plain_us > 0 and one.compiled_us > 0 for one in found)

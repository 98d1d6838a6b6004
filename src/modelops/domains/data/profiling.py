"""Profiles of tables, in one pass over record batches and in constant memory.

Missing are nulls, and NaN among floats. Moments are exact, merged batch by batch in extended precision as Chan, Golub and
LeVeque describe ("Algorithms for computing the sample variance", 1983). Quantiles interpolate linearly; they are exact
up to `SAMPLE` values of a column (fewer in a table of more than 40 columns, so that all samples together stay within
`SAMPLES`), and of a uniform sample of as many values beyond: each value draws a random key, and the smallest keys stay.
Infinite values count, and show in `min` and `max`; moments and quantiles are of the finite ones.

Distinct values are counted exactly up to `DISTINCT`. The frequent values of a column with more than that are found among
those kept from batch to batch, so their counts are lower bounds.
"""

import hashlib
import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelops.domains.data.schemas import ColumnProfile

SAMPLE = 100_000
SAMPLES = 4_000_000
DISTINCT = 10_000
TOP = 10
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
_KEPT = 1_000
_LONG = 200


class TableProfile:
    """The profile of a table whose batches pass by."""

    def __init__(self, schema: pa.Schema) -> None:
        self.rows = 0
        sample = max(1_000, min(SAMPLE, SAMPLES // max(1, len(schema))))
        self._columns = [_profile_of(field, sample) for field in schema]

    def add(self, batch: pa.RecordBatch) -> None:
        """Take a batch in."""
        self.rows += batch.num_rows
        for profile, column in zip(self._columns, batch.columns, strict=True):
            profile.add(column)

    def result(self) -> list[ColumnProfile]:
        """Return the profile of what passed."""
        return [profile.result() for profile in self._columns]


class _Column:
    """What every column has. Alone, it profiles nested values and bytes: only what is missing is counted."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.missing = 0

    def add(self, column: pa.Array) -> None:
        self.count += len(column)
        self.missing += column.null_count

    def result(self) -> ColumnProfile:
        return self._result()

    def _result(self, **known: Any) -> ColumnProfile:
        nothing = dict.fromkeys(("distinct", "mean", "std", "min", "max", "quantiles", "top"))
        return ColumnProfile(name=self.name, count=self.count, missing=self.missing, **(nothing | known))


class _Numeric(_Column):
    def __init__(self, name: str, sample: int) -> None:
        super().__init__(name)
        self.n = 0
        # Extended precision: squares of doubles overflow a double, and so may their sum.
        self.mean = self.m2 = np.longdouble(0)
        self.low, self.high = math.inf, -math.inf
        self._seen: pa.Array | None = pa.array([])
        self._size = sample
        self._sample = np.empty(0)
        self._keys = np.empty(0)
        self._random = np.random.default_rng(0)

    def add(self, column: pa.Array) -> None:
        values = column.drop_null()
        numbers = _as_numbers(values)
        known = numbers[~np.isnan(numbers)] if numbers.dtype.kind == "f" else numbers
        self.count += len(column)
        self.missing += len(column) - len(known)
        if not len(known):
            return
        self._note_distinct(values if pa.types.is_decimal(values.type) else pa.array(known + known.dtype.type(0)))
        self.low, self.high = min(self.low, float(known.min())), max(self.high, float(known.max()))
        finite = known[np.isfinite(known)]
        if len(finite):
            self._merge(finite.astype(np.longdouble))
            self._keep(finite.astype(np.float64))

    def _note_distinct(self, values: pa.Array) -> None:
        if self._seen is None:
            return
        if pa.types.is_float16(values.type):  # for which not every pyarrow tells values apart
            values = values.cast(pa.float32())
        fresh = values.unique()
        known = pa.concat_arrays([self._seen, fresh]).unique() if len(self._seen) else fresh
        self._seen = known if len(known) <= DISTINCT else None

    def _merge(self, values: Any) -> None:
        n, mean = len(values), values.mean()
        m2 = np.square(values - mean).sum()
        delta, total = mean - self.mean, self.n + n
        self.mean = self.mean + delta * n / total
        self.m2 = self.m2 + m2 + delta * delta * self.n * n / total
        self.n = total

    def _keep(self, values: Any) -> None:
        keys = self._random.random(len(values))
        self._sample = np.concatenate([self._sample, values])
        self._keys = np.concatenate([self._keys, keys])
        if len(self._sample) > self._size:
            kept = np.argpartition(self._keys, self._size)[: self._size]
            self._sample, self._keys = self._sample[kept], self._keys[kept]

    def result(self) -> ColumnProfile:
        extremes = self.low <= self.high
        return self._result(
            distinct=None if self._seen is None else len(self._seen),
            mean=float(self.mean) if self.n else None,
            std=float(np.sqrt(self.m2 / (self.n - 1))) if self.n > 1 else None,
            min=self.low if extremes else None,
            max=self.high if extremes else None,
            quantiles=self._quantiles() if self.n else None,
        )

    def _quantiles(self) -> list[float]:
        found = [float(q) for q in np.quantile(self._sample.astype(np.longdouble), QUANTILES)]
        if math.isfinite(self.low):
            found[0] = self.low
        if math.isfinite(self.high):
            found[-1] = self.high
        return found


class _Categorical(_Column):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._counts: Counter[str] = Counter()
        self._complete = True

    def add(self, column: pa.Array) -> None:
        super().add(column)
        counts = column.drop_null().cast(pa.large_string()).value_counts()
        values, numbers = counts.field(0), counts.field(1)
        if len(values) > DISTINCT:
            self._complete = False
            often = pc.select_k_unstable(numbers, k=_KEPT, sort_keys=[("", "descending")])
            values, numbers = values.take(often), numbers.take(often)
        for value, number in zip(values.to_pylist(), numbers.to_pylist(), strict=True):
            self._counts[_short(value)] += number
        if self._complete and len(self._counts) > DISTINCT:
            self._complete = False
        if not self._complete and len(self._counts) > 2 * _KEPT:
            self._counts = Counter(dict(self._counts.most_common(_KEPT)))

    def result(self) -> ColumnProfile:
        top = sorted(self._counts.items(), key=lambda entry: (-entry[1], entry[0]))[:TOP]
        return self._result(
            distinct=len(self._counts) if self._complete else None,
            top=[(_shown(value), number) for value, number in top],
        )


def _as_numbers(values: pa.Array) -> Any:
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.float64(), safe=False)
    return values.to_numpy(zero_copy_only=False)


def _short(value: str) -> str:
    """Return a key that stands for a value and is not as long as a long one."""
    if len(value) <= _LONG:
        return value
    return f"{value[:_LONG]}\x00{hashlib.sha256(value.encode()).hexdigest()}"


def _shown(key: str) -> str:
    return key[:_LONG].replace("\x00", "\ufffd")  # PostgreSQL's JSON cannot hold NUL


def _profile_of(field: pa.Field, sample: int) -> _Column:
    kind, types = field.type, pa.types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return _Numeric(field.name, sample)
    texts = types.is_string(kind) or types.is_large_string(kind)
    if texts or types.is_boolean(kind) or types.is_null(kind) or (types.is_temporal(kind) and not _is_interval(kind)):
        return _Categorical(field.name)
    return _Column(field.name)


def _is_interval(kind: pa.DataType) -> bool:
    return bool(pa.types.is_interval(kind))

"""Drift detection in one's own program: `DriftDetector` and `detect_drift`, on any table and without a platform."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from modelops.contracts.errors import InvalidInput, MonitoringError
from modelops.contracts.schemas import Schema
from modelops.domains.monitoring.drift import compare
from modelops.domains.monitoring.schemas import ColumnDrift
from modelops.domains.monitoring.sketches import Sketcher, as_columns, build_reference


class DriftResult(Schema):
    """What a comparison found. `columns` are those that drifted first, then by magnitude."""

    rows: int
    reference_rows: int
    drifted: bool
    drifted_columns: list[str]
    columns: list[ColumnDrift]

    def summary(self) -> str:
        """Return the finding in one line."""
        named = ", ".join(self.drifted_columns)
        said = f"{len(self.drifted_columns)} of {len(self.columns)} columns drifted: {named}" if named else "no drift"
        return f"{self.rows} rows against {self.reference_rows}: {said}"

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON types."""
        return self.model_dump(mode="json")

    def __str__(self) -> str:
        width = max(len("column"), *(len(column.name) for column in self.columns))
        head = f"       {'column':<{width}}  effect    shift  missing        p  test"
        return "\n".join([self.summary(), head, *(_line(column, width) for column in self.columns)])


class DriftDetector:
    """Compares data with a reference, at once or window by window. Not thread-safe.

    Data drift needs rows alone; prediction drift is looked for where `predictions` are given. For concept drift, give each
    row's loss, such as the absolute error, in their place as soon as the truth is known.

    Args:
        reference_data: What the data should look like, shape (rows, features): array, frame, Arrow table or records.
        detection_window: Rows, or the time, that `update` gathers before it compares.
        alert_threshold: The chance that a comparison names any column where none moved, 0 to 1.
        minimum_effect: Columns that moved less are not named; see `modelops.domains.monitoring.drift.magnitude`.
        feature_names: The names of an array's columns.
        predictions: What was predicted on the reference data, shape (rows,) or (rows, outputs).

    Raises:
        InvalidInput: the reference has no rows, or an argument lies outside of its range.
    """

    def __init__(
        self,
        reference_data: Any,
        detection_window: int | timedelta = 1_000,
        alert_threshold: float = 0.01,
        *,
        minimum_effect: float = 0.1,
        feature_names: Sequence[str] | None = None,
        predictions: Any = None,
    ) -> None:
        if not 0 < alert_threshold < 1 or minimum_effect < 0:
            raise InvalidInput("`alert_threshold` lies between 0 and 1, and `minimum_effect` is not negative.")
        length = detection_window.total_seconds() if isinstance(detection_window, timedelta) else detection_window
        if length <= 0:
            raise InvalidInput("`detection_window` is a positive number of rows or a positive time.")
        self.reference = build_reference(reference_data, predictions, input_names=feature_names)
        self.detection_window = detection_window
        self.alert_threshold = alert_threshold
        self.minimum_effect = minimum_effect
        self._names = [column.name for column in self.reference.inputs]
        self._window = Sketcher(self.reference)
        self._waiting = 0
        self._began: datetime | None = None

    def detect_drift(self, current_data: Any, predictions: Any = None) -> DriftResult:
        """Compare a table, and what was predicted on it, with the reference.

        Raises:
            MonitoringError: it has no rows.
            InvalidInput: it does not have the reference's columns, or `predictions` does not fit it.
        """
        sketcher = Sketcher(self.reference)
        self._add(sketcher, current_data, predictions)
        return self._judge(sketcher)

    def update(self, batch: Any, predictions: Any = None, *, at: datetime | None = None) -> DriftResult | None:
        """Add rows to the window; when it ends, return the comparison and begin the next one.

        A window of rows ends with the batch that fills it, and holds that batch whole. A window of time ends with the first
        batch that comes after it, which is the first of the next window.

        Args:
            batch: Rows, as `detect_drift` takes them.
            predictions: What was predicted on them.
            at: When they were seen; now, where it is not said. A time without a zone is in UTC.

        Raises:
            InvalidInput: as `detect_drift`; nothing was added.
        """
        if isinstance(self.detection_window, timedelta):
            return self._update_timed(batch, predictions, at, self.detection_window)
        self._waiting += self._add(self._window, batch, predictions)
        return self._end_window() if self._waiting >= self.detection_window else None

    def _update_timed(self, batch: Any, predictions: Any, at: datetime | None, window: timedelta) -> DriftResult | None:
        moment = at or datetime.now(UTC)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        following = Sketcher(self.reference)
        ended = self._began is not None and moment - self._began >= window
        rows = self._add(following if ended else self._window, batch, predictions)
        result = self._end_window() if ended else None
        if ended:
            self._window = following
        if rows:
            self._began = self._began or moment
            self._waiting += rows
        return result

    def _end_window(self) -> DriftResult:
        self._waiting, self._began = 0, None
        return self._judge(self._window)

    def _add(self, sketcher: Sketcher, data: Any, predictions: Any) -> int:
        if predictions is not None and not self.reference.outputs:
            raise InvalidInput(
                "There are no reference predictions to compare with.", hint="Give `predictions` to `DriftDetector` too."
            )
        if isinstance(data, list | tuple) and not data:
            return 0
        names, columns = as_columns(data, self._names)
        sketcher.add(dict(zip(names, columns, strict=True)), predictions)
        return len(columns[0])

    def _judge(self, sketcher: Sketcher) -> DriftResult:
        inputs, outputs, rows = sketcher.take()
        if rows == 0:
            raise MonitoringError("There are no rows to compare.", hint="Give at least one row of current data.")
        pairs = [("input", column, sketch) for column, sketch in zip(self.reference.inputs, inputs, strict=True)]
        pairs += [
            ("output", column, sketch)
            for column, sketch in zip(self.reference.outputs, outputs, strict=True)
            if sum(sketch.counts) + sketch.missing
        ]
        columns = compare(pairs, false_alarm_rate=self.alert_threshold, minimum_effect=self.minimum_effect)
        named = [column.name for column in columns if column.drifted]
        return DriftResult(
            rows=rows,
            reference_rows=self.reference.rows,
            drifted=bool(named),
            drifted_columns=named,
            columns=columns,
        )


def detect_drift(
    reference_data: Any, current_data: Any, *, alert_threshold: float = 0.01, minimum_effect: float = 0.1
) -> DriftResult:
    """Compare two tables. Takes and raises what `DriftDetector` does."""
    detector = DriftDetector(reference_data, alert_threshold=alert_threshold, minimum_effect=minimum_effect)
    return detector.detect_drift(current_data)


def _line(column: ColumnDrift, width: int) -> str:
    mark = "DRIFT" if column.drifted else ""
    shift = "-" if column.shift is None else f"{column.shift:.2f} sd"
    return (
        f"{mark:<5}  {column.name:<{width}}  {column.effect:6.3f}  {shift:>7}  {column.missing_current:6.1%}"
        f"  {column.adjusted_p_value:8.2g}  {column.test}"
    )

"""Drift detection in one's own program: `DriftDetector` and `detect_drift`, on any table and without a platform."""

from collections.abc import Sequence
from typing import Any

from modelops.contracts.schemas import Schema
from modelops.domains.monitoring.drift import compare
from modelops.domains.monitoring.schemas import ColumnDrift
from modelops.domains.monitoring.sketches import Sketcher, as_columns, build_reference


class DriftResult(Schema):
    """What a comparison found. `columns` are in order of effect, those that drifted first."""

    rows: int
    reference_rows: int
    drifted: bool
    drifted_columns: list[str]
    columns: list[ColumnDrift]

    def __str__(self) -> str:
        lines = [f"{self.rows} rows against {self.reference_rows}: " + (", ".join(self.drifted_columns) or "no drift")]
        width = max(len(column.name) for column in self.columns)
        for column in self.columns:
            shift = "" if column.shift is None else f"  shift {column.shift:.2f} sd"
            mark = "DRIFT" if column.drifted else "     "
            lines.append(
                f"{mark}  {column.name:<{width}}  effect {column.effect:.3f}  p {column.adjusted_p_value:.2g}{shift}"
            )
        return "\n".join(lines)


class DriftDetector:
    """Compares data with a reference, at once or window by window. Not thread-safe.

    Args:
        reference_data: What the data should look like, shape (rows, features): array, frame, Arrow table or records.
        detection_window: Rows that `update` gathers before it compares.
        alert_threshold: The chance that a comparison names any column where none moved.
        minimum_effect: Columns that moved less (KS distance or total variation) are not named.
        feature_names: The names of an array's columns.
    """

    def __init__(
        self,
        reference_data: Any,
        detection_window: int = 1_000,
        alert_threshold: float = 0.01,
        *,
        minimum_effect: float = 0.1,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        self.reference = build_reference(reference_data, input_names=feature_names)
        self.detection_window = detection_window
        self.alert_threshold = alert_threshold
        self.minimum_effect = minimum_effect
        self._names = [column.name for column in self.reference.inputs]
        self._window = Sketcher(self.reference)
        self._waiting = 0

    def detect_drift(self, current_data: Any) -> DriftResult:
        """Compare a table with the reference.

        Raises:
            MonitoringError: it has no rows.
            InvalidInput: it does not have the reference's columns.
        """
        sketcher = Sketcher(self.reference)
        sketcher.add(self._rows(current_data))
        return self._judge(sketcher)

    def update(self, batch: Any) -> DriftResult | None:
        """Add rows to the window; once it is full, return the comparison and begin the next one."""
        rows = self._rows(batch)
        self._window.add(rows)
        self._waiting += len(rows)
        if self._waiting < self.detection_window:
            return None
        self._waiting = 0
        return self._judge(self._window)

    def _rows(self, data: Any) -> Any:
        import numpy as np

        _, columns = as_columns(data, self._names)
        table = np.column_stack(columns) if columns else np.empty((0, len(self._names)))
        return table if table.dtype.kind in "fiuO" else table.astype(object)

    def _judge(self, sketcher: Sketcher) -> DriftResult:
        sketches, _, rows = sketcher.take()
        pairs = [
            ("input", reference, sketch) for reference, sketch in zip(self.reference.inputs, sketches, strict=True)
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

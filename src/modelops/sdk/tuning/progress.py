"""What a person sees while a study runs: a bar, the best so far, and the latest trials."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from modelops.domains.tuning.rules import is_better
from modelops.domains.tuning.schemas import Study, TrialState
from modelops.sdk.tuning.trial import Trial

_SHOWN = 8


class _View:
    def __init__(self, study: Study) -> None:
        self.study = study
        self.best = study.best_value
        self.latest: deque[tuple[str, ...]] = deque(maxlen=_SHOWN)
        self.lock = threading.Lock()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[best]}"),
        )
        ended = study.trials.complete + study.trials.pruned + study.trials.failed
        self.task = self.bar.add_task(study.name, total=study.max_trials, completed=ended, best=self._told())

    def add(self, trial: Trial, state: TrialState, values: Sequence[float] | None) -> None:
        with self.lock:
            value = values[0] if values is not None and len(values) == 1 else None
            if value is not None and is_better(value, self.best, self.study.objectives[0].direction):
                self.best = value
            reached = ", ".join(f"{value:.6g}" for value in values or ())
            shown = ", ".join(f"{name}={_short(value)}" for name, value in trial.params.items())
            self.latest.append((str(trial.number), str(state), reached, shown))
            self.bar.update(self.task, advance=1, best=self._told())

    def _told(self) -> str:
        return "" if self.best is None else f"best {self.study.objectives[0].metric}: {self.best:.6g}"

    def __rich__(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for head in ("trial", "state", "values", "parameters"):
            table.add_column(head, overflow="ellipsis", no_wrap=True)
        for row in list(self.latest):
            table.add_row(*row)
        return Group(table, self.bar)


@contextmanager
def shown(study: Study, *, enabled: bool, console: Console | None = None) -> Iterator[Any]:
    """Show a study's progress for the length of the block, and yield what is told of each trial; None where it is not shown."""
    if not enabled:
        yield None
        return
    view = _View(study)
    with Live(view, console=console or Console(stderr=True), refresh_per_second=8):
        yield view.add


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

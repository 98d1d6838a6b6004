"""A pipeline as the terminal draws it: a row a step, lanes for what leads where, signs and colours for states."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from io import StringIO

from rich.console import Console
from rich.text import Text

from modelops.domains.pipelines.document import PipelineDocument
from modelops.domains.pipelines.drawing.diagrams import condition_text, to_dot, to_mermaid
from modelops.domains.pipelines.drawing.lanes import Row, rows_of
from modelops.domains.pipelines.drawing.states import SIGNS, UNKNOWN, Seen, seen_steps, together
from modelops.domains.pipelines.schemas import StepRun, StepState

__all__ = ["Drawing", "takes_boxes", "to_dot", "to_mermaid"]

_NAMED = 3
_WIDEST_LANES = 48
_NAME = 40
_ASCII = str.maketrans("│├┤╰╯╮┬─◂▸○◌▶↻✓≈✗–■●×…·⋮", "|||++++-<>.,>~?=x-#o*.-:")


class Drawing:
    """Draws a document, again and again as its run goes on: what does not change is worked out once.

    Args:
        document: A document without cycles.
    """

    def __init__(self, document: PipelineDocument) -> None:
        self._document = document
        self._rows = rows_of(document.steps)
        self._lanes = min(_WIDEST_LANES, max(len(row.before) + bool(row.steps) + len(row.after) for row in self._rows))
        names = [len(_title(row, document, {})) for row in self._rows if row.steps]
        self._names = min(_NAME, max(names) + 4)

    def draw(self, runs: Iterable[StepRun] = (), *, now: datetime | None = None, height: int | None = None) -> Text:
        """Return the picture.

        Args:
            runs: The steps of a run, members of fan-outs too; without them, the document alone is drawn.
            now: For how long steps that are under way have been so.
            height: How many lines there may be; where that is too few, those are left out at which nothing happens.
        """
        seen = seen_steps(runs)
        rows = self._rows if height is None else self._shortened(seen, height)
        lines = [
            Text(f"  ⋮ {row} more steps", style="dim") if isinstance(row, int) else self._line(row, seen, now)
            for row in rows
        ]
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)

    def text(self, runs: Iterable[StepRun] = (), *, now: datetime | None = None, only_ascii: bool = False) -> str:
        """Return the picture without colours, for files and for terminals that know no box characters."""
        drawn = "\n".join(line.rstrip() for line in self.draw(runs, now=now).plain.split("\n")) + "\n"
        return drawn.translate(_ASCII).encode("ascii", "replace").decode() if only_ascii else drawn

    def ansi(self, runs: Iterable[StepRun] = (), *, now: datetime | None = None) -> str:
        """Return the picture with the colours of a terminal."""
        sink = StringIO()
        Console(file=sink, force_terminal=True, width=10_000, color_system="standard").print(self.draw(runs, now=now))
        return sink.getvalue()

    def _line(self, row: Row, seen: Mapping[str, Seen], now: datetime | None) -> Text:
        if not row.steps:
            return Text(row.before, style="dim")
        known = (
            together(seen[name] for name in row.steps if name in seen) if len(row.steps) > 1 else seen.get(row.steps[0])
        )
        state = known.state if known is not None else StepState.WAITING if seen else None
        sign, style = UNKNOWN if state is None else SIGNS[state]
        line = Text(row.before, style="dim", no_wrap=True, overflow="ellipsis", end="")
        line.append(sign, style=f"not dim {style}".strip())
        line.append(row.after.ljust(self._lanes - len(row.before) - 1) + " ", style="dim")
        title = _title(row, self._document, seen)
        line.append(title.ljust(self._names), style="not dim" if state is not StepState.SKIPPED else "")
        facts = "".join(letter if letter.isprintable() else "?" for letter in _facts(row, self._document, known, now))
        line.append(facts, style="not dim red" if state is StepState.FAILED else "")
        return line

    def _shortened(self, seen: Mapping[str, Seen], height: int) -> list[Row | int]:
        """Return the rows that tell most, and in the place of others how many steps they are."""
        if len(self._rows) <= height:
            return list(self._rows)
        weight = {
            at: min((_weight(seen.get(name)) for name in row.steps), default=9) for at, row in enumerate(self._rows)
        }
        near = {
            at: min(weight[other] for other in (at - 1, at, at + 1) if other in weight) + (weight[at] > 2)
            for at in weight
        }
        kept = set(sorted(weight, key=lambda at: (min(weight[at], near[at]), at))[: max(1, height * 2 // 3)])
        found: list[Row | int] = []
        for at, row in enumerate(self._rows):
            if at in kept:
                found.append(row)
            elif row.steps:
                if found and isinstance(found[-1], int):
                    found[-1] += len(row.steps)
                else:
                    found.append(len(row.steps))
        return found if len(found) <= height else _cut(found, height)


def takes_boxes(encoding: str | None) -> bool:
    """Tell whether a stream of this encoding can be written the signs and lines of a picture."""
    try:
        return bool("│●✓▶".encode(encoding or "ascii"))
    except (UnicodeEncodeError, LookupError):
        return False


def _cut(rows: list[Row | int], height: int) -> list[Row | int]:
    left = rows[height - 1 :]
    return [*rows[: height - 1], sum(row if isinstance(row, int) else len(row.steps) for row in left)]


def _weight(seen: Seen | None) -> int:
    """Return how little a step tells: 0 of one that failed or is under way."""
    if seen is None or seen.state is None:
        return 3
    if seen.open or seen.state is StepState.FAILED:
        return 0
    return 2 if seen.state is StepState.WAITING else 1 if seen.state is StepState.CANCELED else 4


def _title(row: Row, document: PipelineDocument, seen: Mapping[str, Seen]) -> str:
    if len(row.steps) > 1:
        shown = ", ".join(row.steps[:_NAMED])
        title = f"{shown}, …" if len(row.steps) > _NAMED else shown
        title = title if len(title) <= _NAME - 8 else f"{row.steps[0]}, …"
        return f"{title} ({len(row.steps)})"
    name = row.steps[0]
    known = seen.get(name)
    shown = name if len(name) <= _NAME - 8 else f"{name[: _NAME - 9]}…"
    if document.steps[name].foreach is None:
        return shown
    return f"{shown} ×{known.total}" if known is not None and known.members else f"{shown} ×"


def _facts(row: Row, document: PipelineDocument, seen: Seen | None, now: datetime | None) -> str:
    if seen is None or not seen.total:
        return _said_of(row, document)
    facts = []
    if len(row.steps) > 1 or seen.members:
        facts.append(f"{seen.done}/{len(row.steps) if len(row.steps) > 1 else seen.total}")
        facts += [
            f"{SIGNS[state][0]} {seen.states[state]}"
            for state in (StepState.FAILED, StepState.RUNNING, StepState.RETRYING, StepState.SKIPPED, StepState.CACHED)
            if seen.states[state]
        ]
    elif seen.state is not None and seen.state not in (StepState.SUCCEEDED, StepState.WAITING):
        facts.append(str(seen.state))
    seconds = seen.seconds(now)
    if seconds is not None:
        facts.append(duration(seconds))
    if seen.attempt > 1:
        facts.append(f"attempt {seen.attempt}")
    if seen.cached_from is not None:
        facts.append(f"of {seen.cached_from}")
    if seen.reason and seen.state is not StepState.SUCCEEDED:
        first = seen.reason.partition("\n")[0]
        facts.append(first if len(first) <= 100 else f"{first[:99]}…")
    return " · ".join(facts)


def _said_of(row: Row, document: PipelineDocument) -> str:
    """Return what the document says of a step that stands alone: what kind it is, and when it runs."""
    if len(row.steps) > 1:
        return ""
    spec = document.steps[row.steps[0]]
    facts = [kind for kind in ("job", "approval", "notify") if getattr(spec, kind) is not None]
    condition = condition_text(spec)
    if condition:
        facts.append(f"if {condition if len(condition) <= 60 else f'{condition[:59]}…'}")
    if spec.even_if == "ended":
        facts.append("in any case")
    return " · ".join(facts)


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"

"""Plots of a report, as SVG that needs nothing else: no script, no font, no address.

Every text goes through `escape`. Colours are classes, so that the page decides them for light and dark; whatever colour
tells is told by a mark, a dash or a label as well, and each plot has a title and a description for who cannot see it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from modelops.domains.experiments.analysis_schemas import ImportanceOf, MetricBuckets
from modelops.domains.experiments.scales import Numbers, Scale, write_number, write_value

WIDTH = 720
_LABEL = 22
_INSET = 8
LINES = 6
"""How many lines are told apart by colour and dash."""


@dataclass(frozen=True)
class Axis:
    """A named scale."""

    name: str
    scale: Scale


@dataclass(frozen=True)
class Item:
    """A run in a plot: its name, its values for the axes, and whether it is one of those to look at."""

    name: str
    values: Sequence[Any]
    marked: bool


def parallel_coordinates(axes: Sequence[Axis], items: Sequence[Item], about: str) -> str:
    """Draw each run as a line across an axis for each parameter and metric.

    A few runs have a look of their own, which `legend` explains; of many, marked ones are drawn last, in colour.
    """
    height, top, bottom = 300, 44, 26
    inner = height - top - bottom
    gap = (WIDTH - 120) / max(1, len(axes) - 1)
    places = [60 + n * gap for n in range(len(axes))]
    parts = []
    for n, item in enumerate(items if len(items) <= LINES else sorted(items, key=lambda one: one.marked)):
        look = f"c{n}" if len(items) <= LINES else "mark" if item.marked else "quiet"
        points = [(x, axis.scale.place(value)) for x, axis, value in zip(places, axes, item.values, strict=True)]
        path = broken_line([(x, None if y is None else top + inner * (1 - y)) for x, y in points])
        told = ", ".join(f"{axis.name} {write_value(value)}" for axis, value in zip(axes, item.values, strict=True))
        parts.append(f'<path d="{path}" class="line {look}"><title>{escape(item.name)}: {escape(told)}</title></path>')
    for n, (x, axis) in enumerate(zip(places, axes, strict=True)):
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + inner}" class="axis"/>')
        raised = 14 if n % 2 else 0  # neighbours' names do not run into each other
        parts.append(_write(x, top - 12 - raised, axis.name, "middle", "head", limit=26))
        for place, text in axis.scale.ticks():
            y = top + inner * (1 - place)
            parts.append(f'<line x1="{x - 3:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y:.1f}" class="axis"/>')
            parts.append(_write(x - 6, y + 3.5, text, "end", "tick halo", limit=12))
    return svg(height, "Parallel coordinates", about, parts)


def scatter(across: Axis, upward: Axis, items: Sequence[Item], about: str, *, front: bool = False) -> str:
    """Draw each run as a point; with `front`, marked ones are joined, as a Pareto front is."""
    frame = Frame(300)
    parts = frame.axes(across.scale, upward.scale, across.name, upward.name)
    placed = []
    for item in sorted(items, key=lambda one: one.marked):
        x, y = across.scale.place(item.values[0]), upward.scale.place(item.values[1])
        if x is None or y is None:
            continue
        at = frame.x(x), frame.y(y)
        told = f"{item.name}: {across.name} {write_value(item.values[0])}, {upward.name} {write_value(item.values[1])}"
        shape = f'd="M{at[0]:.1f} {at[1] - 5:.1f}l5 5l-5 5l-5-5z" class="mark point"' if item.marked else None
        mark = f"<path {shape}>" if shape else f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="3.2" class="quiet point">'
        parts.append(f"{mark}<title>{escape(told)}</title></{'path' if shape else 'circle'}>")
        if item.marked:
            placed.append(at)
    if front and len(placed) > 1:
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in sorted(placed))
        parts.append(f'<path d="{path}" class="line mark thin"/>')
    return svg(frame.height, f"{upward.name} over {across.name}", about, parts)


def curves(key: str, found: Sequence[tuple[str, MetricBuckets]], about: str) -> str:
    """Draw a metric of some runs over its steps: the last value of each stretch as a line, its extremes as a band."""
    ends = [end for _, curve in found for bucket in curve.buckets for end in (bucket.minimum, bucket.maximum)]
    finite = [end for end in ends if end is not None and abs(end) != float("inf")]
    if not finite:
        return ""
    by_time = found[0][1].axis == "time"
    begun = min(curve.buckets[0].first_time for _, curve in found)
    spans = [
        [
            (
                ((bucket.first_time - begun).total_seconds() + (bucket.last_time - begun).total_seconds()) / 2
                if by_time
                else bucket.last_step
            )
            for bucket in curve.buckets
        ]
        for _, curve in found
    ]
    across = Numbers([place for span in spans for place in span], zoom=False)
    upward = Numbers(finite)
    frame = Frame(280)
    parts = frame.axes(across, upward, "seconds since the first point" if by_time else "step", key)
    for n, ((name, curve), span) in enumerate(zip(found, spans, strict=True)):
        xs = [frame.x(across.place(place) or 0.0) for place in span]
        band = _band(frame, upward, xs, curve)
        lasts = [upward.place(bucket.last) for bucket in curve.buckets]
        path = broken_line([(x, None if y is None else frame.y(y)) for x, y in zip(xs, lasts, strict=True)])
        parts.append(f'<path d="{band}" class="band c{n}"/>')
        parts.append(f'<path d="{path}" class="line c{n}"><title>{escape(name)}</title></path>')
    return svg(frame.height, f"{key} over its {'time' if by_time else 'steps'}", about, parts)


def legend(names: Sequence[str]) -> str:
    """Return which line is whose."""
    rows = "".join(
        f'<li><svg viewBox="0 0 28 8" width="28" height="8" aria-hidden="true"><path d="M0 4H28" class="line c{n}"/></svg>'
        f"{escape(name)}</li>"
        for n, name in enumerate(names)
    )
    return f'<ul class="legend">{rows}</ul>'


def bars(found: Sequence[ImportanceOf], about: str) -> str:
    """Draw importances with their intervals."""
    height = 34 + _LABEL * len(found)
    left, right = 200, WIDTH - 70
    scale = Numbers([0.0, max(1e-9, *(one.upper for one in found), *(one.importance for one in found))], zoom=False)
    parts = []
    for place, text in scale.ticks():
        x = left + (right - left) * place
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{height - 22}" class="grid"/>')
        parts.append(_write(x, height - 8, text, "middle", "tick"))
    for n, one in enumerate(found):
        y = 8 + _LABEL * n
        end, low, high = (
            left + (right - left) * max(0.0, scale.place(v) or 0.0) for v in (one.importance, one.lower, one.upper)
        )
        middle = y + 8
        told = f"{one.parameter}: {write_number(one.importance)}, 95 % {write_number(one.lower)} to {write_number(one.upper)}"
        parts.append(_write(left - 8, y + 12, one.parameter, "end", "", limit=30))
        parts.append(
            f'<rect x="{left}" y="{y}" width="{max(0.5, end - left):.1f}" height="16" rx="2" class="bar">'
            f"<title>{escape(told)}</title></rect>"
        )
        parts.append(
            f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8" class="whisker"/>'
        )
    return svg(height, "Importance of parameters", about, parts)


class Frame:
    """The inside of a plot with two axes."""

    def __init__(self, height: int) -> None:
        self.height, self.left, self.right, self.top, self.bottom = height, 70, 16, 28, 42

    def x(self, place: float) -> float:
        """Return where a place between 0 and 1 lies across."""
        return self.left + _INSET + (WIDTH - self.left - self.right - 2 * _INSET) * place

    def y(self, place: float) -> float:
        """Return where a place between 0 and 1 lies upward."""
        return self.top + _INSET + (self.height - self.top - self.bottom - 2 * _INSET) * (1 - place)

    def axes(self, across: Scale, upward: Scale, below: str, beside: str) -> list[str]:
        """Draw both axes, with their ticks and names."""
        floor = self.height - self.bottom
        parts = []
        for place, text in upward.ticks():
            y = self.y(place)
            parts.append(f'<line x1="{self.left}" x2="{WIDTH - self.right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
            parts.append(_write(self.left - 6, y + 3.5, text, "end", "tick", limit=10))
        for place, text in across.ticks():
            x = self.x(place)
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}" class="axis"/>')
            parts.append(_write(x, floor + 17, text, "middle", "tick", limit=14))
        parts.append(f'<path d="M{self.left} {self.top}V{floor}H{WIDTH - self.right}" class="axis"/>')
        parts.append(_write((self.left + WIDTH - self.right) / 2, self.height - 6, below, "middle", "head", limit=60))
        parts.append(_write(8, 14, beside, "start", "head", limit=60))
        return parts


def _band(frame: Frame, scale: Numbers, xs: Sequence[float], curve: MetricBuckets) -> str:
    upper, lower = [], []
    for x, bucket in zip(xs, curve.buckets, strict=True):
        high, low = scale.place(bucket.maximum), scale.place(bucket.minimum)
        if high is not None and low is not None:
            upper.append(f"{x:.1f} {frame.y(high):.1f}")
            lower.append(f"{x:.1f} {frame.y(low):.1f}")
    return "M" + "L".join([*upper, *reversed(lower)]) + "Z" if upper else ""


def broken_line(points: Sequence[tuple[float, float | None]]) -> str:
    """Return a path that leaves a gap where there is no value; a value between two gaps is a dot."""
    path, pen = [], False
    for x, y in points:
        if y is None:
            pen = False
        else:
            path.append(f"L{x:.1f} {y:.1f}" if pen else f"M{x:.1f} {y:.1f}h0")
            pen = True
    return "".join(path)


def _write(x: float, y: float, text: str, anchor: str, classes: str, limit: int = 40) -> str:
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    named = f"<title>{escape(text)}</title>" if short != text else ""
    marked = f' class="{classes}"' if classes else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{marked}>{escape(short)}{named}</text>'


def svg(height: int, title: str, about: str, parts: Sequence[str]) -> str:
    """Return a drawing of its parts, which says what it is."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}. {escape(about)}">'
        f"{''.join(parts)}</svg>"
    )

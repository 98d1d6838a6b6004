"""Plots of a study that reports of runs lack: its history, the course of each trial, and a map of two parameters.

As those, they are SVG that needs nothing else; colours are classes that the page decides for light and dark, and whatever a
colour tells is told by a title too.
"""

import itertools
from collections.abc import Sequence
from html import escape
from typing import Any

from modelops.domains.experiments import plots
from modelops.domains.experiments.scales import Categories, Numbers, Scale, scale_of, write_number, write_value

CELLS = 12
STYLE = ".cell{fill:var(--c0)}.best-line{fill:none;stroke:var(--c1);stroke-width:2;stroke-linejoin:round}"
"""What these plots need beside the look of a report."""

Point = tuple[int, float]
"""A trial's number and its value."""


def history(metric: str, points: Sequence[Point], best: Sequence[Point], pruned: Sequence[Point]) -> str:
    """Draw each trial's value over its number, those pruned by what they last reported, and the best so far as a line."""
    values = [value for _, value in (*points, *pruned)]
    if not values:
        return ""
    across = Numbers([0.0, *(number for number, _ in (*points, *pruned))], zoom=False)
    upward = Numbers(values)
    frame = plots.Frame(300)
    parts = frame.axes(across, upward, "trial", metric)

    def at(point: Point) -> tuple[float, float]:
        return frame.x(across.place(point[0]) or 0.0), frame.y(upward.place(point[1]) or 0.0)

    for point in pruned:
        x, y = at(point)
        told = f"Trial {point[0]}: pruned at {write_number(point[1])}"
        parts.append(
            f'<path d="M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6" class="line quiet"><title>{escape(told)}</title></path>'
        )
    for point in points:
        x, y = at(point)
        told = f"Trial {point[0]}: {write_number(point[1])}"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" class="quiet point"><title>{escape(told)}</title></circle>'
        )
    if len(best) > 1:
        path = "".join(f"L{at(point)[0]:.1f} {at((0, previous[1]))[1]:.1f}V{at(point)[1]:.1f}"
                       for previous, point in itertools.pairwise(best))  # fmt: skip
        x, y = at(best[0])
        parts.append(f'<path d="M{x:.1f} {y:.1f}{path}" class="best-line"><title>the best so far</title></path>')
    return plots.svg(frame.height, f"{metric} by trial", "The line is the best so far, a cross a pruned trial.", parts)


def courses(metric: str, found: Sequence[tuple[int, dict[int, float], bool]]) -> str:
    """Draw what trials reported over their steps; `found` holds each one's number, values by step, and whether it is marked."""
    finite = [
        value for _, values, _ in found for value in values.values() if abs(value) != float("inf") and value == value
    ]
    if not finite:
        return ""
    across = Numbers([float(step) for _, values, _ in found for step in values], zoom=False)
    upward = Numbers(finite)
    frame = plots.Frame(280)
    parts = frame.axes(across, upward, "step", metric)
    for number, values, marked in sorted(found, key=lambda one: one[2]):
        points = [(frame.x(across.place(step) or 0.0), upward.place(value)) for step, value in sorted(values.items())]
        path = plots.broken_line([(x, None if y is None else frame.y(y)) for x, y in points])
        look = "mark" if marked else "quiet"
        parts.append(f'<path d="{path}" class="line {look}"><title>Trial {number}</title></path>')
    return plots.svg(frame.height, f"{metric} over the steps", "A line is a trial.", parts)


def contour(
    across: str, upward: str, metric: str, points: Sequence[tuple[Any, Any, float]], *, lower_is_better: bool
) -> str:
    """Draw a map of two parameters: each cell by the best value of a trial in it, the stronger the better.

    Cells without a trial stay empty, since nothing is known of them.
    """
    below, beside = scale_of([x for x, _, _ in points]), scale_of([y for _, y, _ in points])
    if below is None or beside is None or len(points) < 5:
        return ""
    columns, rows = _cells(below), _cells(beside)
    best: dict[tuple[int, int], float] = {}
    for x, y, value in points:
        places = below.place(x), beside.place(y)
        if places[0] is None or places[1] is None:
            continue
        cell = min(columns - 1, int(places[0] * columns)), min(rows - 1, int(places[1] * rows))
        known = best.get(cell, value)
        best[cell] = min(known, value) if lower_is_better else max(known, value)
    order = sorted(set(best.values()), reverse=lower_is_better)
    frame = plots.Frame(320)
    left, right, top, bottom = frame.x(0), frame.x(1), frame.y(1), frame.y(0)
    width, height = (right - left) / columns, (bottom - top) / rows
    parts = []
    for (column, row), value in sorted(best.items()):
        strength = 0.15 + 0.85 * (order.index(value) + 1) / len(order)
        told = f"best {metric} here: {write_number(value)}"
        parts.append(
            f'<rect x="{left + column * width:.1f}" y="{bottom - (row + 1) * height:.1f}" width="{width:.1f}"'
            f' height="{height:.1f}" class="cell" opacity="{strength:.2f}"><title>{escape(told)}</title></rect>'
        )
    parts += frame.axes(below, beside, across, upward)
    for x, y, value in points:
        places = below.place(x), beside.place(y)
        if places[0] is None or places[1] is None:
            continue
        told = f"{across} {write_value(x)}, {upward} {write_value(y)}: {write_number(value)}"
        parts.append(
            f'<circle cx="{frame.x(places[0]):.1f}" cy="{frame.y(places[1]):.1f}" r="2.2" class="quiet point">'
            f"<title>{escape(told)}</title></circle>"
        )
    return plots.svg(frame.height, f"{metric} over {across} and {upward}", "The stronger a cell, the better.", parts)


def _cells(scale: Scale) -> int:
    return len(scale.texts) if isinstance(scale, Categories) else CELLS

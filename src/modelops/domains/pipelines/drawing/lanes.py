"""A graph as rows of text: a node a row, and to the left of it lanes that lead from each node down to those that need it.

Edges that follow from others are left out. Many nodes that need the same and are needed by the same are drawn as one, or
their lanes would fill the screen. What would have too many lanes still is drawn in layers, each of which needs those above.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelops.domains.pipelines.document import StepSpec
from modelops.domains.pipelines.graph import dependents_of, layers_of

ALIKE = 5
"""From so many steps on that need the same and are needed by the same, they are drawn as one."""

MOST_LANES = 24
MOST_STEPS = 3_000
"""So many steps are drawn with lanes."""

_BOXES = {  # up, down, left, right
    (True, True, False, False): "│",
    (True, True, False, True): "├",
    (True, True, True, False): "┤",
    (True, False, False, True): "╰",
    (True, False, True, False): "╯",
    (False, True, True, False): "╮",
    (False, True, True, True): "┬",
}


@dataclass(frozen=True)
class Row:
    """A row: the lanes before and behind the node's sign, and the steps that the node stands for; none of a connection."""

    before: str
    after: str = ""
    steps: tuple[str, ...] = ()


def rows_of(steps: Mapping[str, StepSpec]) -> list[Row]:
    """Return the rows of a document without cycles."""
    if len(steps) > MOST_STEPS:
        return _layered(steps)
    nodes = _bundled(_reduced(steps))
    rows: list[Row] = []
    lanes: list[int | None] = []
    for node in _ordered(nodes):
        if node in lanes:
            column = lanes.index(node)
        else:
            if rows:  # or it would seem to follow from the row above
                rows.append(Row(" ".join("│" if lane is not None else " " for lane in lanes).rstrip()))
            column = _free(lanes, 0)
        lanes[column] = node
        marks = ["│" if lane is not None else " " for lane in lanes]
        rows.append(Row(" ".join([*marks[:column], ""]), " ".join(["", *marks[column + 1 :]]), nodes[node].steps))
        lanes[column] = None
        joined, opened = [], []
        for other in nodes[node].behind:
            if other in lanes:
                joined.append(lanes.index(other))
            else:
                at = column if lanes[column] is None else _free(lanes, column)
                lanes[at] = other
                opened.append(at)
        for number, at in enumerate(joined):  # a row each, or lines from above would seem to lead aside
            goes_on = bool(opened) or number < len(joined) - 1
            rows.append(Row(_joining(lanes, column, at, goes_on=goes_on)))
        if opened not in ([], [column]):
            rows.append(Row(_opening(lanes, column, opened)))
        while lanes and lanes[-1] is None:
            lanes.pop()
        if len(lanes) > MOST_LANES:
            return _layered(steps)
    return rows


def _layered(steps: Mapping[str, StepSpec]) -> list[Row]:
    rows: list[Row] = []
    for layer in layers_of(steps):
        rows += [Row("│")] if rows else []
        rows.append(Row("", "", tuple(layer)))
    return rows


@dataclass(frozen=True)
class _Node:
    steps: tuple[str, ...]
    behind: Sequence[int]


def _reduced(steps: Mapping[str, StepSpec]) -> dict[str, list[str]]:
    """Return for each step those that need it, without those that need it through another; in an order that can be done."""
    order = [name for layer in layers_of(steps) for name in layer]
    number = {name: at for at, name in enumerate(order)}
    behind = dependents_of(steps)
    reach: dict[str, int] = {}  # a set of numbers, as bits
    reduced: dict[str, list[str]] = {}
    for name in reversed(order):
        covered, kept = 0, []
        for other in sorted(behind[name], key=lambda one: number[one]):
            if not covered >> number[other] & 1:
                kept.append(other)
                covered |= reach[other]
        reach[name] = covered | 1 << number[name]
        reduced[name] = kept
    return {name: reduced[name] for name in order}


def _bundled(behind: Mapping[str, list[str]]) -> list[_Node]:
    """Return nodes, each of one step or of many that are alike."""
    before: dict[str, list[str]] = {name: [] for name in behind}
    for name, others in behind.items():
        for other in others:
            before[other].append(name)
    alike: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for name in behind:
        alike.setdefault((tuple(sorted(before[name])), tuple(sorted(behind[name]))), []).append(name)
    groups: list[tuple[str, ...]] = []
    for names in alike.values():
        groups += [tuple(names)] if len(names) >= ALIKE else [(name,) for name in names]
    node_of = {name: at for at, names in enumerate(groups) for name in names}
    return [_Node(names, list(dict.fromkeys(node_of[one] for one in behind[names[0]]))) for names in groups]


def _ordered(nodes: Sequence[_Node]) -> list[int]:
    """Return the nodes in an order that follows a branch to its end before the next, so that few lanes are open."""
    missing = [0] * len(nodes)
    for node in nodes:
        for other in node.behind:
            missing[other] += 1
    left = [at for at in range(len(nodes) - 1, -1, -1) if not missing[at]]
    order = []
    while left:
        at = left.pop()
        order.append(at)
        for other in reversed(nodes[at].behind):
            missing[other] -= 1
            if not missing[other]:
                left.append(other)
    return order


def _free(lanes: list[int | None], start: int) -> int:
    """Return a lane that leads nowhere, at or to the right of one; a new one where there is none."""
    for at in range(start, len(lanes)):
        if lanes[at] is None:
            return at
    lanes.append(None)
    return len(lanes) - 1


def _joining(lanes: Sequence[int | None], column: int, to: int, *, goes_on: bool) -> str:
    """Return the row that leads from a node to a lane that is there already; with an arrow where it leads on down, too."""
    marks = {column: _BOXES[True, goes_on, to < column, to > column], to: "├" if to < column else "┤"}
    arrow = ("◂" if to < column else "▸") if goes_on else "─"
    return _across(lanes, marks, {to if to < column else to - 1: arrow})


def _opening(lanes: Sequence[int | None], column: int, opened: Sequence[int]) -> str:
    """Return the row that leads from a node to lanes that begin there."""
    last = max(opened)
    marks = {at: _BOXES[False, True, True, at < last] for at in opened if at != column}
    return _across(lanes, {column: _BOXES[True, column in opened, False, True], **marks}, {})


def _across(lanes: Sequence[int | None], marks: Mapping[int, str], gaps: Mapping[int, str]) -> str:
    """Return a row with marks in some lanes and a line between them; other lanes that it crosses lead on."""
    first, last = min(marks), max(marks)
    text = ""
    for at, lane in enumerate(lanes):
        within = first < at < last
        text += marks.get(at) or ("│" if lane is not None else "─" if within else " ")
        text += gaps.get(at, "─") if first <= at < last else " "
    return text.rstrip()

"""The picture of a pipeline: what it looks like, and that its lines lead where the steps do."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from tests.domains.pipelines.documents import document, documents

from modelops.domains.pipelines.document import PipelineDocument
from modelops.domains.pipelines.drawing import Drawing, to_dot, to_mermaid
from modelops.domains.pipelines.drawing.lanes import rows_of
from modelops.domains.pipelines.graph import downstream_of, needs_of
from modelops.domains.pipelines.planning import parse_key
from modelops.domains.pipelines.schemas import StepRun, StepState

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def needing(*steps: str, **spec: Any) -> dict[str, Any]:
    return {"after": list(steps), **spec}


def seen(key: str, state: StepState, seconds: float | None = None, **facts: Any) -> StepRun:
    step, index = parse_key(key)
    known: dict[str, Any] = dict.fromkeys(StepRun.model_fields)
    known |= {"id": key, "run_id": "r", "key": key, "step": step, "index": index, "state": state, "attempt": 1}
    known |= {"outputs": {}, "started_at": None if seconds is None else BEGAN}
    if seconds is not None and state.final:
        known["ended_at"] = BEGAN + timedelta(seconds=seconds)
    return StepRun.model_validate(known | facts)


NIGHTLY = document(
    {
        "load": {},
        "left": needing("load"),
        "right": needing("load"),
        "fit": needing("left", "right", foreach={"value": [1, 2, 3]}),
        "ship": {
            "approval": {"message": "x"},
            "when": {"left": {"step": "fit"}, "operator": ">", "right": {"value": 0.9}},
        },
        "tidy": needing("ship", "load", even_if="ended"),
        "alone": {},
    }
)


def test_the_document_alone() -> None:
    assert Drawing(NIGHTLY).text() == (
        "●   load\n"
        "├─╮\n"
        "● │ left\n"
        "│ ● right\n"
        "├─╯\n"
        "●   fit ×\n"
        "●   ship     approval · if fit > 0.9\n"
        "●   tidy     in any case\n"
        "\n"
        "●   alone\n"
    )
    assert Drawing(NIGHTLY).text(only_ascii=True).isascii()


def test_a_run_under_way() -> None:
    runs = [
        seen("load", StepState.CACHED, 0.02, cached_from="run_1"),
        seen("left", StepState.SUCCEEDED, 75),
        seen("right", StepState.SUCCEEDED, 4000, attempt=2),
        seen("fit", StepState.RUNNING, 9),
        seen("fit[0]", StepState.SUCCEEDED, 1),
        seen("fit[1]", StepState.FAILED, 2.5, reason="ValueError: no rows\nmore"),
        seen("fit[2]", StepState.RUNNING, 0),
        seen("ship", StepState.WAITING),
    ]
    assert Drawing(NIGHTLY).text(runs, now=BEGAN + timedelta(seconds=3)) == (
        "≈   load     cached · 20 ms · of run_1\n"
        "├─╮\n"
        "✓ │ left     1 min 15 s\n"
        "│ ✓ right    1 h 6 min · attempt 2\n"
        "├─╯\n"
        "✗   fit ×3   2/3 · ✗ 1 · ▶ 1 · 3.0 s · fit[1]: ValueError: no rows\n"
        "○   ship\n"
        "○   tidy     in any case\n"
        "\n"
        "○   alone\n"
    )
    assert "\x1b[" in Drawing(NIGHTLY).ansi(runs)


def test_what_a_step_says_cannot_steer_the_terminal() -> None:
    runs = [seen("load", StepState.FAILED, 1, reason="\x1b[2Jgone \x9b")]
    assert "?[2Jgone ?" in Drawing(NIGHTLY).text(runs)
    assert "\x1b[2J" not in Drawing(NIGHTLY).ansi(runs)


def test_many_alike_are_drawn_as_one_and_much_that_is_not_in_layers() -> None:
    wide = {f"w{at}": needing("first") for at in range(500)}
    picture = Drawing(document({"first": {}, **wide, "last": needing(*wide)}))
    states = [seen(f"w{at}", StepState.SUCCEEDED if at % 2 else StepState.RUNNING, 1) for at in range(500)]
    assert picture.text(states).splitlines() == ["○ first", "▶ w0, w1, w2, … (500)    250/500 · ▶ 250", "○ last"]
    chance = random.Random(1)
    tangled = {
        f"s{at}": needing(*{f"s{chance.randrange(max(0, at - 200), at)}" for _ in range(2)} if at else ())
        for at in range(4_000)
    }
    assert len(Drawing(document(tangled)).text().splitlines()) < 300


def test_a_long_run_fits_the_screen_and_shows_where_it_is() -> None:
    chain = {f"d{at}": needing(f"d{at - 1}") if at else {} for at in range(500)}
    states = [seen(f"d{at}", StepState.SUCCEEDED, 1) for at in range(300)] + [seen("d300", StepState.RUNNING, 1)]
    lines = Drawing(document(chain)).draw(states, height=20).plain.splitlines()
    assert len(lines) <= 20
    assert any(line.startswith("▶ d300") for line in lines)
    shown = sum(line[0] in "✓▶○" for line in lines)
    left_out = sum(int(line.split()[1]) for line in lines if "more steps" in line)
    assert shown + left_out == 500


@given(documents(most_steps=10))
def test_each_step_has_one_place(whole: PipelineDocument) -> None:
    drawn = [name for row in rows_of(whole.steps) for name in row.steps]
    assert sorted(drawn) == sorted(whole.steps)


LEADS = {"│": "ud", "├": "udr", "┤": "udl", "╰": "ur", "╯": "ul", "╮": "dl", "┬": "dlr"}
MOVES = {"u": (-1, 0), "d": (1, 0), "l": (0, -1), "r": (0, 1)}
BACK = {"u": "d", "d": "u", "l": "r", "r": "l"}


def led_to(grid: list[str], row: int, column: int) -> set[int]:
    """Follow the lines down from a node's sign, and return the rows of the nodes that they lead to."""

    def cell(at: int, across: int) -> str:
        return grid[at][across] if 0 <= at < len(grid) and 0 <= across < len(grid[at]) else " "

    found, done, left = set(), set(), [(row + 1, column, "d")]
    while left:
        at, across, heading = left.pop()
        mark = cell(at, across)
        if (at, across, heading) in done or mark == " ":
            continue
        done.add((at, across, heading))
        if mark == "●":
            if heading == "d":
                found.add(at)
            continue
        if mark == "─" or (mark == "│" and heading in "lr"):
            ways = heading
        elif mark in "◂▸":
            ways = heading if heading == {"◂": "l", "▸": "r"}[mark] else ""
        else:
            ways = LEADS[mark].replace(BACK[heading], "").replace("u", "")
        left += [(at + MOVES[way][0], across + MOVES[way][1], way) for way in ways]
    return found


@given(documents(most_steps=10))
def test_lines_lead_from_each_step_to_those_that_need_it(whole: PipelineDocument) -> None:
    rows = rows_of(whole.steps)
    grid = [row.before + ("●" + row.after if row.steps else "") for row in rows]
    for at, row in enumerate(rows):
        if not row.steps:
            continue
        reached = {name for other in led_to(grid, at, len(row.before)) for name in rows[other].steps}
        for name in row.steps:
            assert reached <= downstream_of(whole.steps, name) - {name}
    for name, spec in whole.steps.items():
        for need in needs_of(spec):
            assert name in all_below(rows, grid, need)


def all_below(rows: list[Any], grid: list[str], name: str) -> set[str]:
    """Return the steps that the lines lead to from a step, directly or not."""
    place = {one: at for at, row in enumerate(rows) for one in row.steps}
    found: set[str] = set()
    left = [place[name]]
    while left:
        for other in led_to(grid, left[-1], len(rows[left.pop()].before)):
            if not set(rows[other].steps) <= found:
                found |= set(rows[other].steps)
                left.append(other)
    return found


def test_diagrams_for_other_programs() -> None:
    mermaid = to_mermaid(NIGHTLY, [seen("load", StepState.FAILED, 1)])
    assert '    s0["load: failed"]\n' in mermaid
    assert '    s3 -->|"fit > 0.9"| s4\n' in mermaid
    assert "    style s0 fill:#f4a3a3\n" in mermaid
    dot = to_dot(NIGHTLY)
    assert '    "fit" -> "ship" [label="fit > 0.9"];\n' in dot
    assert dot.startswith('digraph "sums" {\n')


@pytest.mark.parametrize("make", [to_mermaid, to_dot])
@given(whole=documents())
def test_any_document_has_a_diagram(make: Any, whole: PipelineDocument) -> None:
    edges = sum(len(needs_of(spec)) for spec in whole.steps.values())
    assert make(whole).count("->") + 0 == edges if make is to_dot else make(whole).count("-->") == edges

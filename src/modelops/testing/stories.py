"""Workflows for the contract of `Workflows`, and a process that tells them: `python -m modelops.testing.stories ENGINE …`.

What a step does is written into a journal, a file of lines, so that it is seen from outside whatever is killed when.
"""

import asyncio
import importlib
import json
import os
import runpy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelops.contracts.errors import MLOpsError, Unavailable
from modelops.contracts.schemas import Json
from modelops.kernel.workflows import StepFailed, Story, Workflow, Workflows


def note(journal: str, line: str) -> None:
    """Append a line to a journal: whole, whoever else writes."""
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


async def count(story: Story, argument: Json) -> Json:
    """Take `steps` steps, each `slow_s` long, with a line in the `journal` where each begins and ends."""
    given: dict[str, Any] = dict(argument)  # type: ignore[arg-type]
    found: list[Json] = []
    for number in range(given["steps"]):

        async def act(number: int = number) -> Json:
            note(given["journal"], f"begin {story.id} {number} {os.getpid()}")
            await asyncio.sleep(given.get("slow_s", 0))
            note(given["journal"], f"end {story.id} {number} {os.getpid()}")
            return number

        found.append(await story.step(f"step {number}", act))
        if given.get("pause_s"):
            await story.pause(given["pause_s"])
    return found


async def echo(story: Story, argument: Json) -> Json:
    """Return the argument, through a step."""

    async def act() -> Json:
        return argument

    return {"at once": argument, "kept": await story.step("echo", act)}


async def broken(story: Story, argument: Json) -> Json:
    """Raise."""
    raise ValueError(f"broken by {argument}")


async def resilient(story: Story, argument: Json) -> Json:
    """Go on after a step that raises, and tell how it looked before and after a pause that it can be closed in."""
    given: dict[str, Any] = dict(argument)  # type: ignore[arg-type]

    async def act() -> Json:
        note(given["journal"], "tried")
        raise LookupError("nothing there")

    try:
        await story.step("raises", act)
    except StepFailed as wrong:
        seen: list[Json] = [wrong.kind, wrong.detail]
    await story.pause(given["pause_s"])
    return seen


async def patient(story: Story, argument: Json) -> Json:
    """Take a step that is unavailable twice."""
    given: dict[str, Any] = dict(argument)  # type: ignore[arg-type]

    async def act() -> Json:
        note(given["journal"], "tried")
        if len(Path(given["journal"]).read_text().splitlines()) < 3:
            raise Unavailable("Not yet.")
        return "there"

    return await story.step("waits", act)


async def unspeakable(story: Story, argument: Json) -> Json:
    """Return from a step, or in the end, what is not JSON."""

    async def act() -> Json:
        return float("nan") if argument == "step" else None

    try:
        await story.step("not a number", act)
    except StepFailed as wrong:
        return [wrong.kind, wrong.reason]
    return {1: object()}  # type: ignore[dict-item]


WORKFLOWS: Mapping[str, Workflow] = {
    "count": count,
    "echo": echo,
    "broken": broken,
    "resilient": resilient,
    "patient": patient,
    "unspeakable": unspeakable,
}


def open_engine(where: str, *arguments: str) -> Workflows:
    """Open an engine by the function that does it: `module:function`, or `file.py:function`."""
    module, _, function = where.rpartition(":")
    if module.endswith(".py"):
        make: Callable[..., Workflows] = runpy.run_path(module)[function]
    else:
        make = getattr(importlib.import_module(module), function)
    return make(*arguments)


def main(where: str, *arguments: str) -> None:
    """Tell the workflows above; start and cancel what standard input names, a JSON list a line; end with it."""
    engine = open_engine(where, *arguments)
    engine.launch(WORKFLOWS)
    _say("ready")
    for line in sys.stdin:
        verb, *given = json.loads(line)
        try:
            getattr(engine, {"start": "start", "cancel": "cancel"}[verb])(*given)
            _say("done")
        except MLOpsError as wrong:
            _say(wrong.code)
    engine.close()


def _say(word: str) -> None:
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

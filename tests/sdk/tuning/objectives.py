"""Objectives that other processes find by name."""

import os
import time
from pathlib import Path


def bowl(trial):
    return (trial["x"] - 1) ** 2


def slow_bowl(trial):
    """Take a moment, and leave a line for each time that a trial is completed."""
    for step in range(3):
        time.sleep(0.01)
        trial.report(step + trial["x"] ** 2, step)
        trial.should_prune()
    with Path(os.environ["TRIALS_DONE"]).open("a") as file:
        file.write(f"{trial.number} {trial.attempt} {trial['x']!r}\n")
    return (trial["x"] - 1) ** 2


def shared_bowl(trial):
    """Go on once a second process has a trial, too."""
    mine = Path(os.environ["TRIALS_HELD"])
    (mine / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(mine.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    return bowl(trial)


def broken(trial):
    raise ValueError("no luck")

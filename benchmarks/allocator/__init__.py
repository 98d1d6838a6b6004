"""The allocator in the baseline of Kueue's performance test, in virtual time: 15,000 workloads for 30 queues.

`make bench NAME=allocator`. What is compared with is what was set as a target, but for what a run without checkpoints loses.
An independent checker looks at every state in a second run, outside of what is timed, and at worlds made at random.
"""

import statistics
import time
from pathlib import Path
from random import Random

from tests.domains.compute.allocator.worlds import workload, world

from benchmarks.figures import Figure, larger_is_better, smaller_is_better
from modelops.domains.compute.allocator.checking import violations
from modelops.domains.compute.allocator.engine import Engine
from modelops.domains.compute.allocator.simulation import Outcome, baseline, simulate

PEERS: dict[str, list[str]] = {}

WANTED_ADMISSIONS = 20_000.0
WANTED_LOST = 5.0
CHECKPOINTS_MS = (30, 70, 150)
"""None of them divides the beat of 100 ms in which everything happens there, so that no checkpoint falls together with it."""

ROUNDS = 5
CHURNS = 300


def measure(_: dict[str, Path]) -> list[Figure]:
    rates, outcome = [], Outcome()
    for _round in range(ROUNDS):
        load = baseline(CHECKPOINTS_MS[1])
        began = time.process_time()
        outcome = simulate(load)
        rates.append(outcome.admissions / (time.process_time() - began))
    print(
        f"{outcome.admissions} admissions, {outcome.preemptions} preemptions; a second: {[round(rate) for rate in rates]}"
    )
    wrong, looks = _checked_baseline()
    wrong_churn, looks_churn, placed = _checked_churn()
    print(
        f"{looks} states of the baseline and {looks_churn} of {CHURNS} worlds with {placed} placed shares were checked"
    )
    found = [
        larger_is_better(
            "admissions per CPU second, median", statistics.median(rates), WANTED_ADMISSIONS, "target", "1/s"
        ),
        larger_is_better("admissions per CPU second, best of five", max(rates), WANTED_ADMISSIONS, "target", "1/s"),
        Figure("quota violations in the baseline", wrong, 0, "target", 1.0 if not wrong else 0.0, "count"),
        Figure(
            "violations and illegal places under churn",
            wrong_churn,
            0,
            "target",
            1.0 if not wrong_churn else 0.0,
            "count",
        ),
    ]
    for every in CHECKPOINTS_MS:
        lost = 100 * simulate(baseline(every)).lost_fraction
        name = f"work lost to preemption, a checkpoint every {every} ms"
        found.append(smaller_is_better(name, lost, WANTED_LOST, "target", "% of busy"))
    never = 100 * simulate(baseline(None)).lost_fraction
    found.append(
        smaller_is_better("work lost to preemption, no checkpoints", never, WANTED_LOST, "target", "% of busy")
    )
    return found


def _checked_baseline() -> tuple[int, int]:
    """Return how many violations were seen in the whole scenario, and how many states were looked at."""
    seen = [0, 0]

    def look(engine: Engine, _: object) -> None:
        seen[0] += len(violations(engine.snapshot()))
        seen[1] += 1

    simulate(baseline(CHECKPOINTS_MS[1]), look)
    return seen[0], seen[1]


def _checked_churn() -> tuple[int, int, int]:
    """Return how many violations were seen in worlds of every policy and mode, how many states were looked at, and how many
    shares were placed."""
    wrong, looks, placed = 0, 0, 0
    for seed in range(CHURNS):
        random = Random(seed)
        snapshot = world(random, devices=seed % 4 > 0, fair=seed % 2 > 0)
        engine = Engine(snapshot)
        for step in range(10):
            for number in range(random.randint(2, 7)):
                engine.submit(workload(random, snapshot, f"w{step}-{number}", float(step)))
            found = engine.settle(float(step))
            placed += sum(len(admission.placed) for admission in found.admitted)
            wrong += len(violations(engine.snapshot()))
            looks += 1
            for key, item in list(engine.items.items()):
                if item.evicted or (item.admitted_at is not None and random.random() < 0.3):
                    work, again = item.workload, item.evicted
                    engine.release(key)
                    if again:
                        engine.submit(work)
    return wrong, looks, placed

"""`kill -9` of the platform and of workers amid runs of a pipeline: every run ends right, and no effect is doubled."""

import json
import os
import random
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from modelops.domains.pipelines.files import load_pipeline
from modelops.domains.pipelines.schemas import RunState, StepState
from modelops.testing.process import platform_process

RUNS = int(os.environ.get("MODELOPS_TEST_RUNS", "50"))
AT_ONCE, WIDTH = 8, 4
SETTINGS = {"step_lease_s": "10", "lease_ttl_s": "2", "controller_interval_s": "0.2", "max_running_jobs": "4"}

PIPELINE = '''
import fcntl, json, time
from pathlib import Path

import modelops
from modelops import job, pipeline, step, when
from modelops.domains.pipelines.document import Retries

AGAIN = Retries(attempts=9, wait_s=0.1, most_s=0.5)


def note(ledger):
    """Write that this attempt began."""
    context = modelops.step_context()
    with open(Path(ledger, "begun"), "a") as file:
        file.write(json.dumps([context.run_id, context.step, context.attempt]) + "\\n")


@step(retries=AGAIN)
def numbers(ledger: str, count: int) -> list:
    note(ledger)
    return list(range(count))


@step(retries=AGAIN)
def effect(number: int, ledger: str) -> int:
    """Write to the platform, and to a file that takes a key once."""
    note(ledger)
    context = modelops.step_context()
    context.client.experiments.create_run("effects", tags={"step": context.idempotency_key})
    with open(Path(ledger, "keys", context.idempotency_key), "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not file.tell():
            file.write("done\\n")
    time.sleep(0.05)
    return number * 10


@step(retries=AGAIN)
def flaky(ledger: str) -> str:
    note(ledger)
    failed = Path(ledger, "failed", modelops.step_context().idempotency_key)
    if not failed.exists():
        failed.touch()
        raise RuntimeError("the first attempt fails")
    return "well"


@step(retries=AGAIN)
def total(ledger: str, values: list) -> int:
    note(ledger)
    return sum(values)


@step(retries=AGAIN)
def large(ledger: str, value: int) -> str:
    note(ledger)
    return "large"


@step(retries=AGAIN)
def small(ledger: str, value: int) -> str:
    note(ledger)
    return "small"


@pipeline(workers=1)
def killed(ledger: str, count: int, train: bool = False):
    value = total(ledger, effect.map(numbers(ledger, count), ledger=ledger))
    flaky(ledger)
    with when(value > 30):
        large(ledger, value)
    with when(value <= 30):
        small(ledger, value)
    with when(train):
        job("python-function", "rows", parameters={"function": "modelops.testing.tasks:work"}, retries=9, name="train")
'''


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_every_run_ends_right_whoever_is_killed(tmp_path, database, request):
    settings = dict(SETTINGS)
    if database == "postgres":
        settings["database"] = request.getfixturevalue("postgres_database")
    luck = random.Random(20261121)
    ledger = tmp_path / "ledger"
    for name in ("keys", "failed"):
        (ledger / name).mkdir(parents=True)
    (tmp_path / "killed_pipeline.py").write_text(PIPELINE)
    killed = Counter()
    with platform_process(tmp_path / "home", **settings) as platform:
        with platform.client() as client:
            client.data.create_dataset("rows")
            client.data.create_dataset_version("rows", b"a,label\n1,0\n2,1\n", format="csv")
            client.experiments.create_experiment("effects")
            client.pipelines.register_pipeline(load_pipeline(tmp_path / "killed_pipeline.py"))
        runs, began = [], time.monotonic()
        next_kill = began + 2.0
        while True:
            with patient(platform) as client:
                open_runs = [run for run in runs if not client.pipelines.get_run(run).state.final]
                while len(runs) < RUNS and len(open_runs) < AT_ONCE:
                    parameters = {"ledger": str(ledger), "count": len(runs) % (WIDTH + 1), "train": len(runs) % 20 == 7}
                    open_runs.append(client.pipelines.start_run("killed", parameters=parameters).id)
                    runs.append(open_runs[-1])
            if not open_runs:
                break
            if time.monotonic() > next_kill:
                victim = luck.choice(["platform", "keeper", "runner", "supervisor", "job"])
                killed[victim] += strike(platform, victim, luck)
                next_kill = time.monotonic() + luck.uniform(1.0, 4.0)
            time.sleep(0.2)
        print(f"{len(runs)} runs on {database} in {time.monotonic() - began:.0f} s; killed: {dict(killed)}")
        with patient(platform) as client:
            check(client, runs, ledger)
    assert min(killed[victim] for victim in ("platform", "keeper", "runner", "supervisor")) > 0


def patient(platform):
    """Return a client that waits out a platform that is slow, on a machine with other work."""
    client = platform.client()
    client.rest.retry_for_s = 120
    return client


def strike(platform, victim, luck):
    """Kill one of a kind, and return how many were killed."""
    if victim == "platform":
        platform.kill()
        platform.start()
        return 1
    kinds = {"keeper": ["steps"], "runner": ["modelops.runtime.steps.runner"], "job": ["train"], "supervisor": []}
    found = [process for process in processes_of(platform.home) if is_a(process, victim, kinds[victim])]
    if not found:
        return 0
    with suppress(psutil.NoSuchProcess):
        luck.choice(found).kill()
        return 1
    return 0


def processes_of(home):
    """Return the processes that work for a platform, by what their folders are."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if Path(process.cwd()).is_relative_to(home / "jobs"):
                found.append(process)
    return found


def is_a(process, victim, words):
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        command = process.cmdline()
        if victim == "supervisor":
            return any(word.endswith("supervisor.py") for word in command)
        return any(word in command for word in words)
    return False


def check(client, runs, ledger):
    """Every run ended right, nothing was run again after it had ended, and every effect is there once."""
    begun = [tuple(json.loads(line)) for line in (ledger / "begun").read_text().splitlines()]
    assert len(set(begun)) == len(begun), "an attempt was made twice"
    attempts = Counter((run, key) for run, key, _ in begun)
    effects = set()
    for number, run in enumerate(runs):
        found = client.pipelines.get_run(run)
        steps = {step.key: step for step in client.pipelines.all_steps(run)}
        reasons = {key: step.reason for key, step in steps.items() if step.reason}
        assert found.state is RunState.SUCCEEDED, (found.reason, reasons)
        width = number % (WIDTH + 1)
        value = sum(n * 10 for n in range(width))
        taken, left = ("large", "small") if value > 30 else ("small", "large")
        assert client.pipelines.read_output(run, "total") == value
        assert client.pipelines.read_output(run, taken) == taken
        assert steps[left].state is StepState.SKIPPED
        assert steps["train"].state is (StepState.SUCCEEDED if number % 20 == 7 else StepState.SKIPPED)
        assert client.pipelines.read_output(run, "flaky") == "well"
        for key, step in steps.items():
            assert attempts[run, key] <= step.attempt, key
        effects |= {f"{run}:effect[{index}]" for index in range(width)}
    assert {path.name for path in (ledger / "keys").iterdir()} == effects
    assert all(path.read_text() == "done\n" for path in (ledger / "keys").iterdir())
    made = Counter(run.tags["step"] for run in client.experiments.all_runs("effects"))
    assert made == Counter(effects), "an effect is missing, or doubled"
    again = sum(attempts.values()) - len(attempts)
    print(f"{len(attempts)} steps, {again} attempts made again")

"""Several processes of PyTorch on this machine: its launcher starts them, watches them and ends them together.

Each of them (`ranks`) runs the recipe in a process group. Source of the launcher's contract:
https://docs.pytorch.org/docs/stable/elastic/run.html
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from modelops.contracts.errors import MissingExtra
from modelops.domains.training.recipe import Recipe
from modelops.domains.training.schemas import JobResult
from modelops.runtime import THREADS
from modelops.runtime.engines.endings import Endings
from modelops.runtime.engines.lines import PrefixedLines
from modelops.runtime.job import Job

_MONITOR_S = 0.1
_GRACE_S = 4
"""How long the processes have after SIGTERM: less than whoever stops the job waits for it."""


def run(recipe: Recipe, job: Job) -> JobResult:
    """Run a recipe in as many processes as the job asks for, and return what the first of them returned.

    Raises:
        MissingExtra: PyTorch is not installed.
        ProcessFailed: one of them did not reach its end; the others were ended.
    """
    try:
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher import elastic_launch
    except ModuleNotFoundError as missing:
        raise MissingExtra(
            f"The recipe '{recipe.name}' runs by PyTorch, which is not installed here ('{missing.name}' is missing).",
            hint="Install it where jobs run: `pip install 'modelops[torch]'`; or name torch in the job's environment.",
        ) from None
    count = job.task.processes
    endings = Endings(job.folder / "ranks", count)
    _share_threads(count)
    with _note_of_stop(endings), PrefixedLines(endings.folder, count) as lines:
        try:
            elastic_launch(_config(job, lines), sys.executable)("-m", "modelops.runtime", "rank")
        except ChildFailedError as failed:
            raise endings.cause(
                {rank: (each.exitcode, each.timestamp) for rank, each in failed.failures.items()}
            ) from None
    return endings.result()


def _config(job: Job, lines: PrefixedLines) -> Any:
    """Return how the launcher is to start the processes: once, on this machine, at a port that is free."""
    from torch.distributed.launcher import LaunchConfig

    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=lines.count,
        run_id=f"{job.id}-{job.attempt}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,  # the platform tries again, from the checkpoint
        monitor_interval=_MONITOR_S,
        logs_specs=_output_of(lines),
        signals_to_handle="SIGHUP",  # SIGTERM stays the trainer's: on its way out the launcher ends the processes
        shutdown_timeout=_GRACE_S,
    )


def _output_of(lines: PrefixedLines) -> Any:
    """Return what tells the launcher where the processes write."""
    from torch.distributed.elastic.multiprocessing.api import LogsDest, LogsSpecs

    class Specs(LogsSpecs):  # type: ignore[misc]  # of a library that is not followed
        root_log_dir = str(lines.folder)

        def reify(self, envs: dict[int, dict[str, str]]) -> Any:
            places = {rank: str(lines.place(rank)) for rank in envs}
            unused = dict.fromkeys(envs, "")
            # A file that is never written: what a process raised, it tells itself (`Endings`).
            errors = {rank: str(lines.folder / f"torch-{rank}.json") for rank in envs}
            return LogsDest(places, places, unused, unused, errors)

    return Specs()


def _share_threads(count: int) -> None:
    """Divide the threads of numeric libraries among the processes."""
    for name in THREADS:
        given = os.environ.get(name, "")
        threads = int(given) if given.isdigit() else os.cpu_count() or 1
        os.environ[name] = str(max(1, threads // count))


@contextmanager
def _note_of_stop(endings: Endings) -> Iterator[None]:
    """Leave a note for the processes when the job is told to end: otherwise SIGTERM means that one of them failed."""
    trainers: Any = signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        endings.note_stop()
        trainers(number, frame)

    if callable(trainers):
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is stop:
            signal.signal(signal.SIGTERM, trainers)

"""One process of a job that PyTorch's launcher started: it joins the group, runs the recipe, and says how it ended."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from modelops.contracts import plugins
from modelops.contracts.errors import MLOpsError
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.training.recipe import RECIPES, Recipe, outputs_of
from modelops.domains.training.schemas import JobResult
from modelops.runtime.attempt import Attempt, Stopped, parameters_of, sentence_of
from modelops.runtime.engines.endings import Endings
from modelops.runtime.engines.peers import PeerJob, RankJob

_PATIENCE_S = 600.0
"""How long a process waits for the others, where the recipe's parameters have no `collective_timeout_s`."""


class PeerFailed(Exception):
    """Another process of the job failed."""


def main() -> int:
    """Run the recipe as the process of rank `RANK`, and return the exit code."""
    attempt = Attempt.open()
    endings = Endings(attempt.folder / "ranks", attempt.task.processes)
    attempt.end_on_sigterm(
        lambda: Stopped(143) if endings.is_stopping else PeerFailed("Another process of the job failed.")
    )
    rank = int(os.environ["RANK"])
    job: RankJob | None = None
    try:
        recipe: Recipe = plugins.load(RECIPES, attempt.task.recipe)
        kind = RankJob if rank == 0 else PeerJob
        job = kind(attempt.task, parameters_of(recipe, attempt.task), attempt.client, attempt.folder, rank)
        with _group(getattr(job.parameters, "collective_timeout_s", _PATIENCE_S)):
            result = recipe.run(job)
        if rank == 0:
            _keep(job, recipe, result, endings)
        return 0
    except PeerFailed as failed:
        _end_runs(job, RunStatus.FAILED, str(failed))
        return _leave(143)
    except Stopped:
        _end_runs(job, RunStatus.CANCELED, "The job was told to end.")
        return _leave(143)
    except (Exception, SystemExit) as failure:
        endings.fail(rank, failure)
        traceback.print_exc()
        _end_runs(job, RunStatus.FAILED, sentence_of(failure))
    return _leave(1)


def _keep(job: RankJob, recipe: Recipe, result: JobResult, endings: Endings) -> None:
    job.check_outputs(outputs_of(recipe), result)
    job.end_runs(RunStatus.FINISHED)
    endings.succeed(result)


@contextmanager
def _group(patience_s: float) -> Iterator[None]:
    """Be in a process group: with NCCL beside gloo where each process has a GPU of its own, and that one chosen."""
    import torch
    import torch.distributed as group

    local, count = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    backend = "gloo"
    if torch.cuda.device_count() >= count and group.is_nccl_available():
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    # All processes are on this machine, whatever its name resolves to.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    group.init_process_group(backend, timeout=timedelta(seconds=patience_s))
    yield
    group.destroy_process_group()


def _end_runs(job: Any, status: RunStatus, reason: str) -> None:
    with suppress(MLOpsError):  # what cannot be ended here, the platform ends with the job
        if job is not None:
            job.end_runs(status, reason)


def _leave(code: int) -> int:
    """End at once: threads of a group that broke may wait for others that are gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

"""The trainer: the process that a job runs in. It knows its task, a token of its own, and the platform's address.

It keeps trying while the platform is away, so that a restart of the platform costs the job nothing.
"""

import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from modelops.contracts import plugins
from modelops.contracts.errors import MLOpsError
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.training.recipe import RECIPES, Recipe, outputs_of
from modelops.domains.training.schemas import JobReport
from modelops.runtime import engines
from modelops.runtime.attempt import Attempt, Stopped, parameters_of, ran_out_of_memory, sentence_of
from modelops.runtime.job import Job, Task
from modelops.sdk.client import Client


def main() -> int:
    """Run the job whose files lie in `MODELOPS_WORKDIR`, and return the exit code."""
    if lacking := [name for name in ("MODELOPS_WORKDIR", "MODELOPS_URL") if name not in os.environ]:
        sys.stderr.write(
            f"modelops-runtime: Not set: {', '.join(lacking)}. The platform sets the folder with `job.json` and `token`, and its"
            " own address.\n"
        )
        return 1
    attempt = Attempt.open()
    attempt.end_on_sigterm()
    try:
        return _enter(attempt.task, attempt.client) or run_task(attempt.task, attempt.client, attempt.folder)
    finally:
        attempt.client.close()


def _enter(task: Task, client: Client) -> int:
    """Go on in the environment that the job asks for, if it asks for one and this is not it. Returns an exit code if that
    failed; 0 means to go on here."""
    if task.environment is None:
        return 0
    from modelops.runtime import environments

    if os.environ.get(environments.ACTIVE) == task.environment:
        return 0
    try:
        lock = client.data.download_artifact(task.environment)
        environments.enter(lock, task.environment, ["train"], _tell)
    except Exception as failure:
        traceback.print_exc()
        client.training.finish_job(task.job_id, JobReport(failure=sentence_of(failure)))
    return 1


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run_task(task: Task, client: Client, folder: Path) -> int:
    """Run the recipe, report what came of it, and return the exit code. Files of the job lie in the folder meanwhile."""
    job: Job | None = None
    try:
        recipe: Recipe = plugins.load(RECIPES, task.recipe)
        job = Job(task, parameters_of(recipe, task), client, folder)
        result = engines.run(recipe, job)
        job.check_outputs(outputs_of(recipe), result)
        job.end_runs(RunStatus.FINISHED)
        client.training.finish_job(task.job_id, JobReport(result=result))
    except Stopped:
        _end_runs(job, RunStatus.CANCELED, "The job was told to end.")
        raise
    except (Exception, SystemExit) as failure:
        reason = sentence_of(failure)
        traceback.print_exc()
        _end_runs(job, RunStatus.FAILED, reason)
        report = JobReport(failure=reason, out_of_memory=ran_out_of_memory(failure))
        client.training.finish_job(task.job_id, report)
        return 1
    return 0


def _end_runs(job: Job | None, status: RunStatus, reason: str) -> None:
    with suppress(MLOpsError):  # what cannot be ended here, the platform ends with the job
        if job is not None:
            job.end_runs(status, reason)

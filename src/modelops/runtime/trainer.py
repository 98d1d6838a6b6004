"""The trainer: the process that a job runs in. It knows its task, a token of its own, and the platform's address.

It keeps trying while the platform is away, so that a restart of the platform costs the job nothing.
"""

import faulthandler
import io
import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType

import httpx
from pydantic import ValidationError

from modelops.contracts import plugins
from modelops.contracts.errors import InvalidInput, MLOpsError
from modelops.contracts.rest import Rest
from modelops.contracts.schemas import Schema
from modelops.contracts.trust import TrustLater
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.training.recipe import RECIPES, Recipe, outputs_of
from modelops.domains.training.schemas import JobReport
from modelops.runtime.job import Job, Task
from modelops.runtime.transfers import PatientData
from modelops.sdk.client import Client

RETRY_FOR_S = 600.0
"""For how long the platform may be away."""

_TIMEOUT_S = 60.0
_LAST_WORDS_S = 2.0
_REASON = 4_000


def main() -> int:
    """Run the job whose files lie in `MODELOPS_WORKDIR`, and return the exit code."""
    _prepare_output()
    if lacking := [name for name in ("MODELOPS_WORKDIR", "MODELOPS_URL") if name not in os.environ]:
        sys.stderr.write(
            f"modelops-runtime: Not set: {', '.join(lacking)}. The platform sets the folder with `job.json` and `token`, and its"
            " own address.\n"
        )
        return 1
    folder = Path(os.environ["MODELOPS_WORKDIR"])
    task = Task.model_validate(json.loads((folder / "job.json").read_text(encoding="utf-8")))
    token = (folder / "token").read_text(encoding="utf-8")
    http = httpx.Client(
        base_url=os.environ["MODELOPS_URL"],
        headers={"Authorization": f"Bearer {token}"},
        timeout=_TIMEOUT_S,
        verify=TrustLater.new(),
    )
    rest = Rest(http, retry_for_s=RETRY_FOR_S)
    _end_on_sigterm(rest)
    client = Client.over(rest)
    client.data = PatientData(rest)
    try:
        return _enter(task, client) or run_task(task, client, folder)
    finally:
        client.close()


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
        job = Job(task, _parameters(recipe, task), client, folder)
        result = recipe.run(job)
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
        report = JobReport(failure=reason, out_of_memory=_ran_out_of_memory(failure))
        client.training.finish_job(task.job_id, report)
        return 1
    return 0


def sentence_of(failure: BaseException) -> str:
    """Say in a line why the recipe failed."""
    if isinstance(failure, MLOpsError):
        text = str(failure)
    elif isinstance(failure, SystemExit):
        text = f"The recipe ended the process with sys.exit({'' if failure.code is None else repr(failure.code)})."
    else:
        text = f"{type(failure).__name__}: {failure}".rstrip(": ")
    storable = text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    return storable[:_REASON]


def _ran_out_of_memory(failure: BaseException) -> bool:
    """Tell whether memory was refused: by Python and NumPy, or by a GPU's allocator, which has a class of its own."""
    return isinstance(failure, MemoryError) or type(failure).__name__ == "OutOfMemoryError"


class Stopped(SystemExit):
    """The job was told to end: runs under way end as cancelled on the way out."""


def _end_runs(job: Job | None, status: RunStatus, reason: str) -> None:
    with suppress(MLOpsError):  # what cannot be ended here, the platform ends with the job
        if job is not None:
            job.end_runs(status, reason)


def _parameters(recipe: Recipe, task: Task) -> Schema:
    try:
        return recipe.Parameters.model_validate(task.parameters)
    except ValidationError as wrong:
        raise InvalidInput(f"The recipe '{task.recipe}' no longer takes these parameters: {wrong}.") from wrong


def _prepare_output() -> None:
    """Make what is printed readable in the log whatever this machine's locale, and let a crash in native code leave a trace."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    with suppress(OSError, ValueError):  # where stderr is no file
        faulthandler.enable()


def _end_on_sigterm(rest: Rest) -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        rest.retry_for_s = _LAST_WORDS_S  # whoever stops the job does not wait for long, and the platform may be gone
        raise Stopped(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)

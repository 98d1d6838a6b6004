"""Workers elsewhere: in processes of this machine, and in training jobs of the platform."""

import contextlib
import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelops.contracts.errors import InvalidInput, MLOpsError
from modelops.contracts.schemas import Json
from modelops.domains.training.schemas import Job, JobState
from modelops.domains.tuning.schemas import Study
from modelops.sdk.client import Client
from modelops.sdk.tuning.sampling import Sampling
from modelops.sdk.tuning.working import Objective, ObjectiveFailed, Workers

if TYPE_CHECKING:
    from modelops.sdk.tuning.hyperparameters import HyperparameterTuning

_PROGRAM = """
import pickle, sys
sys.path[:], told = pickle.load(sys.stdin.buffer)
from modelops.sdk.tuning.spreading import work_in_process
work_in_process(**told)
"""
_ELSEWHERE = "Define it at the top of a module of its own, or run threads: workers='threads'."
_LAST_WORDS_S = 10.0

FUNCTION = "modelops.sdk.tuning.spreading:work_in_job"


def load_objective(reference: str) -> Objective:
    """Return the function that `module:function` names.

    Raises:
        InvalidInput: there is none.
    """
    module, _, name = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as wrong:
        raise InvalidInput(
            f"There is no objective '{reference}': {wrong}.", hint="Name it `module:function`."
        ) from wrong
    if not callable(found):
        raise InvalidInput(f"'{reference}' is a {type(found).__name__}, which cannot be called.")
    return found  # type: ignore[no-any-return]


def run_processes(tuning: "HyperparameterTuning", study: Study, most: int | None) -> None:
    """Run trials in processes of this machine, each with a connection of its own.

    Raises:
        InvalidInput: the objective cannot be handed to another process.
        ObjectiveFailed: it failed there, as `on_failure` says; or a process ended by itself.
    """
    shares = [None] * tuning.n_jobs if most is None else _shares(most, tuning.n_jobs)
    told = {
        "connection": _connection(tuning.client),
        "study": study.id,
        "objective": _pack(tuning.objective),
        "go_on": tuning.on_failure == "continue",
    }
    processes = [_start(pickle.dumps((sys.path, {**told, "most": share}))) for share in shares]
    try:
        codes = [process.wait() for process in processes]
    except BaseException:  # Ctrl-C: the processes of a terminal hear of it themselves, and give their trials back
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LAST_WORDS_S)
            process.kill()
            process.wait()
        raise
    failed = [code for code in codes if code]
    if failed:
        raise ObjectiveFailed(
            f"{len(failed)} of {len(codes)} worker processes ended with exit code {failed[0]}.",
            hint="What they were told stays; their trials are taken up again when the study is gone on with.",
        )


def _start(packed: bytes) -> subprocess.Popen[bytes]:
    """Start a worker process, and hand it what it is to do.

    It is no child of `multiprocessing`, which would run the program's own file again in each.
    """
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE)
    pipe = process.stdin
    if pipe is not None:
        with contextlib.suppress(BrokenPipeError), pipe:  # a process that ended at once tells so by its exit code
            pipe.write(packed)
    return process


def work_in_process(*, connection: dict[str, Any], study: str, objective: bytes, go_on: bool, most: int | None) -> None:
    """Run trials of a study until it makes no more; called in a worker process. Ends it with 1 where that failed."""
    try:
        unpacked = pickle.loads(objective)  # noqa: S301 - packed by the parent process a moment ago
        found = load_objective(unpacked) if isinstance(unpacked, str) else unpacked
        with Client(**connection) as client, Sampling(client, client.tuning.get_study(study)) as sampling:
            Workers(sampling, found, go_on=go_on, most=most).run(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except MLOpsError as wrong:
        sys.stderr.write(f"{wrong}\n")
        sys.exit(1)


def _connection(client: Client) -> dict[str, Any]:
    """Return how another process connects as this one does."""
    headers = client.rest.http.headers
    token = headers.get("authorization", "").removeprefix("Bearer ") or None
    settings = client.settings
    found = {"url": settings.url, "token": token, "project": headers.get("x-project"), "home": settings.home}
    return {name: value for name, value in found.items() if value is not None}


def _pack(objective: Any) -> bytes:
    """Return an objective for another process: by value, where cloudpickle is installed."""
    try:
        packed: bytes = _pickler(objective).dumps(objective)
    except (pickle.PicklingError, AttributeError, TypeError) as wrong:
        raise InvalidInput(f"The objective cannot be handed to other processes: {wrong}.", hint=_ELSEWHERE) from wrong
    return packed


def _pickler(objective: Any) -> Any:
    try:
        return importlib.import_module("cloudpickle")
    except ModuleNotFoundError:
        if getattr(objective, "__module__", None) == "__main__":
            raise InvalidInput(
                "The objective is defined in the program itself, where other processes do not find it.", hint=_ELSEWHERE
            ) from None
        return pickle


def _shares(most: int, workers: int) -> list[int | None]:
    return [most // workers + (n < most % workers) for n in range(workers)]


def run_jobs(tuning: "HyperparameterTuning", study: Study) -> Sequence[Job]:
    """Submit training jobs that each ask for trials until the budget is spent, and wait for them.

    Raises:
        InvalidInput: the objective is no `module:function`.
        ObjectiveFailed: a job failed.
    """
    if not isinstance(tuning.objective, str):
        raise InvalidInput(
            "Jobs run in processes of the platform, which find an objective by its name alone.",
            hint="Install the package that holds it, and name it: objective='package.module:function'.",
        )
    arguments: dict[str, Json] = {
        "study": study.id,
        "objective": tuning.objective,
        "go_on": tuning.on_failure == "continue",
    }
    training = tuning.client.training
    jobs = [
        training.submit_job(
            "python-function",
            tuning.dataset or study.name,
            name=f"{study.name} worker {n}",
            parameters={"function": FUNCTION, "arguments": arguments},
            experiment=study.experiment,
            tags={"study": study.name},
            **tuning.job_options,
        )
        for n in range(tuning.n_jobs)
    ]
    try:
        ended = [training.wait_for_job(job.id) for job in jobs]
    except BaseException:
        for job in jobs:
            training.cancel_job(job.id, reason="The tuning was interrupted.")
        raise
    failed = [job for job in ended if job.state is not JobState.SUCCEEDED]
    if failed:
        raise ObjectiveFailed(
            f"{len(failed)} of {len(ended)} jobs did not succeed: {failed[0].reason}.",
            hint=f"See what it wrote: mops jobs get-job-log {failed[0].id}",
        )
    return ended


def work_in_job(job: Any, *, study: str, objective: str, go_on: bool = True) -> dict[str, Any]:
    """Run trials of a study in a training job until it makes no more; called by the recipe `python-function`."""
    token = (Path(os.environ["MODELOPS_WORKDIR"]) / "token").read_text(encoding="utf-8")
    told = 0

    def watch(trial: Any, state: Any, values: Any) -> None:
        nonlocal told
        told += 1
        job.log(f"trial {trial.number}: {state} {'' if values is None else values}")

    with Client(os.environ["MODELOPS_URL"], token=token) as client:
        with Sampling(client, client.tuning.get_study(study)) as sampling:
            Workers(sampling, load_objective(objective), go_on=go_on, watch=watch).run(1)
    return {"summary": {"trials": told}}

"""An attempt at a job, as each of its processes finds it: its files lie in `MODELOPS_WORKDIR`."""

import faulthandler
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx
from pydantic import ValidationError

from modelops.contracts.errors import InvalidInput, MLOpsError
from modelops.contracts.rest import Rest
from modelops.contracts.schemas import Schema
from modelops.contracts.trust import TrustLater
from modelops.domains.training.recipe import Recipe
from modelops.runtime.job import Task
from modelops.runtime.transfers import PatientData
from modelops.sdk.client import Client

RETRY_FOR_S = 600.0
"""For how long the platform may be away."""

_TIMEOUT_S = 60.0
_LAST_WORDS_S = 2.0
_REASON = 4_000


class Stopped(SystemExit):
    """The job was told to end: runs under way end as cancelled on the way out."""


@dataclass(frozen=True)
class Attempt:
    """What a process of a job knows: its task, a client with the job's own token, and the folder for its files."""

    task: Task
    client: Client
    folder: Path

    @classmethod
    def open(cls) -> "Attempt":
        """Read the files of the attempt, and make what is printed readable."""
        _prepare_output()
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
        client = Client.over(rest)
        client.data = PatientData(rest)
        return cls(task, client, folder)

    def end_on_sigterm(self, why: Callable[[], BaseException] = lambda: Stopped(128 + signal.SIGTERM)) -> None:
        """Raise what `why` returns in the main thread when this process is told to end; told again, it takes no notice."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            # Whoever stops the job does not wait for long, and the platform may be gone.
            self.client.rest.retry_for_s = _LAST_WORDS_S
            raise why()

        signal.signal(signal.SIGTERM, stop)


def parameters_of(recipe: Recipe, task: Task) -> Schema:
    """Return a task's parameters as the recipe takes them.

    Raises:
        InvalidInput: it no longer does.
    """
    try:
        return recipe.Parameters.model_validate(task.parameters)
    except ValidationError as wrong:
        raise InvalidInput(f"The recipe '{task.recipe}' no longer takes these parameters: {wrong}.") from wrong


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


def ran_out_of_memory(failure: BaseException) -> bool:
    """Tell whether memory was refused: by Python and NumPy, by a GPU's allocator, which has a class of its own, or to
    another process of the job."""
    refused = isinstance(failure, MemoryError) or type(failure).__name__ == "OutOfMemoryError"
    return refused or bool(getattr(failure, "out_of_memory", False))


def _prepare_output() -> None:
    """Make what is printed readable in the log whatever this machine's locale, and let a crash in native code leave a trace."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    with suppress(OSError, ValueError):  # where stderr is no file
        faulthandler.enable()

"""Any Python function of an installed package as a job."""

import importlib
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from modelops.contracts.errors import InvalidInput, MissingExtra
from modelops.contracts.schemas import Json, Schema
from modelops.domains.training.recipe import JobContext
from modelops.domains.training.schemas import Declared, InputKind, JobResult


class FunctionParameters(Schema):
    """What the recipe takes."""

    function: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$", description="`module:function`, called with the job.")]
    arguments: Annotated[dict[str, Json], Field(description="Keyword arguments.")] = {}


class PythonFunction:
    """Calls a function with the job (a `JobContext`) and keyword arguments; it may return a `JobResult` or its members."""

    name = "python-function"
    description = "Calls a function of an installed package with the job."
    Parameters = FunctionParameters
    inputs: Mapping[str, Declared] = {
        "dataset": Declared(kind=InputKind.DATASET, description="What `job.table()` returns.", required=False),
        "code": Declared(
            kind=InputKind.FILE, description="An archive (tar, zstd) of modules to import from.", required=False
        ),
    }
    any_input = True
    alike = ("function",)

    def run(self, job: JobContext[FunctionParameters]) -> JobResult:
        """Call the function."""
        if "code" in job.inputs:
            sys.path.insert(0, str(_unpacked(job.file("code"), job.folder / f"code-{job.rank}")))
        reference = job.parameters.function
        result = _function(reference)(job, **job.parameters.arguments)
        if isinstance(result, JobResult):
            return result
        try:
            return JobResult.model_validate({} if result is None else result)
        except ValidationError as wrong:
            problem = wrong.errors()[0]
            place = ".".join(map(str, problem["loc"])) or f"a {type(result).__name__}"
            raise InvalidInput(
                f"What '{reference}' returned is no result of a job: {place}: {problem['msg']}.",
                hint="Return None, a `JobResult`, or a dict with some of its members: run_id, model_version_id, metrics, "
                "summary.",
            ) from wrong


def _unpacked(archive: Path, to: Path) -> Path:
    """Unpack an archive of modules into a folder, and return it."""
    try:
        import zstandard
    except ModuleNotFoundError:
        raise MissingExtra(
            "The job's code is packed by zstandard, which its environment lacks.", hint="Name zstandard in the lock."
        ) from None
    to.mkdir(exist_ok=True)
    try:
        with archive.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                tar.extractall(to, filter="data")
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as wrong:
        raise InvalidInput(f"The input 'code' is no archive of modules: {wrong}.") from wrong
    return to


def _function(reference: str) -> Any:
    module, _, name = reference.partition(":")
    try:
        function: Any = importlib.import_module(module)
        for part in name.split("."):
            function = getattr(function, part)
    except (ImportError, AttributeError, TypeError, ValueError) as wrong:
        raise InvalidInput(
            f"There is no function '{reference}': {wrong}.",
            hint="Name it `module:function`; its package must be installed where jobs run.",
        ) from wrong
    if not callable(function):
        raise InvalidInput(f"'{reference}' is a {type(function).__name__}, which cannot be called.")
    return function


recipe = PythonFunction()

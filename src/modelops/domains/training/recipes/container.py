"""A program in a container as a job: it needs to know nothing of ModelOps.

| in the container | what it is |
|---|---|
| `/job/parameters.json` | the job's parameters |
| `/job/inputs/<name>` | its inputs, not to be written: a dataset as a Parquet file, a file as it is, a model as a folder |
| `/job/outputs/` | what the program writes here is kept as outputs of the job, once it has ended with exit code 0 |
| `/job/outputs/result.json` | if it is there, the job's result: `metrics`, `summary`, `run_id`, `model_version_id` |

Containers are run by podman, or what the setting `container_command` names, beside the trainer: their processes are the job's,
and so are their output, their limits and their end.
"""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from modelops.contracts.errors import InvalidInput, MissingExtra, TrainingError
from modelops.contracts.schemas import Json, Key, Schema, jsonable
from modelops.domains.training.recipe import JobContext
from modelops.domains.training.schemas import Declared, JobResult

COMMAND, OPTIONS = "MODELOPS_CONTAINER_COMMAND", "MODELOPS_CONTAINER_OPTIONS"
"""The variables that hold the settings `container_command` and `container_options`."""

_RESULT = "result.json"
_LABEL = "modelops.job"
_STOP_S = 5
_PASSED_ON = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class ContainerParameters(Schema):
    """What the recipe takes."""

    image: Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^-\s][^\s]*$", description="Name or digest.")]
    command: Annotated[
        list[str], Field(max_length=1_000, description="What to run; by default, what the image does.")
    ] = []
    variables: Annotated[dict[Key, str], Field(description="Environment variables.")] = {}
    network: Annotated[bool, Field(description="Whether it may reach the network.")] = False
    arguments: Annotated[dict[str, Json], Field(description="What `/job/parameters.json` holds.")] = {}


class ContainerFailed(TrainingError):
    """The program in the container failed."""

    code, title = "training.container_failed", "The container failed"


class Container:
    """A recipe that runs a container. Without an image of its own, the job's parameters name one (`ContainerParameters`).

    A package brings one of its own by an entry point in `modelops.recipes` that names an instance:

        recipe = Container("segment", "Segments images.", image="registry.example.org/segment:3", Parameters=Segmenting,
                           inputs={"images": Declared(kind=InputKind.FILE)},
                           outputs={"masks.tar": Declared(kind=InputKind.FILE)})

    Args:
        name: The recipe's name.
        description: What it does, in a line.
        image: The image; then every parameter is the program's.
        command: What to run in it; by default, what the image does.
        Parameters: What the program takes.
        inputs, outputs: What it declares; outputs are files of these names.
        network: Whether it may reach the network.
    """

    def __init__(
        self,
        name: str,
        description: str,
        *,
        image: str | None = None,
        command: Sequence[str] = (),
        Parameters: type[Schema] = ContainerParameters,  # noqa: N803 - the recipe's attribute
        inputs: Mapping[str, Declared] | None = None,
        outputs: Mapping[str, Declared] | None = None,
        network: bool = False,
    ) -> None:
        self.name = name
        self.description = description
        self.Parameters = Parameters
        self.inputs: Mapping[str, Declared] = inputs or {}
        self.outputs: Mapping[str, Declared] = outputs or {}
        self.any_input = image is None
        self.alike = ("image", "command") if image is None else ()
        self._own = None if image is None else ContainerParameters(image=image, command=list(command), network=network)

    def run(self, job: JobContext[Any]) -> JobResult:
        """Run the container to its end, and keep what it wrote."""
        what = self._own or job.parameters
        given = jsonable(job.parameters) if self._own else jsonable(what.arguments)
        folder = job.folder / "container"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "inputs").mkdir(parents=True)
        (folder / "outputs").mkdir()
        (folder / "parameters.json").write_text(json.dumps(given), encoding="utf-8")
        mounts = {folder: "/job:ro", folder / "outputs": "/job/outputs"}
        for name in job.inputs:
            path = job.file(name)
            (folder / "inputs" / name).mkdir() if path.is_dir() else (folder / "inputs" / name).touch()
            mounts[path] = f"/job/inputs/{name}:ro"
        engine = find_engine()
        _remove(engine, job.id)
        try:
            code = subprocess.run(command_line(engine, what, job.id, job.attempt, mounts), check=False).returncode
        finally:
            _remove(engine, job.id)
        if code != 0:
            raise ContainerFailed(
                f"The program in the container ended with exit code {code}.", hint="The output of the job says why."
            )
        return _keep(job, folder / "outputs")


def command_line(
    engine: Sequence[str], what: ContainerParameters, job: str, attempt: int, mounts: Mapping[Path, str]
) -> list[str]:
    """Return the command that runs a container: without rights, without a network unless it asks for one."""
    variables = {
        "MODELOPS_ATTEMPT": str(attempt),
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
    }
    return [
        *(*engine, "run", "--rm", "--name", f"{job}-{attempt}", "--label", f"{_LABEL}={job}"),
        *("--cap-drop", "all", "--security-opt", "no-new-privileges"),
        *(() if what.network else ("--network", "none")),
        *(part for path, at in mounts.items() for part in ("--volume", f"{path}:{at}")),
        *(part for name, value in (variables | what.variables).items() for part in ("--env", f"{name}={value}")),
        *shlex.split(os.environ.get(OPTIONS, "")),
        *(what.image, *what.command),
    ]


def find_engine() -> list[str]:
    """Return the command that runs containers.

    Raises:
        MissingExtra: it is not installed on this machine.
    """
    engine = shlex.split(os.environ.get(COMMAND, "podman")) or ["podman"]
    if shutil.which(engine[0]) is None:
        raise MissingExtra(
            f"Containers are run by '{engine[0]}', which is not installed on the machine of the job.",
            hint="Install podman there, or name another command by the setting `container_command`.",
        )
    return engine


def _remove(engine: Sequence[str], job: str) -> None:
    """Remove what is left of a job's containers: of this attempt, and of one that was killed."""
    listing = [*engine, "ps", "--all", "--quiet", "--filter", f"label={_LABEL}={job}"]
    found = subprocess.run(listing, capture_output=True, text=True, check=False).stdout.split()
    if found:
        stop = [*engine, "rm", "--force", "--time", str(_STOP_S), *found]
        with suppress(OSError):
            subprocess.run(stop, capture_output=True, check=False)


def _keep(job: JobContext[Any], outputs: Path) -> JobResult:
    """Keep what the program wrote as outputs of the job, and return the result that is among it."""
    told = outputs / _RESULT
    try:
        result = JobResult.model_validate_json(told.read_bytes()) if told.is_file() else JobResult()
    except ValidationError as wrong:
        problem = wrong.errors()[0]
        raise InvalidInput(
            f"{_RESULT} is no result of a job: {'.'.join(map(str, problem['loc']))}: {problem['msg']}.",
            hint="It may hold `metrics`, `summary`, `run_id` and `model_version_id`.",
        ) from wrong
    for path in sorted(outputs.rglob("*")):
        if path.is_file() and not path.is_symlink() and path != told:
            job.save_artifact(path, path.relative_to(outputs).as_posix().replace("/", "."))
    return result


recipe = Container("container", "Runs a program in a container.")

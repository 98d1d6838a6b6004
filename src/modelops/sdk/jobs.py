"""Training jobs from Python: `submit_function`, and `submit_job(name, job_type, config, dataset_id)`, the older signature."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.domains.pipelines.packing import pack_function
from modelops.domains.training.schemas import Job, Resources
from modelops.sdk.client import Client


def submit_function(
    function: Callable[..., Any],
    dataset: str | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    requirements: Path | str | None = None,
    recipe: str = "python-function",
    backend: Client | str | None = None,
    name: str | None = None,
    inputs: Mapping[str, str] | None = None,
    **options: Any,
) -> Job:
    """Run a function of your own file as a job: nothing is installed where it runs.

    The file is packed with the local modules that it imports, and stored as an artifact of the job.

        def train(job, depth=3):
            table = job.table()
            with job.start_run("train", {"depth": depth}) as run: ...

        job = submit_function(train, "iris", arguments={"depth": 4}, backend=client)

    Args:
        function: Called with the job (a `JobContext`) and the arguments; it may return a `JobResult`, or some of its members.
        dataset: The data that `job.table()` returns.
        arguments: Keyword arguments, of JSON.
        requirements: A lock of requirements with hashes, where it needs packages that the platform does not have.
        recipe: What calls it: `torch-function` does so in each of several processes.
        backend: A client, a platform's address, or None for the one of the settings.
        name: What to call the job; by default, what the function is called.
        inputs: Further inputs by name, such as `{"base": "model:fraud:3"}`.
        options: What `client.training.submit_job` takes besides.

    Raises:
        InvalidInput: the function is no module's, or its code cannot be read.
        TooLarge: the files are more than an archive takes.
    """
    if not isinstance(backend, Client):
        with Client(backend) as client:
            return submit_function(
                function,
                dataset,
                arguments=arguments,
                requirements=requirements,
                recipe=recipe,
                backend=client,
                name=name,
                inputs=inputs,
                **options,
            )
    if "<" in function.__qualname__:
        raise InvalidInput(
            f"'{function.__qualname__}' is made by another function, and cannot be found by its name.",
            hint="Define it at the top of its file.",
        )
    reference, archive = pack_function(function)
    upload = backend.data.upload_artifact
    code = upload(archive, media_type="application/zstd").digest
    if requirements is not None:
        options["environment"] = upload(Path(requirements), media_type="text/plain").digest
    return backend.training.submit_job(
        recipe,
        dataset,
        parameters={"function": reference, "arguments": dict(arguments or {})},
        inputs={**(inputs or {}), "code": code},
        name=name or function.__name__,
        **options,
    )


def submit_job(
    name: str,
    job_type: str,
    config: Mapping[str, Any] | None = None,
    dataset_id: str | None = None,
    *,
    backend: Client | str | None = None,
    resources: Resources | None = None,
    experiment: str | None = None,
    tags: Mapping[str, str] | None = None,
    queue: str | None = None,
    pool: str | None = None,
    priority: str | None = None,
) -> Job:
    """Queue a job. `client.training` has what follows: `get_job`, `follow_log`, `wait_for_job`, `cancel_job`.

    Args:
        name: What to call it.
        job_type: The recipe that it runs: `client.training.list_recipes()`.
        config: The recipe's parameters.
        dataset_id: The data: a dataset version (`name`, `name:3`, `dsv_…`); by default, the dataset of the job's name.
        backend: A client, a platform's address, or None for the one of the settings. A platform in this process runs jobs
            only as long as a client of it is open.
        resources: Threads, memory, time and shares of GPUs that it may use.
        experiment: Where its runs are tracked; by default, under the job's name.
        tags: Labels.
        queue: A queue of the project; by default the one that gives what is asked for, if a queue's is asked for.
        pool: The pool whose devices it wants; by default any that its queue has a quota of.
        priority: A priority class, for its place in the queue.

    Raises:
        NotFound: there is no such recipe or dataset.
        InvalidInput: the recipe does not take this configuration.
    """
    if not isinstance(backend, Client):
        with Client(backend) as client:
            return submit_job(
                name,
                job_type,
                config,
                dataset_id,
                backend=client,
                resources=resources,
                experiment=experiment,
                tags=tags,
                queue=queue,
                pool=pool,
                priority=priority,
            )
    return backend.training.submit_job(
        job_type,
        dataset_id or name,
        parameters=dict(config or {}),
        resources=resources,
        name=name,
        experiment=experiment,
        tags=tags,
        queue=queue,
        pool=pool,
        priority=priority,
    )

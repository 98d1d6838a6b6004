"""Training jobs from Python by their older signature: `submit_job(name, job_type, config, dataset_id)`."""

from collections.abc import Mapping
from typing import Any

from modelops.domains.training.schemas import Job, Resources
from modelops.sdk.client import Client


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
) -> Job:
    """Queue a job. `client.training` has what follows: `get_job`, `follow_log`, `wait_for_job`, `cancel_job`.

    Args:
        name: What to call it.
        job_type: The recipe that it runs: `client.training.list_recipes()`.
        config: The recipe's parameters.
        dataset_id: The data: a dataset version (`name`, `name:3`, `dsv_…`); by default, the dataset of the job's name.
        backend: A client, a platform's address, or None for the one of the settings. A platform in this process runs jobs
            only as long as a client of it is open.
        resources: Threads, memory and time that it may use.
        experiment: Where its runs are tracked; by default, under the job's name.
        tags: Labels.

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
            )
    return backend.training.submit_job(
        job_type,
        dataset_id or name,
        parameters=dict(config or {}),
        resources=resources,
        name=name,
        experiment=experiment,
        tags=tags,
    )

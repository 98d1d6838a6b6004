"""The client: every domain's methods on one connection."""

from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from modelops.contracts.rest import Rest
from modelops.contracts.settings import Settings, load_settings
from modelops.sdk.connection import connect
from modelops.sdk.platform import Platform
from modelops.sdk.standing import standing_client

if TYPE_CHECKING:
    from modelops.domains.compute.client import Compute
    from modelops.domains.data.client import Data
    from modelops.domains.experiments.client import Experiments
    from modelops.domains.identity.client import Identity
    from modelops.domains.models.client import Models
    from modelops.domains.monitoring.client import Monitoring
    from modelops.domains.pipelines.client import Pipelines
    from modelops.domains.serving.client import Serving
    from modelops.domains.training.client import Training
    from modelops.domains.tuning.client import Tuning
    from modelops.domains.webhooks.client import Webhooks


class Client:
    """A client of a platform. Thread-safe; close it, or use it as a context manager.

    Without a `url` (nor `MODELOPS_URL`) it opens a platform on the home folder in this process: no server is needed, and
    the methods and errors are the same. In a step of a pipeline's run, one that names nothing is the step's own client.

    Args:
        url: The platform's address, such as `http://127.0.0.1:8750`.
        token: An API key or access token; by default `MODELOPS_TOKEN`, or what `mops login` kept.
        project: The project to work in, by name or id; by default the token's own.
        settings: Further settings, by name.

    Raises:
        Unauthenticated, NotFound, …: as the platform answers; every method raises subclasses of `MLOpsError`.
    """

    def __init__(
        self, url: str | None = None, *, token: str | None = None, project: str | None = None, **settings: Any
    ) -> None:
        self.settings: Settings = load_settings(url=url, token=token, project=project, **settings)
        standing = standing_client() if url is None and token is None and project is None else None
        if standing is None:
            self._use(connect(self.settings))
        else:
            self._use(standing.rest)
            self.data, self._shared = standing.data, True

    @classmethod
    def over(cls, rest: Rest, settings: Settings | None = None) -> Self:
        """Return a client on an open connection."""
        client = cls.__new__(cls)
        client.settings = settings or load_settings()
        client._use(rest)
        return client

    _shared = False
    """Whether the connection is another's to close."""

    def _use(self, rest: Rest) -> None:
        self.rest = rest
        self.platform = Platform(rest)

    # A group is loaded at its first use: of all of them together, the payloads alone take a third of a second to load.

    @cached_property
    def identity(self) -> "Identity":
        """Users, keys, projects and tenants."""
        from modelops.domains.identity.client import Identity

        return Identity(self.rest)

    @cached_property
    def data(self) -> "Data":
        """Artifacts and datasets."""
        from modelops.domains.data.client import Data

        return Data(self.rest)

    @cached_property
    def experiments(self) -> "Experiments":
        """Experiments and runs."""
        from modelops.domains.experiments.client import Experiments

        return Experiments(self.rest)

    @cached_property
    def models(self) -> "Models":
        """The registry of models."""
        from modelops.domains.models.client import Models

        return Models(self.rest)

    @cached_property
    def training(self) -> "Training":
        """Recipes and jobs."""
        from modelops.domains.training.client import Training

        return Training(self.rest)

    @cached_property
    def compute(self) -> "Compute":
        """Pools of GPUs and the queues that share them."""
        from modelops.domains.compute.client import Compute

        return Compute(self.rest)

    @cached_property
    def serving(self) -> "Serving":
        """Deployments."""
        from modelops.domains.serving.client import Serving

        return Serving(self.rest)

    @cached_property
    def monitoring(self) -> "Monitoring":
        """Traffic and drift."""
        from modelops.domains.monitoring.client import Monitoring

        return Monitoring(self.rest)

    @cached_property
    def pipelines(self) -> "Pipelines":
        """Pipelines, their runs, schedules and triggers."""
        from modelops.domains.pipelines.client import Pipelines

        return Pipelines(self.rest)

    @cached_property
    def tuning(self) -> "Tuning":
        """Studies and their trials."""
        from modelops.domains.tuning.client import Tuning

        return Tuning(self.rest)

    @cached_property
    def webhooks(self) -> "Webhooks":
        """Webhooks."""
        from modelops.domains.webhooks.client import Webhooks

        return Webhooks(self.rest)

    def close(self) -> None:
        """Close the connection; a platform in this process is closed with it."""
        if not self._shared:
            self.rest.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


ModelOpsClient = Client
"""The same by its older name."""

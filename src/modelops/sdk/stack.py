"""The toolkit as one thing: a configuration, the parts it makes, and their common life."""

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

from pydantic import Field, SecretStr

from modelops.contracts.errors import MLOpsError, Unavailable
from modelops.contracts.platform import HealthCheck
from modelops.contracts.schemas import Schema
from modelops.sdk.client import Client
from modelops.sdk.debugging import enable_debug_mode
from modelops.sdk.registry import ModelRegistry
from modelops.sdk.tracking import ExperimentTracker


class MLOpsConfig(Schema):
    """What a stack is made from; a field left out is as `mops config` prints it."""

    url: Annotated[str | None, Field(description="The platform; none means inside this process.")] = None
    token: SecretStr | None = None
    project: str | None = None
    home: Path | None = None
    experiment: Annotated[str | None, Field(description="Where runs go that name no experiment.")] = None
    debug: bool = False


class BaseMLOpsComponent(ABC):
    """A part with a life: started, asked for its health, stopped. A context manager does both ends.

    Stopping a part that was not started, or twice, does nothing.
    """

    name: str = "component"

    @abstractmethod
    def start(self) -> None:
        """Make the part usable. Raises `MLOpsError` where it cannot be."""

    @abstractmethod
    def stop(self) -> None:
        """Release what the part holds."""

    @abstractmethod
    def health_check(self) -> HealthCheck:
        """Tell whether the part is usable now; never raises."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class MLOpsStack(BaseMLOpsComponent):
    """A client, a tracker and a registry on one connection.

    Attributes:
        client: Every domain's methods.
        tracker: `ExperimentTracker`.
        registry: `ModelRegistry`.
    """

    name = "stack"

    def __init__(self, config: MLOpsConfig) -> None:
        self.config = config
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """Return the client. Raises `Unavailable` before the stack is started."""
        if self._client is None:
            raise Unavailable("The stack is not started.", hint="Call `start()`, or use it in a `with` block.")
        return self._client

    def start(self) -> None:
        """Connect, and check that the platform knows the caller."""
        if self._client is not None:
            return
        config = self.config
        if config.debug:
            enable_debug_mode()
        token = config.token.get_secret_value() if config.token else None
        client = Client(config.url, token=token, project=config.project, home=config.home)
        try:
            client.identity.get_me()
        except MLOpsError:
            client.close()
            raise
        self._client = client
        self.tracker = ExperimentTracker(client, experiment=config.experiment)
        self.registry = ModelRegistry(client)

    def stop(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def health_check(self) -> HealthCheck:
        """Ask the platform for its health."""
        try:
            health = self.client.platform.get_health()
        except MLOpsError as error:
            return HealthCheck(name=self.name, healthy=False, detail=str(error))
        wrong = "; ".join(f"{check.name}: {check.detail}" for check in health.checks if not check.healthy)
        return HealthCheck(name=self.name, healthy=health.healthy, detail=wrong or "Every part is in order.")


def create_mlops_stack(config: MLOpsConfig | None = None) -> MLOpsStack:
    """Return a stack, still to be started: `with create_mlops_stack(MLOpsConfig(project="churn")) as stack: …`."""
    return MLOpsStack(config or MLOpsConfig())

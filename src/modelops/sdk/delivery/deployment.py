"""`DeploymentPipeline`: a version checked, approved, deployed, asked, and taken back where it does not answer."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from modelops.contracts.errors import DeploymentError, InvalidInput
from modelops.contracts.schemas import Json, Schema
from modelops.domains.pipelines.schemas import PipelineRun
from modelops.domains.serving.courses.courses import Strategy
from modelops.sdk.client import Client
from modelops.sdk.delivery import steps
from modelops.sdk.pipelines import Template, approval, when
from modelops.sdk.pipelines.whole import WholePipeline


class Config(Schema):
    """What a deployment pipeline is told. `minimum`: metrics of the version, and how high each must be at least."""

    model: str
    deployment: str | None = None
    replicas: int = Field(1, ge=0, le=1_000)
    strategy: Strategy | None = None
    minimum: dict[str, float] = {}
    approval: bool = False
    sample: list[Json] = []
    timeout_s: float = Field(600.0, gt=0, le=86_400)


class DeploymentResult(Schema):
    """What came of a run: what serves, as which revision, and what it answered to the sample."""

    run_id: str
    deployment: str
    model: str
    revision: int
    predictions: list[Json]


class DeploymentPipeline(WholePipeline[DeploymentResult]):
    """Brings a registered version to where it serves. Parameters of a run: `model`, `replicas`.

    Its steps: `check` finds out which version is meant, and holds its metrics to `minimum`; `approval` waits for a person,
    where that is wanted; `deploy` makes or changes the deployment, without an interruption, by its strategy; `verify` asks it
    for the rows of `sample`; `roll_back` goes back to the revision before, where it does not answer.

    Args:
        name: The pipeline's, and the deployment's, where the config names none.
        schedule: When it is to run by itself, such as to follow an alias.
        config: `model` (`name`, `name:3`, `name@alias`); and of these what is wanted: `deployment`, `replicas`, `strategy`,
            `minimum`, `approval`, `sample`, `timeout_s`.
        backend: A client, a platform's address, or None for the one of the settings; opened at the first need.
        project: The project, where `backend` is no client.
        zone: The time zone of the schedule.

    Raises:
        InvalidInput: the config is not whole, or has what is not known.
    """

    failure = DeploymentError

    def __init__(
        self,
        name: str,
        schedule: str | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        backend: Client | str | None = None,
        project: str | None = None,
        zone: str = "UTC",
    ) -> None:
        super().__init__(name, schedule, backend, project, zone)
        try:
            self.config = Config.model_validate(dict(config or {}))
        except ValidationError as wrong:
            first = wrong.errors()[0]
            raise InvalidInput(f"The config's '{'.'.join(map(str, first['loc']))}': {first['msg']}.") from None
        self.deployment = self.config.deployment or name

    @property
    def template(self) -> Template:
        """Return the pipeline as it is registered."""
        config, deployment = self.config, self.deployment
        strategy = {} if config.strategy is None else config.strategy.model_dump(mode="json")

        def write(model: str = config.model, replicas: int = config.replicas) -> None:
            checked: Any = steps.check(model, config.minimum)
            before = [approval(f"Deploy to '{deployment}'?").after(checked)] if config.approval else []
            deployed: Any = steps.deploy.options(after=before, timeout_s=config.timeout_s + 60)(
                checked.ref, deployment, replicas, strategy, config.timeout_s
            )
            verified: Any = steps.verify.options(after=[deployed])(deployment, config.sample)
            with when(deployed.revision & ~verified.ok):
                steps.roll_back.options(even_if="ended")(deployment, deployed.before)

        return Template(write, name=self.name, description=f"Deploys '{config.model}' to '{deployment}'.")

    def _result(self, run: PipelineRun) -> DeploymentResult:
        def read(step: str, output: str) -> Any:
            return self.client.pipelines.read_output(run.id, step, output)

        return DeploymentResult(
            run_id=run.id,
            deployment=self.deployment,
            model=read("check", "ref"),
            revision=read("deploy", "revision"),
            predictions=read("verify", "predictions"),
        )

"""Deploy a model and ask it, in a few lines.

from modelops.sdk.serving import deploy_model

with deploy_model("iris@champion", "iris") as iris:
    print(iris.predict(frame).predictions)
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from modelops.contracts.errors import DeploymentError, InvalidInput, NotFound
from modelops.domains.serving.courses.courses import Strategy
from modelops.domains.serving.courses.strategies import AllAtOnce as AllAtOnce
from modelops.domains.serving.courses.strategies import Analysis as Analysis
from modelops.domains.serving.courses.strategies import BlueGreen as BlueGreen
from modelops.domains.serving.courses.strategies import BusinessMetric as BusinessMetric
from modelops.domains.serving.courses.strategies import Canary as Canary
from modelops.domains.serving.courses.strategies import CanaryStep as CanaryStep
from modelops.domains.serving.courses.strategies import ErrorRate as ErrorRate
from modelops.domains.serving.courses.strategies import Latency as Latency
from modelops.domains.serving.courses.strategies import PredictionShift as PredictionShift
from modelops.domains.serving.courses.strategies import Rolling as Rolling
from modelops.domains.serving.policies.autoscaling import Autoscaling as Autoscaling
from modelops.domains.serving.policies.autoscaling import Off
from modelops.domains.serving.policies.clusterscaling import CronTrigger as CronTrigger
from modelops.domains.serving.policies.clusterscaling import HpaScaling as HpaScaling
from modelops.domains.serving.policies.clusterscaling import KedaScaling as KedaScaling
from modelops.domains.serving.policies.clusterscaling import PrometheusTrigger as PrometheusTrigger
from modelops.domains.serving.policies.clusterscaling import ScalingPolicy
from modelops.domains.serving.rollouts import Rollout
from modelops.domains.serving.schemas import (
    Challenger,
    Deployment,
    DeploymentState,
    Explanations,
    Predictions,
    ServingLimits,
    Shadow,
    Target,
    TrafficPolicy,
)
from modelops.sdk.client import Client

_MISSED = frozenset({DeploymentState.FAILED, DeploymentState.ROLLED_BACK})


class _WithClient:
    """Has a connection, and closes it where it opened it."""

    def __init__(self, client: Client | None = None) -> None:
        self._owns_client = client is None
        self.client = client or Client()

    def close(self) -> None:
        """Close the connection, if it is its own."""
        if self._owns_client:
            self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ModelDeployment(_WithClient):
    """A deployment to work with. Use it as a context manager, or close it; the deployment itself goes on.

    Args:
        name: The deployment's name or id.
        client: The connection; by default one of its own, as the settings say.
    """

    def __init__(self, name: str, client: Client | None = None) -> None:
        super().__init__(client)
        self.name = name

    @property
    def status(self) -> Deployment:
        """The deployment as it is now."""
        return self.client.serving.get_deployment(self.name)

    def deploy(
        self,
        model: str,
        *,
        replicas: int | None = None,
        autoscaling: ScalingPolicy | Off | None = None,
        limits: ServingLimits | None = None,
        traffic: TrafficPolicy | None = None,
        strategy: Strategy | None = None,
        target: Target | str | None = None,
        wait: bool = True,
        timeout_s: float = 300.0,
    ) -> Deployment:
        """Serve a model version (`name`, `name:3`, `name@alias`) under this name: a new deployment, or the existing one
        changed without an interruption.

        Args:
            replicas: How many runtimes; by default 1, or as many as there are.
            autoscaling: What their number follows; `"off"` fixes it again.
            traffic: Challengers and shadows beside the model; by default none, or those that there are.
            strategy: How this change comes about, and later ones; by default all at once, or as it was said before.
            target: Where a new deployment runs, `local` or `kubernetes`; by default where the platform is set to.
            wait: Return only when it serves; of a canary, after its last step.

        Raises:
            DeploymentError: it did not become ready; what served before still does.
        """
        serving = self.client.serving
        try:
            changed = serving.update_deployment(
                self.name,
                model=model,
                replicas=replicas,
                autoscaling=autoscaling,
                limits=limits,
                traffic=traffic,
                strategy=strategy,
            )
        except NotFound:
            if self._exists():  # it is the model that was not found
                raise
            changed = serving.create_deployment(
                self.name,
                model,
                replicas=1 if replicas is None else replicas,
                autoscaling=None if autoscaling == "off" else autoscaling,
                limits=limits,
                traffic=traffic,
                strategy=strategy,
                target=target,
            )
        return self._settled(timeout_s) if wait else changed

    def scale(self, replicas: int, *, wait: bool = True, timeout_s: float = 300.0) -> Deployment:
        """Change the number of runtimes; 0 stops the deployment. Raises ScalesItself where it follows the load."""
        changed = self.client.serving.update_deployment(self.name, replicas=replicas)
        return self.client.serving.wait_until_settled(self.name, timeout_s) if wait else changed

    def rollback(self, revision: int | None = None, *, wait: bool = True, timeout_s: float = 300.0) -> Deployment:
        """Go back to an earlier revision, by default the one that served before. Raises as `deploy`."""
        changed = self.client.serving.rollback_deployment(self.name, revision=revision)
        return self._settled(timeout_s) if wait else changed

    @property
    def rollout(self) -> Rollout:
        """The last rollout: where it stands, what was measured, what came about. Raises NotFound where there was none."""
        return self.client.serving.get_rollout(self.name)

    def promote(self, *, wait: bool = True, timeout_s: float = 300.0) -> Rollout:
        """Skip what is left of the rollout's steps: the candidate takes over now. Raises DeploymentError where nothing is
        rolled out, or the candidate could not take over."""
        revision = self.client.serving.promote_rollout(self.name).revision
        if wait:
            self._settled(timeout_s)
        return self.client.serving.get_rollout(self.name, revision=revision)

    def abort(self, reason: str = "", *, wait: bool = True, timeout_s: float = 300.0) -> Rollout:
        """Give the rollout up: what served before answers all again. Raises DeploymentError where nothing is rolled out."""
        aborted = self.client.serving.abort_rollout(self.name, reason=reason)
        if wait:
            self.client.serving.wait_until_settled(self.name, timeout_s)
        return aborted

    def set_traffic(self, traffic: TrafficPolicy, *, wait: bool = True, timeout_s: float = 300.0) -> Deployment:
        """Split the requests in another way, in the processes that run. Raises as `deploy`."""
        changed = self.client.serving.update_deployment(self.name, traffic=traffic)
        return self._settled(timeout_s) if wait else changed

    def record(self, metric: str, variant: str, values: float | Sequence[float]) -> None:
        """Post values of a business metric that a variant's answers led to, for the analysis of a canary."""
        self.client.serving.record_business_metric(self.name, metric, variant, values)

    def predict(self, rows: Any) -> Predictions:
        """Predict rows: a DataFrame, a table, an array of shape (rows, features), a list of rows, or one row."""
        return self.client.serving.predict(self.name, instances_of(rows))

    def explain(self, rows: Any, *, method: str | None = None, max_evaluations: int | None = None) -> Explanations:
        """Explain the predictions of rows, which are as for `predict`, by additive attributions (SHAP values).

        Args:
            rows: What to explain.
            method: `tree`, `linear`, `exact` or `permutation`; by default, the cheapest that fits the model.
            max_evaluations: For how many rows the model may be asked, to explain one.
        """
        return self.client.serving.explain(
            self.name, instances_of(rows), method=method, max_evaluations=max_evaluations
        )

    def delete(self, *, wait: bool = True, timeout_s: float = 120.0) -> None:
        """End the deployment."""
        self.client.serving.delete_deployment(self.name)
        if wait:
            self.client.serving.wait_until_gone(self.name, timeout_s)

    def _exists(self) -> bool:
        try:
            self.client.serving.get_deployment(self.name)
        except NotFound:
            return False
        return True

    def _settled(self, timeout_s: float) -> Deployment:
        settled = self.client.serving.wait_until_settled(self.name, timeout_s)
        if settled.state in _MISSED:
            raise DeploymentError(
                f"The deployment '{settled.name}' is {settled.state}. {settled.reason or ''}".strip(),
                hint=f"`mops deployments get-replica-log {settled.name}` shows what its replicas said.",
            )
        return settled


class KubernetesDeployment(ModelDeployment):
    """A deployment whose replicas are pods of the platform's cluster. What it should be is said here; `deploy` brings it up.

    with KubernetesDeployment("iris@champion", replicas=2, resources={"cpus": 2, "memory_mb": 1024}) as iris:
        iris.deploy()
        iris.predict(frame)

    Args:
        model_version: The model version: `name`, `name:3` or `name@alias`.
        replicas: How many pods; with `autoscaling`, how many it begins with.
        resources: What each may use, `ServingLimits` or a mapping of its fields, such as `cpus` and `memory_mb`.
        autoscaling: What their number follows: with `Autoscaling` the platform changes it, down to none where the policy says
            so; with `HpaScaling` or `KedaScaling` the cluster does.
        name: The deployment's name; by default that of the model.
        client: The connection; by default one of its own, as the settings say.
    """

    def __init__(
        self,
        model_version: str,
        replicas: int = 1,
        resources: ServingLimits | Mapping[str, Any] | None = None,
        autoscaling: ScalingPolicy | None = None,
        *,
        name: str | None = None,
        client: Client | None = None,
    ) -> None:
        super().__init__(name or re.split("[:@]", model_version)[0], client)
        self.model_version, self.replicas, self.autoscaling = model_version, replicas, autoscaling
        known = resources is None or isinstance(resources, ServingLimits)
        self.resources = resources if known else ServingLimits.model_validate(dict(resources or {}))

    def deploy(self, model: str | None = None, **changes: Any) -> Deployment:
        """Bring it up as it was said, or change what runs under its name; `changes` are arguments of
        `ModelDeployment.deploy` that go before what was said.

        Raises:
            DeploymentError: it did not become ready, or what runs under its name is in no cluster.
            InvalidInput: the platform has no cluster.
        """
        said = {"replicas": self.replicas, "limits": self.resources, "autoscaling": self.autoscaling}
        try:
            if self.status.target is not Target.KUBERNETES:
                raise DeploymentError(
                    f"The deployment '{self.name}' runs on the platform's machine, and stays there.",
                    hint="Choose another name, or delete that deployment first.",
                )
            if {**said, **changes}["autoscaling"] not in (None, "off"):
                said["replicas"] = None  # it has begun, and now follows the policy
        except NotFound:
            changes = {"target": Target.KUBERNETES, **changes}
        return super().deploy(model or self.model_version, **{**said, **changes})


class ModelServing(_WithClient):
    """The deployments of one project, to work with. Use it as a context manager, or close it; they themselves go on.

    with ModelServing() as serving:
        serving.deploy("iris@champion", "iris")
        serving.predict("iris", frame)

    Args:
        client: The connection, and with it the project; by default one of its own, as the settings say.
    """

    def __getitem__(self, name: str) -> ModelDeployment:
        """Return a deployment by name or id, whether it exists yet or not."""
        return ModelDeployment(name, self.client)

    def __iter__(self) -> Iterator[ModelDeployment]:
        """Yield every deployment, by name."""
        cursor = None
        while True:
            page = self.client.serving.list_deployments(order_by="name", cursor=cursor)
            yield from (self[one.name] for one in page.items)
            if (cursor := page.next_cursor) is None:
                return

    def deploy(self, model: str, name: str, **options: Any) -> ModelDeployment:
        """Serve a model version under a name; the options are those of `ModelDeployment.deploy`."""
        deployment = self[name]
        deployment.deploy(model, **options)
        return deployment

    def predict(self, name: str, rows: Any) -> Predictions:
        """Predict rows with a deployment; see `ModelDeployment.predict`."""
        return self[name].predict(rows)

    def set_traffic(self, name: str, traffic: TrafficPolicy, **options: Any) -> Deployment:
        """Split a deployment's requests in another way; see `ModelDeployment.set_traffic`."""
        return self[name].set_traffic(traffic, **options)

    def rollouts(self, name: str) -> list[Rollout]:
        """Return a deployment's latest rollouts, newest first."""
        return self.client.serving.list_rollouts(name).items

    def health(self) -> dict[str, DeploymentState]:
        """Return every deployment's state by its name."""
        return {deployment.name: deployment.status.state for deployment in self}


def traffic_of(
    challengers: Mapping[str, tuple[str, float]] | None = None,
    shadows: Mapping[str, str | tuple[str, float]] | None = None,
    *,
    sticky_header: str | None = None,
    salt: str = "",
) -> TrafficPolicy:
    """Return a traffic policy.

    Args:
        challengers: Model and percentage by the variant's name, such as `{"b": ("iris@challenger", 20)}`.
        shadows: Model, or model and percentage, by the variant's name.
        sticky_header: Whoever sends the same value in this header gets the same variant.
        salt: Another one deals the callers anew.
    """
    mirrored = {name: (one, 100.0) if isinstance(one, str) else one for name, one in (shadows or {}).items()}
    return TrafficPolicy(
        challengers=[
            Challenger(name=name, model=model, share=share) for name, (model, share) in (challengers or {}).items()
        ],
        shadows=[Shadow(name=name, model=model, share=share) for name, (model, share) in mirrored.items()],
        sticky_header=sticky_header,
        salt=salt,
    )


def deploy_model(
    model: str,
    name: str,
    *,
    replicas: int | None = None,
    autoscaling: ScalingPolicy | Off | None = None,
    limits: ServingLimits | None = None,
    challengers: Mapping[str, tuple[str, float]] | None = None,
    shadows: Mapping[str, str | tuple[str, float]] | None = None,
    sticky_header: str | None = None,
    strategy: Strategy | None = None,
    wait: bool = True,
    timeout_s: float = 300.0,
    client: Client | None = None,
) -> ModelDeployment:
    """Serve a model version under a name, and return the deployment to work with.

    Args:
        model: `name` (its latest version), `name:3` or `name@alias`.
        name: Of a new deployment, or of one that is to serve this model from now on.
        replicas: How many runtimes; by default 1, or as many as there are.
        autoscaling: What their number follows, from none to as many as it allows; `"off"` fixes it again.
        challengers: Models that answer a share of the callers, such as `{"b": ("iris@challenger", 20)}`.
        shadows: Models that are asked copies of requests, such as `{"c": "iris:7"}`.
        sticky_header: Whoever sends the same value in this header gets the same model.
        strategy: How the change comes about: `AllAtOnce()`, `Rolling()`, `Canary()`, `BlueGreen()`.
        wait: Return only when it serves; of a canary, after its last step.
        client: The connection; by default one of its own, which closing the deployment closes.

    Raises:
        DeploymentError: it did not become ready; what served before still does.
    """
    deployment = ModelDeployment(name, client)
    try:
        split = challengers is not None or shadows is not None or sticky_header is not None
        traffic = traffic_of(challengers, shadows, sticky_header=sticky_header) if split else None
        deployment.deploy(
            model,
            replicas=replicas,
            autoscaling=autoscaling,
            limits=limits,
            traffic=traffic,
            strategy=strategy,
            wait=wait,
            timeout_s=timeout_s,
        )
    except BaseException:
        deployment.close()
        raise
    return deployment


def rollback_deployment(
    name: str, *, revision: int | None = None, timeout_s: float = 300.0, client: Client | None = None
) -> Deployment:
    """Go back to an earlier revision of a deployment, by default the one that served before, and wait until it serves.

    Raises:
        DeploymentError: there is none, or it did not become ready again.
    """
    deployment = ModelDeployment(name, client)
    try:
        return deployment.rollback(revision, timeout_s=timeout_s)
    finally:
        deployment.close()


def instances_of(rows: Any) -> list[Any]:
    """Return rows as the API takes them: lists of JSON values, or objects by feature name; NaN becomes null.

    Args:
        rows: A pandas or Polars DataFrame, an Arrow table, an array of shape (rows, features) or (features,), a list of
            rows, or one row as an object or a list of values.

    Raises:
        InvalidInput: it is none of these.
    """
    if hasattr(rows, "to_pylist"):
        rows = rows.to_pylist()
    elif hasattr(rows, "to_dicts"):
        rows = rows.to_dicts()
    elif hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        rows = rows.to_dict(orient="records")
    elif hasattr(rows, "tolist"):
        rows = rows.tolist()
    if isinstance(rows, Mapping):
        rows = [rows]
    if isinstance(rows, str | bytes) or not isinstance(rows, Iterable):
        raise InvalidInput(
            f"A {type(rows).__name__} is no table of rows.", hint="Give a DataFrame, an array, or a list of rows."
        )
    listed = list(rows)
    if listed and not any(_is_row(item) for item in listed):
        listed = [listed]
    return [_row(row) for row in listed]


def _is_row(item: Any) -> bool:
    return (isinstance(item, Mapping | Sequence) and not isinstance(item, str | bytes)) or getattr(item, "ndim", 0) == 1


def _row(row: Any) -> Any:
    if hasattr(row, "tolist"):
        row = row.tolist()
    if isinstance(row, Mapping):
        return {str(name): _value(value) for name, value in row.items()}
    return [_value(value) for value in row] if _is_row(row) else row


def _value(value: Any) -> Any:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a NumPy scalar
        value = value.item()
    if isinstance(value, float) and math.isinf(value):
        raise InvalidInput("A value is infinite, which JSON cannot say.", hint="Leave such rows out, or bound them.")
    if isinstance(value, float) and math.isnan(value):
        return None
    return None if type(value).__name__ in ("NAType", "NaTType") else value

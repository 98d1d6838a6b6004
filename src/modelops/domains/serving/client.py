"""The client of serving."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from modelops.contracts.errors import NotFound
from modelops.contracts.rest import Group
from modelops.contracts.schemas import Page
from modelops.domains.data.transfer import save
from modelops.domains.serving.courses.courses import FINAL, RolloutState, Strategy
from modelops.domains.serving.courses.strategies import AllAtOnce
from modelops.domains.serving.errors import NotSettled
from modelops.domains.serving.live.live import LiveStats
from modelops.domains.serving.policies.autoscaling import Off
from modelops.domains.serving.policies.clusterscaling import ScalingPolicy
from modelops.domains.serving.rollouts import AbortRequest, BusinessValues, RecordedValues, Rollout
from modelops.domains.serving.rules import SETTLED
from modelops.domains.serving.schemas import (
    Deployment,
    DeploymentCreate,
    DeploymentUpdate,
    Explanations,
    LogFormat,
    PredictionLogFile,
    Predictions,
    ReplicaLog,
    Revision,
    RollbackRequest,
    ServingLimits,
    Target,
    TrafficPolicy,
)

Rows = Sequence[Sequence[Any] | Mapping[str, Any]]
"""Rows to predict: lists of JSON values in the signature's order, or objects by feature name."""

_POLL_S = 0.2


class Serving(Group):
    """Deployments: which model version answers where. A deployment is named by its name or id.

    Listings take `limit`, `cursor`, `filter` and `order_by`.
    """

    def create_deployment(
        self,
        name: str,
        model: str,
        *,
        replicas: int = 1,
        autoscaling: ScalingPolicy | None = None,
        limits: ServingLimits | None = None,
        traffic: TrafficPolicy | None = None,
        strategy: Strategy | None = None,
        target: Target | str | None = None,
        description: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> Deployment:
        """Deploy a model version (`name`, `name:3`, `name@alias`). It serves once it is `ready`: `wait_until_settled`.

        With `autoscaling`, `replicas` is how many it begins with.

        Args:
            traffic: Challengers and shadows beside the model, and how requests are split among them.
            strategy: How later changes come about: `AllAtOnce()` (the default), `Rolling()`, `Canary()`, `BlueGreen()`.
            target: `local` or `kubernetes`; by default where the platform is set to.
        """
        body = DeploymentCreate(
            name=name,
            model=model,
            replicas=replicas,
            autoscaling=autoscaling,
            limits=limits or ServingLimits(),
            traffic=traffic or TrafficPolicy(),
            strategy=strategy or AllAtOnce(),
            target=None if target is None else Target(target),
            description=description,
            tags=dict(tags or {}),
        )
        return self._post(Deployment, "/deployments", body)

    def list_deployments(self, **page: Any) -> Page[Deployment]:
        """List the project's deployments."""
        return self._list(Deployment, "/deployments", **page)

    def get_deployment(self, deployment: str) -> Deployment:
        """Return a deployment with its replicas as they were last seen."""
        return self._get(Deployment, f"/deployments/{deployment}")

    def update_deployment(
        self,
        deployment: str,
        *,
        model: str | None = None,
        replicas: int | None = None,
        autoscaling: ScalingPolicy | Off | None = None,
        limits: ServingLimits | None = None,
        traffic: TrafficPolicy | None = None,
        strategy: Strategy | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        revision: int | None = None,
    ) -> Deployment:
        """Change a deployment without an interruption; with `revision` (its ETag), only while it is still at that one.

        `autoscaling="off"` fixes the number of replicas, at `replicas` or as many as there are.
        """
        body = DeploymentUpdate(
            model=model,
            replicas=replicas,
            autoscaling=autoscaling,
            limits=limits,
            traffic=traffic,
            strategy=strategy,
            description=description,
            tags=None if tags is None else dict(tags),
        )
        return self._patch(Deployment, f"/deployments/{deployment}", body, revision)

    def delete_deployment(self, deployment: str) -> Deployment:
        """End a deployment. It is gone once nothing of it runs: `wait_until_gone`."""
        return Deployment.model_validate_json(self._rest.request("DELETE", f"/deployments/{deployment}").content)

    def list_revisions(self, deployment: str, **page: Any) -> Page[Revision]:
        """List a deployment's revisions, newest first."""
        return self._list(Revision, f"/deployments/{deployment}/revisions", **page)

    def rollback_deployment(self, deployment: str, *, revision: int | None = None) -> Deployment:
        """Go back to an earlier revision, by default the one that served before."""
        body = RollbackRequest(revision=revision)
        return self._post(Deployment, f"/deployments/{deployment}/rollback", body)

    def list_rollouts(self, deployment: str, **page: Any) -> Page[Rollout]:
        """List a deployment's rollouts with their history, newest first."""
        return self._list(Rollout, f"/deployments/{deployment}/rollouts", **page)

    def get_rollout(self, deployment: str, *, revision: int | None = None) -> Rollout:
        """Return the rollout of a revision, by default the last one."""
        return self._get(Rollout, f"/deployments/{deployment}/rollout", revision=revision)

    def pause_rollout(self, deployment: str) -> Rollout:
        """Keep a rollout where it is; a failing analysis still aborts it."""
        return self._post(Rollout, f"/deployments/{deployment}/rollout/pause", None)

    def resume_rollout(self, deployment: str) -> Rollout:
        """Let a paused rollout go on."""
        return self._post(Rollout, f"/deployments/{deployment}/rollout/resume", None)

    def promote_rollout(self, deployment: str) -> Rollout:
        """Skip what is left of a rollout's steps: the candidate takes over now."""
        return self._post(Rollout, f"/deployments/{deployment}/rollout/promote", None)

    def abort_rollout(self, deployment: str, *, reason: str = "") -> Rollout:
        """Give a rollout up; what served before answers all callers again."""
        return self._post(Rollout, f"/deployments/{deployment}/rollout/abort", AbortRequest(reason=reason))

    def record_business_metric(
        self, deployment: str, metric: str, variant: str, values: float | Sequence[float]
    ) -> RecordedValues:
        """Post values that a variant's answers led to, such as one per order, for the analysis of a canary."""
        listed = [values] if isinstance(values, int | float) else list(values)
        body = BusinessValues(metric=metric, variant=variant, values=listed)
        return self._post(RecordedValues, f"/deployments/{deployment}/business-metrics", body)

    def predict(self, deployment: str, instances: Rows) -> Predictions:
        """Predict rows with the model that serves now."""
        return self._post(Predictions, f"/deployments/{deployment}/predict", {"instances": instances})

    def explain(
        self, deployment: str, instances: Rows, *, method: str | None = None, max_evaluations: int | None = None
    ) -> Explanations:
        """Explain the predictions of rows by additive attributions (SHAP values).

        Args:
            method: `tree`, `linear`, `exact` or `permutation`; by default, the cheapest that fits the model.
            max_evaluations: For how many rows the model may be asked, to explain one; more make estimates better.
        """
        wish = {"method": method, "max_evaluations": max_evaluations}
        return self._post(Explanations, f"/deployments/{deployment}/explain", {"instances": instances, **wish})

    def list_prediction_logs(self, deployment: str, **page: Any) -> Page[PredictionLogFile]:
        """List a deployment's files of logged predictions, newest first."""
        return self._list(PredictionLogFile, f"/deployments/{deployment}/prediction-logs", **page)

    def download_prediction_logs(
        self,
        deployment: str,
        to: Path | str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        variant: str | None = None,
        format: LogFormat | str = LogFormat.PARQUET,  # noqa: A002 - the parameter's name
    ) -> Path:
        """Write the logged predictions of requests that came in a window into a file, as one table.

        Raises:
            NotFound: none are logged there.
        """
        window = {"since": since and since.isoformat(), "until": until and until.isoformat()}
        params = {**window, "variant": variant, "format": LogFormat(format).value}
        path = f"/deployments/{deployment}/prediction-logs/content"
        return save(lambda _: self._rest.stream("GET", path, params=params), Path(to), None, None)

    def read_live_stats(self, deployment: str) -> LiveStats:
        """Return what a deployment does now: rates, latencies, what waits, by variant and by replica."""
        return self._get(LiveStats, f"/deployments/{deployment}/live")

    def get_replica_log(
        self, deployment: str, index: int, *, revision: int | None = None, offset: int = 0, limit: int = 65_536
    ) -> ReplicaLog:
        """Return a piece of a replica's output, from a byte on."""
        params = {"revision": revision, "offset": offset, "limit": limit}
        return self._get(ReplicaLog, f"/deployments/{deployment}/replicas/{index}/log", **params)

    def wait_until_settled(
        self,
        deployment: str,
        timeout_s: float = 300.0,
        *,
        on_change: Callable[[Deployment], None] | None = None,
    ) -> Deployment:
        """Wait until nothing is under way: the deployment is ready, rolled back, failed, stopped or idle, and is returned.

        Args:
            on_change: Called with the deployment at first and whenever its state, reason or replicas change.

        Raises:
            NotSettled: it is not within the time; it goes on nevertheless.
            NotFound: it was deleted meanwhile.
        """
        deadline = time.monotonic() + timeout_s
        shown: tuple[Any, ...] = ()
        while True:
            found = self.get_deployment(deployment)
            if on_change is not None and shown != (look := (found.state, found.reason, found.ready_replicas)):
                shown = look
                on_change(found)
            if found.state in SETTLED:
                return found
            if time.monotonic() > deadline:
                raise NotSettled(
                    f"After {timeout_s:g} s '{found.name}' is still {found.state}. {found.reason or ''}".strip()
                )
            time.sleep(_POLL_S)

    def wait_until_held(self, deployment: str, timeout_s: float = 300.0) -> Rollout:
        """Wait until the last rollout is over, or paused and in need of somebody, and return it.

        Raises:
            NotSettled: it is neither within the time; it goes on nevertheless.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found = self.get_rollout(deployment)
            if found.state in FINAL or found.state is RolloutState.PAUSED:
                return found
            if time.monotonic() > deadline:
                raise NotSettled(f"After {timeout_s:g} s the rollout of '{deployment}' is still {found.state}.")
            time.sleep(_POLL_S)

    def wait_until_gone(self, deployment: str, timeout_s: float = 120.0) -> None:
        """Wait until a deployment that was deleted is gone. Raises `NotSettled` when it is not within the time."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                found = self.get_deployment(deployment)
            except NotFound:
                return
            if time.monotonic() > deadline:
                raise NotSettled(f"After {timeout_s:g} s '{found.name}' is still {found.state}.")
            time.sleep(_POLL_S)

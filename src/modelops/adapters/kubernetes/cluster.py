"""A cluster's API, through lightkube, with objects as plain documents and with the platform's own errors."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import httpx2
from lightkube import ApiError, Client, KubeConfig
from lightkube.codecs import from_dict
from lightkube.core.exceptions import ConfigError
from lightkube.core.generic_client import ALL_NS
from lightkube.generic_resource import create_namespaced_resource
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.authorization_v1 import SelfSubjectAccessReview
from lightkube.resources.autoscaling_v1 import HorizontalPodAutoscaler
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import (
    ConfigMap,
    Event,
    Namespace,
    Pod,
    PodLog,
    ResourceQuota,
    Secret,
    Service,
    ServiceAccount,
)
from lightkube.resources.networking_v1 import NetworkPolicy
from lightkube.resources.policy_v1 import PodDisruptionBudget
from lightkube.types import CascadeType, PatchType

from modelops.adapters.kubernetes.names import MANAGER
from modelops.contracts.errors import Conflict, InvalidInput, MLOpsError, NotFound, PermissionDenied, Unavailable

Document = dict[str, Any]

_TIMEOUT_S = 10.0
_GLOBAL = {"Namespace": Namespace}
_NAMESPACED: dict[str, Any] = {
    "ConfigMap": ConfigMap,
    "Deployment": Deployment,
    "Event": Event,
    "HorizontalPodAutoscaler": HorizontalPodAutoscaler,
    "Job": Job,
    "NetworkPolicy": NetworkPolicy,
    "Pod": Pod,
    "PodDisruptionBudget": PodDisruptionBudget,
    "ResourceQuota": ResourceQuota,
    "ScaledObject": create_namespaced_resource("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects"),
    "Secret": Secret,
    "Service": Service,
    "ServiceAccount": ServiceAccount,
}
_OLD_BUDGET = create_namespaced_resource("policy", "v1beta1", "PodDisruptionBudget", "poddisruptionbudgets")


class Cluster:
    """What an adapter does in a cluster. Thread-safe. Every method raises the platform's errors, `Unavailable` above all
    where the cluster does not answer.

    Args:
        kubeconfig: The file that tells where the cluster is and who asks; None means the pod's own service account, the
            variable `KUBECONFIG` or `~/.kube/config`.
        context: The context of that file; None means its current one.
    """

    def __init__(self, kubeconfig: str | None = None, context: str | None = None) -> None:
        try:
            found = KubeConfig.from_file(kubeconfig) if kubeconfig else KubeConfig.from_env()
            config = found.get(context_name=context)
            self._client: Any = Client(config=config, field_manager=MANAGER, timeout=httpx2.Timeout(_TIMEOUT_S))
        except (ConfigError, OSError) as wrong:
            raise Unavailable(
                f"No cluster is configured: {wrong}",
                hint="Set MODELOPS_KUBECONFIG, or KUBECONFIG, to a kubeconfig file; inside a cluster none is needed.",
            ) from wrong
        self.server = str(self._client.config.cluster.server)
        self._minor: int | None = None
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # else each look at each process would be told

    def close(self) -> None:
        """Release the connections."""
        self._client.close()

    def version(self) -> str:
        """Return the version of the cluster, such as `v1.20.5`."""
        with _as_our_errors("/version"):
            answer = self._client._client._client.get("/version")
            answer.raise_for_status()
            return str(answer.json()["gitVersion"])

    def minor(self) -> int:
        """Return the minor version: 20 of `v1.20.5`."""
        if self._minor is None:
            self._minor = int(self.version().split(".")[1])
        return self._minor

    def get(self, kind: str, name: str, namespace: str | None = None) -> Document | None:
        """Return an object, or None where there is none."""
        try:
            with _as_our_errors(f"{kind} {name}"):
                if kind in _GLOBAL:
                    return dict(self._client.get(_GLOBAL[kind], name).to_dict())
                return dict(self._client.get(self._kind(kind), name, namespace=namespace).to_dict())
        except NotFound:
            return None

    def list(
        self, kind: str, labels: dict[str, str], namespace: str | None = None, fields: dict[str, str] | None = None
    ) -> list[Document]:
        """Return the objects with these labels, of one namespace or of all."""
        with _as_our_errors(f"{kind}s"):
            found = self._client.list(
                self._kind(kind), namespace=namespace or ALL_NS, labels=labels or None, fields=fields or None
            )
            return [dict(one.to_dict()) for one in found]

    def create(self, document: Document) -> Document | None:
        """Create an object; return None where there is one of that name already."""
        try:
            with _as_our_errors(_title(document)):
                return dict(self._client.create(self._typed(document)).to_dict())
        except _Exists:
            return None

    def apply(self, document: Document, *, manager: str = MANAGER) -> Document:
        """Make an object what the document says, as the owner of the fields that it names (server-side apply)."""
        about = document["metadata"]
        namespace = {} if document["kind"] in _GLOBAL else {"namespace": about["namespace"]}
        if document["kind"] == "PodDisruptionBudget" and self.minor() < 21:
            document = {**document, "apiVersion": "policy/v1beta1"}
        with _as_our_errors(_title(document)):
            applied = self._client.patch(
                _GLOBAL.get(document["kind"]) or self._kind(document["kind"]),
                about["name"],
                document,
                patch_type=PatchType.APPLY,
                field_manager=manager,
                force=True,
                **namespace,
            )
            return dict(applied.to_dict())

    def serves(self, group: str) -> bool:
        """Tell whether the cluster has an API group, such as `keda.sh`."""
        with _as_our_errors(f"/apis/{group}"):
            answer = self._client._client._client.get(f"/apis/{group}")
            if answer.status_code == 404:
                return False
            answer.raise_for_status()
            return True

    def annotate(self, document: Document, annotations: dict[str, str | None], *, unchanged: bool = False) -> Document:
        """Set annotations of an object.

        Args:
            unchanged: Only if it still is as the document says.

        Raises:
            Conflict: it changed in the meantime.
        """
        meta: Document = {"annotations": annotations}
        if unchanged:
            meta["resourceVersion"] = document["metadata"]["resourceVersion"]
        return self.patch(document, {"metadata": meta})

    def patch(self, document: Document, change: Document) -> Document:
        """Merge a change into an object."""
        about = document["metadata"]
        with _as_our_errors(_title(document)):
            found = self._client.patch(
                self._kind(document["kind"]),
                about["name"],
                change,
                namespace=about["namespace"],
                patch_type=PatchType.MERGE,
            )
            return dict(found.to_dict())

    def delete(
        self,
        kind: str,
        name: str,
        namespace: str | None = None,
        *,
        grace_s: int | None = None,
        after_its_own: bool = False,
    ) -> None:
        """Delete an object and what belongs to it; one that is not there is no error.

        Args:
            after_its_own: It stays until what belongs to it is gone; otherwise it goes at once, and that after it.
        """
        cascade = CascadeType.FOREGROUND if after_its_own else CascadeType.BACKGROUND
        options: Document = {"grace_period": grace_s, "cascade": cascade}
        try:
            with _as_our_errors(f"{kind} {name}"):
                if kind in _GLOBAL:
                    self._client.delete(_GLOBAL[kind], name, **options)
                else:
                    self._client.delete(self._kind(kind), name, namespace=namespace, **options)
        except NotFound:
            pass

    def log(self, pod: str, namespace: str, *, since: datetime | None, limit: int) -> bytes:
        """Return a container's output with the time before each line, from the second of `since` on.

        Raises:
            NotFound: there is no such pod, or its output is gone.
        """
        params = {
            "timestamps": "true",
            "limitBytes": str(limit),
            "sinceTime": None if since is None else since.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        with _as_our_errors(f"log of Pod {pod}"):
            client = self._client._client  # its own `log` decodes the output, and joins lines as Python's text does
            request = client.build_adapter_request(
                client.prepare_request("get", PodLog, name=pod, namespace=namespace, params=params)
            )
            answer = client.send(request)
            client.raise_for_status(answer)
            return bytes(answer.content)

    def may(self, verb: str, group: str, resource: str) -> bool:
        """Tell whether who asks may do this in every namespace."""
        asked = {"resourceAttributes": {"verb": verb, "group": group, "resource": resource}}
        with _as_our_errors("SelfSubjectAccessReview"):
            review = SelfSubjectAccessReview.from_dict({"spec": asked})
            return bool(self._client.create(review).to_dict()["status"]["allowed"])

    def _kind(self, kind: str) -> Any:
        if kind == "PodDisruptionBudget" and self.minor() < 21:
            return _OLD_BUDGET
        return _NAMESPACED[kind]

    def _typed(self, document: Document) -> Any:
        if document["kind"] == "PodDisruptionBudget" and self.minor() < 21:
            return _OLD_BUDGET.from_dict({**document, "apiVersion": "policy/v1beta1"})
        return from_dict(document)


class _Exists(Conflict):
    """An object of that name exists."""

    code = "kubernetes.exists"


class Refused(MLOpsError):
    """The cluster does not admit an object: a quota, a policy or a webhook says no."""

    code, status, title = "kubernetes.refused", 409, "The cluster refuses"


def configured(kubeconfig: str | None) -> bool:
    """Tell whether a cluster is named anywhere."""
    places = (kubeconfig, os.environ.get("KUBECONFIG"), os.environ.get("KUBERNETES_SERVICE_HOST"))
    return any(places) or os.path.exists(os.path.expanduser("~/.kube/config"))


def _title(document: Document) -> str:
    return f"{document.get('kind', 'object')} {document['metadata']['name']}"


@contextmanager
def _as_our_errors(what: str) -> Iterator[None]:
    try:
        yield
    except ApiError as wrong:
        raise _translated(what, wrong) from wrong
    except httpx2.HTTPError as wrong:
        if (
            isinstance(wrong, httpx2.HTTPStatusError) and wrong.response.status_code == 404
        ):  # the kind itself is unknown
            raise NotFound(f"{what}: the cluster does not have this kind of object.") from wrong
        raise Unavailable(
            f"The cluster did not answer about {what}: {str(wrong) or type(wrong).__name__}.",
            hint="It is asked again; `mops doctor` tells whether it can be reached.",
        ) from wrong


def _translated(what: str, wrong: ApiError) -> MLOpsError:
    code, reason, said = wrong.status.code, wrong.status.reason, (wrong.status.message or "").rstrip(".")
    text = f"{what}: {said}."
    if code == 404:
        return NotFound(text)
    if code == 409:
        return _Exists(text) if reason == "AlreadyExists" else Conflict(text, hint="Try again: it changed meanwhile.")
    if "because it is being terminated" in said:
        return Unavailable(text, hint="The namespace is made anew once it is gone.")
    if code == 403 and ("quota" in said or "admission webhook" in said or "violates PodSecurity" in said):
        return Refused(text, hint="Ask who runs the cluster; a quota is raised or freed, a policy says what it admits.")
    if code in (401, 403):
        return PermissionDenied(text, hint="`mops doctor` tells what the platform may do in the cluster.")
    if code in (400, 413, 422):
        if "admission webhook" in said:
            return Refused(text, hint="Ask who runs the cluster what its policies admit.")
        return InvalidInput(text, hint="The cluster's words say which field it does not take.")
    return Unavailable(text, hint="The cluster is asked again.")

"""Ours: a platform, its registry, deployments, and the access token that callers get; asked through its public faces alone."""

import inspect
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psutil

from benchmarks.serving import tensors
from benchmarks.serving.models import MANY_ROWS, Model, sample
from benchmarks.serving.servers import READY_S, Server, instances, last_words, predictions, running
from benchmarks.startup import answers, free_port
from modelops.domains.serving.schemas import Deployment, DeploymentState, ServingLimits
from modelops.sdk.client import Client
from modelops.sdk.registry import ModelRegistry

LIMITS = ServingLimits(cpus=1, max_concurrency=4_096)
"""One process, as the peers that batch have it: more make smaller batches, and the load needs a core, too."""

PER_CORE = ServingLimits(cpus=os.cpu_count(), max_concurrency=4_096)
LARGE_BATCHES = ServingLimits(cpus=1, max_concurrency=4_096, batch_wait_ms=10)
"""For a model that takes as long for a row as for a hundred: the wait that is opt-in. Ray Serve is set alike."""

TOKEN_S = 3_600
HEADER_LENGTH = "inference-header-content-length"


class NotYet(Exception):
    """The product has no face for this yet."""


@dataclass
class Platform:
    """A platform that runs, and a client of it."""

    client: Client
    url: str
    key: str
    folder: Path
    pid: int

    def register(self, name: str, model: Model, *, compiled: bool = True) -> str:
        """Register a model and return its version's reference. Not `compiled`: scikit-learn itself is to predict."""
        rows, names = sample()
        registry = ModelRegistry(self.client)
        facts = {} if compiled or not can_compile() else {"compile": False}
        version = registry.register_model(name, model.fitted, sample=rows, feature_names=names, **facts)
        if form := getattr(version, "serving", None):
            print(f"{name} is served as {form.runs}: {form.why}", flush=True)
        return f"{name}:{version.version}"

    def deploy(self, name: str, model: str, replicas: int = 1, limits: ServingLimits = LIMITS) -> Deployment:
        """Deploy a version, and wait until it serves."""
        self.client.serving.create_deployment(name, model, replicas=replicas, limits=limits)
        return self.settled(name)

    def remove(self, name: str) -> None:
        """End a deployment, and wait until nothing of it runs."""
        self.client.serving.delete_deployment(name)
        self.client.serving.wait_until_gone(name)

    def settled(self, name: str) -> Deployment:
        """Wait until a deployment is as it is wanted."""
        found = self.client.serving.wait_until_settled(name, READY_S)
        if found.state is not DeploymentState.READY:
            raise RuntimeError(f"The deployment is {found.state}: {found.reason}")
        return found

    def token(self) -> str:
        """Return an access token, such as callers of replicas have."""
        return self.client.identity.issue_token(expires_in_s=TOKEN_S).access_token

    def replica(self, deployment: Deployment) -> Server:
        """Return a deployment's replica, to be asked directly."""
        place = next(replica for replica in deployment.replica_status if replica.ready)
        assert place.endpoint is not None
        assert place.pid is not None
        return self._server("ours", place.endpoint, "/predict", self.token())

    def tensors(self, deployment: Deployment) -> Server:
        """Return a deployment's replica, to be asked by binary tensors.

        Raises:
            NotYet: it knows no Open Inference Protocol.
        """
        asked = self.replica(deployment)
        path = f"/v2/models/{deployment.model}/infer"
        head = tensors.header_of(MANY_ROWS, len(sample()[1]))
        headers = {**asked.headers, "content-type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
        answer = httpx.post(asked.url + path, content=head, headers=headers)
        if answer.status_code == 404:
            raise NotYet(f"a replica has no {path}")
        return replace(asked, path=path, headers=headers, prepare=tensors.prepare, labels=tensors.labels)

    def gateway(self, deployment: str) -> Server:
        """Return the platform's own door to a deployment."""
        return self._server("ours, through the platform", self.url, f"/v1/deployments/{deployment}/predict", self.key)

    def _server(self, name: str, url: str, path: str, secret: str) -> Server:
        headers = {"content-type": "application/json", "authorization": f"Bearer {secret}"}
        return Server(name, url, path, self.folder, instances, predictions, self.pid, headers)


@contextmanager
def platform(folder: Path) -> Iterator[Platform]:
    """Run a platform in a folder; its replicas end with it."""
    folder.mkdir()
    port = free_port()
    home = folder / "home"
    command = [str(Path(sys.prefix) / "bin" / "mops"), "--home", str(home), "up", "--port", str(port)]
    with running(command, folder, {}) as pid:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + READY_S
        while not answers(f"{url}/readyz"):
            if time.monotonic() > deadline or not psutil.pid_exists(pid):
                raise RuntimeError(f"the platform did not start: {last_words(folder)}")
            time.sleep(0.1)
        key = _secret(json.loads((home / "credentials.json").read_text()))
        with Client(url, token=key) as client:
            yield Platform(client, url, key, folder, pid)


def can_compile() -> bool:
    """Tell whether this product compiles models when it registers them."""
    return "compile" in inspect.signature(ModelRegistry.register_model).parameters


def _secret(found: object) -> str:
    """Return the key in the credentials file, wherever in it."""
    if isinstance(found, str):
        return found if found.startswith("mops_") else ""
    if isinstance(found, dict):
        return next(filter(None, map(_secret, found.values())), "")
    return ""

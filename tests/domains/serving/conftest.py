"""A world that does what the test says, and model versions to deploy."""

from dataclasses import dataclass, field, replace

import pytest

from modelops.contracts.errors import Conflict
from modelops.contracts.ports import Deployer, Phase, ReplicaObservation, WorkloadSpec
from modelops.domains.models.flavours import sklearn
from modelops.domains.models.packages import files_of
from modelops.domains.models.schemas import Feature, ModelSignature, PackageFile, VersionCreate
from modelops.domains.serving.replicas.control import ReplicaControl, Reply
from modelops.domains.serving.schemas import ReplicaRevision, RevisionDocument, ServedVariant
from modelops.kernel.work import PlatformUrl


@dataclass
class Workload:
    """A workload of the scripted world."""

    spec: WorkloadSpec
    replicas: dict[int, ReplicaObservation] = field(default_factory=dict)
    log: bytes = b""
    stubborn: bool = False
    begun: dict[int, str] = field(default_factory=dict)


class ScriptedDeployer:
    """A Deployer whose replicas start, become ready and die when the test says so."""

    def __init__(self):
        self.workloads: dict[str, Workload] = {}
        self.obedient = True
        self.refusal = None
        self.unscaled = self.scales = None
        self.history = []
        self.endpoint = "http://127.0.0.1:9/{name}/{index}"

    def apply(self, spec):
        if self.refusal:
            raise self.refusal
        found = self.workloads.setdefault(spec.name, Workload(spec))
        if replace(found.spec, replicas=0, files={}, scaling=None) != replace(spec, replicas=0, files={}, scaling=None):
            raise Conflict(f"The workload {spec.name} exists with another spec.")
        if spec.scaling is not None and self.unscaled:
            raise self.unscaled
        found.spec = spec
        replicas = self.scales if spec.scaling is not None and self.scales is not None else spec.replicas
        for index in range(replicas):
            now = found.replicas.get(index)
            if now is None:
                found.replicas[index] = ReplicaObservation(index, Phase.RUNNING, False, None, 1, 0, None, None)
                found.begun[index] = spec.files.get("revision.json")
                self.history.append(("start", spec.name, index))
            elif now.phase is Phase.EXITED:
                found.begun[index] = spec.files.get("revision.json")
                found.replicas[index] = replace(now, phase=Phase.RUNNING, restarts=now.restarts + 1, reason=None)
        for index in [index for index in found.replicas if index >= replicas]:
            del found.replicas[index]
            self.history.append(("end", spec.name, index))
        if self.obedient:
            self.ready(spec.name)

    def observe(self, name):
        found = self.workloads.get(name)
        return [found.replicas[index] for index in sorted(found.replicas)] if found else []

    def scaled(self, name):
        found = self.workloads[name]
        if found.spec.scaling is None:
            return None
        return found.spec.replicas if self.scales is None else self.scales

    def log(self, name, index, *, offset=0, limit=65_536):
        found = self.workloads.get(name)
        return found.log[offset : offset + limit] if found and index in found.replicas else b""

    def remove(self, name, *, grace_s=10.0):
        found = self.workloads.get(name)
        if found is None:
            return True
        if found.stubborn:
            return False
        del self.workloads[name]
        self.history.append(("remove", name))
        return True

    def names(self):
        return sorted(self.workloads)

    def ready(self, name, *indices):
        found = self.workloads[name]
        for index in indices or list(found.replicas):
            if found.replicas[index].phase is Phase.RUNNING:
                endpoint = self.endpoint.format(name=name, index=index)
                found.replicas[index] = replace(found.replicas[index], ready=True, endpoint=endpoint)

    def crash(self, name, *indices, reason="ended with exit code 3"):
        found = self.workloads[name]
        for index in indices or list(found.replicas):
            found.replicas[index] = replace(
                found.replicas[index], phase=Phase.EXITED, ready=False, endpoint=None, reason=reason
            )


class ScriptedControl:
    """Replicas that serve what they are sent at once, later, or not at all, as the test says.

    A replica is known by its endpoint and restarts; a process that started has the document that lay in its folder.
    """

    def __init__(self, deployer):
        self.deployer = deployer
        self.serving, self.sent, self.failures = {}, {}, {}
        self.obedient, self.away, self.broken = True, False, None
        self.history, self.tokens = [], []

    def read(self, endpoints, token):
        self.tokens.append(token)
        known = [not self.away and self._name(endpoint) in self.deployer.workloads for endpoint in endpoints]
        return [Reply(self._state(one) if there else None) for one, there in zip(endpoints, known, strict=True)]

    def send(self, endpoints, token, document):
        self.tokens.append(token)
        for endpoint in endpoints:
            key = self._key(endpoint)
            self.history.append((key, document_of(document)))
            self.sent[key], self.failures[key] = document, self.broken
            if self.obedient and not self.broken:
                self.arrive(endpoint)
        return [Reply()] * len(endpoints)

    def arrive(self, *endpoints):
        for endpoint in endpoints or [endpoint for endpoint, _ in list(self.sent)]:
            key = self._key(endpoint)
            if key in self.sent:
                self.serving[key] = self.sent.pop(key)

    def shares(self):
        """What each replica serves: revision, and shares by variant."""
        found = []
        for name, workload in self.deployer.workloads.items():
            for index in sorted(workload.replicas):
                endpoint = self.deployer.endpoint.format(name=name, index=index)
                found.append(document_of(self.serving.get(self._key(endpoint)) or self._first(endpoint)))
        return found

    @staticmethod
    def _name(endpoint):
        return endpoint.rsplit("/", 2)[1]

    def _key(self, endpoint):
        name, index = endpoint.rsplit("/", 2)[1:]
        return endpoint, self.deployer.workloads[name].replicas[int(index)].restarts

    def _first(self, endpoint):
        name, index = endpoint.rsplit("/", 2)[1:]
        return self.deployer.workloads[name].begun[int(index)]

    def _state(self, endpoint):
        key = self._key(endpoint)
        served = RevisionDocument.model_validate_json(self.serving.get(key) or self._first(endpoint))
        wanted = RevisionDocument.model_validate_json(self.sent[key]) if key in self.sent else served
        failure = self.failures.get(key)
        variants = [
            ServedVariant(name=one.name, role=one.role, share=one.share, model=one.model, version=one.version)
            for one in served.variants
        ]
        return ReplicaRevision(
            serving=served.revision,
            wanted=wanted.revision,
            loading=key in self.sent and not failure,
            failure=failure,
            variants=variants,
        )


def document_of(text):
    """A document in short: its revision, and the share and version of each variant."""
    found = RevisionDocument.model_validate_json(text)
    return found.revision, {one.name: (round(one.share, 3), one.version) for one in found.variants}


@pytest.fixture
def world():
    """The scripted world of a platform: `world(platform)`."""

    def install(platform):
        deployer = ScriptedDeployer()
        platform.place.ports[Deployer] = deployer
        deployer.control = platform.place.ports[ReplicaControl] = ScriptedControl(deployer)
        platform.place.ports[PlatformUrl].set("http://127.0.0.1:1")
        return deployer

    return install


@pytest.fixture
def register():
    """Register a version of a model that nobody loads: `register(client, name)`."""

    def registered(client, name="m"):
        artifact = client.data.upload_artifact(b"a model")
        file = PackageFile(path="model.bin", digest=artifact.digest, size=artifact.size)
        signature = ModelSignature(inputs=[Feature(name="x")])
        body = VersionCreate(name=name, flavour="sklearn", files=[file], signature=signature)
        return client.models.register_version(body)

    return registered


@pytest.fixture(scope="session")
def publish(tmp_path_factory):
    """Register a fitted estimator with its signature: `publish(client, name, estimator, frame)`."""

    def published(client, name, estimator, frame):
        folder = tmp_path_factory.mktemp("package")
        sklearn.flavour.save(estimator, folder)
        files = files_of(folder)
        for file in files:
            client.data.upload_artifact(folder / file.path, digest=file.digest)
        signature = ModelSignature(inputs=[Feature(name=column) for column in frame.columns])
        body = VersionCreate(name=name, flavour="sklearn", files=files, signature=signature, runs_code=True)
        return client.models.register_version(body)

    return published

"""A small platform and real runtime processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelops.contracts import signing
from modelops.domains.models.packages import STATEMENT_TYPE, digest_of, files_of, statement
from modelops.domains.serving.schemas import RevisionDocument, ServingLimits, VariantDocument

AUDIENCE, PROJECT, REPLICA_TOKEN = "modelops", "prj_1", "replica-token"


@dataclass
class Key:
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public(self):
        return self.private.public_key().public_bytes_raw()

    @property
    def name(self):
        return signing.key_id(self.public)

    @property
    def trusted(self):
        return {self.name: signing.encode(self.public)}

    def token(self, *, header=None, **changes):
        claims = {
            "sub": "usr_1",
            "aud": AUDIENCE,
            "project": PROJECT,
            "permissions": ["deployments.predict"],
            "exp": int(time.time()) + 600,
        } | changes
        return jwt.encode(claims, self.private, algorithm="EdDSA", headers={"kid": self.name} | (header or {}))


class Platform:
    """Serves artifacts and keys, takes sketches; counts each (source, sequence) once as the real one does."""

    def __init__(self, port=0):
        self.artifacts, self.keys, self.batches, self.logs = {}, {}, {}, {}
        self.posts = self.downloads = self.key_requests = 0
        self.status, self.answers_lost = 200, 0
        self.changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self, condition, timeout=30):
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self), timeout), "the platform did not see it"

    @property
    def rows(self):
        return sum(batch["rows"] for batch in self.batches.values())

    def _handler(platform):  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path == "/.well-known/jwks.json":
                    platform.key_requests += 1
                    keys = [
                        {"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x} for kid, x in list(platform.keys.items())
                    ]
                    return self._send(200, json.dumps({"keys": keys}).encode())
                platform.downloads += 1
                assert self.headers["Authorization"] == f"Bearer {REPLICA_TOKEN}"
                content = platform.artifacts.get(self.path.removeprefix("/v1/artifacts/"))
                if platform.status != 200:
                    return self._send(platform.status, b"")
                return self._send(404 if content is None else 200, content or b"")

            def do_POST(self):
                assert self.headers["Authorization"] == f"Bearer {REPLICA_TOKEN}"
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path.startswith("/v1/deployments/dep_1/prediction-logs?"):
                    return self._take_log(parse_qs(urlsplit(self.path).query), body)
                assert self.path == "/v1/monitoring/sketches"
                body = json.loads(body)
                with platform.changed:
                    platform.posts += 1
                    for batch in body["batches"]:
                        platform.batches.setdefault((batch["source"], batch["sequence"]), batch)
                    platform.changed.notify_all()
                    lost = platform.answers_lost > 0
                    platform.answers_lost -= lost
                return self._send(502 if lost else 200, b"{}")

            def _take_log(self, named, body):
                if platform.status != 200:
                    return self._send(platform.status, b"")
                platform.logs.setdefault((named["source"][0], int(named["sequence"][0])), body)
                lost = platform.answers_lost > 0
                platform.answers_lost -= lost
                return self._send(502 if lost else 201, b"{}")

            def _send(self, status, content):
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        return Handler


class Process:
    """A runtime process and a client for it."""

    def __init__(self, workdir, env, key):
        self.workdir, self._key = workdir, key
        (workdir / "endpoint.json").unlink(missing_ok=True)
        with (workdir / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error::DeprecationWarning:modelops", "-m", "modelops.runtime", "serve"],
                env={**os.environ, **env, "MODELOPS_WORKDIR": str(workdir)},
                stdout=log,
                stderr=log,
            )
        self.client = None

    @property
    def log(self):
        return (self.workdir / "log").read_text()

    def ready(self):
        endpoint = self.workdir / "endpoint.json"
        until(lambda: endpoint.exists() or self.process.poll() is not None)
        assert endpoint.exists(), self.log
        self.url = json.loads(endpoint.read_text())["url"]
        self.client = httpx.Client(
            base_url=self.url, timeout=60, headers={"Authorization": f"Bearer {self._key.token()}"}
        )
        return self

    def predict(self, instances, **kwargs):
        return self.client.post("/predict", json={"instances": instances}, **kwargs)

    def explain(self, instances):
        answer = self.client.post("/explain", json={"instances": instances})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def close(self):
        if self.client:
            self.client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def until(condition, timeout=90):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


class Bench:
    """Builds packages, documents and processes in a folder of its own."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.folder, self._stack = folder, stack
        self.registry, self.tokens = Key(), Key()
        self.platform = self._started(Platform())
        self._count = 0

    def _started(self, thing):
        self._stack.callback(thing.close)
        return thing

    def package(self, flavour, model, **extra_files):
        """Save a model and upload its files."""
        self._count += 1
        folder = self.folder / f"package-{self._count}"
        folder.mkdir(parents=True)
        flavour.save(model, folder)
        for name, content in extra_files.items():
            (folder / f"{name}.json").write_text(json.dumps(content))
        return self.upload(folder)

    def upload(self, folder):
        files = files_of(folder)
        for file in files:
            self.platform.artifacts[file.digest] = (folder / file.path).read_bytes()
        return files

    def variant(
        self,
        files,
        signature,
        flavour="sklearn",
        *,
        signer=None,
        name="champion",
        role="champion",
        share=100.0,
        **changes,
    ):
        """Return what a document says of one variant, signed as it says before `changes`."""
        fields = {
            "version": changes.pop("version", 3),
            "model_version_id": changes.pop("model_version_id", "mver_1"),
            "flavour": flavour,
            "digest": digest_of(files),
            "files": files,
            "signature": signature,
        }
        payload = statement(name="tumours", project_id=PROJECT, **fields)
        signature = signing.sign((signer or self.registry).private, STATEMENT_TYPE, payload)
        told = {**fields, "model": "tumours", "platform_signature": signature, **changes}
        return VariantDocument(name=name, role=role, share=share, **told)

    def document(self, files, signature, flavour="sklearn", *, signer=None, limits=None, revision=7, **changes):
        of_variant = {name: changes.pop(name) for name in VariantDocument.model_fields if name in changes}
        champion = self.variant(files, signature, flavour, signer=signer, **of_variant)
        return self.of_variants([champion], limits=limits, revision=revision, **changes)

    def of_variants(self, variants, *, limits=None, revision=7, routing=None, **changes):
        routed = {"sticky_header": None, "salt": "", "override_header": "x-modelops-variant"} | (routing or {})
        return RevisionDocument(
            **{
                "deployment_id": "dep_1",
                "deployment": "tumours-live",
                "tenant_id": "ten_1",
                "project_id": PROJECT,
                "revision": revision,
                "variants": variants,
                "routing": routed,
                "trusted_keys": self.registry.trusted,
                "token_keys": self.tokens.trusted,
                "audience": AUDIENCE,
                "limits": limits or ServingLimits(),
                "platform_url": self.platform.url,
                **changes,
            }
        )

    def workdir(self, document):
        self._count += 1
        workdir = self.folder / f"work-{self._count}"
        workdir.mkdir()
        (workdir / "revision.json").write_text(document.model_dump_json())
        (workdir / "token").write_text(REPLICA_TOKEN + "\n")
        return workdir

    def start(self, document, *, workdir=None, **env):
        folders = {"MODELOPS_CACHE": str(self.folder / "cache"), "MODELOPS_SPOOL": str(self.folder / "spool")}
        defaults = {"MODELOPS_FLUSH_S": "0.1", "OMP_NUM_THREADS": "1"}
        return self._started(Process(workdir or self.workdir(document), {**folders, **defaults, **env}, self.tokens))

    def serve(self, document, **kwargs):
        return self.start(document, **kwargs).ready()

    def refused(self, document, **env):
        """Start what must not come up, and return what it said."""
        process = self.start(document, **env)
        assert process.process.wait(60) == 1, process.log
        assert not (process.workdir / "endpoint.json").exists()
        return process.log.splitlines()[-1]


@pytest.fixture
def bench(tmp_path):
    with ExitStack() as stack:
        yield Bench(tmp_path, stack)


@pytest.fixture(scope="module")
def module_bench(tmp_path_factory):
    with ExitStack() as stack:
        yield Bench(tmp_path_factory.mktemp("serving"), stack)


@pytest.fixture(scope="session")
def wait_until():
    return until


@pytest.fixture(scope="session")
def make_platform():
    return Platform

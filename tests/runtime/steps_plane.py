"""A small control plane for workers: steps to claim, artifacts, and what the workers told."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import zstandard

RUN = "run_1"


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def packed(**modules):
    """Return an archive of code: module name -> source."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, source in modules.items():
            content = source.encode()
            info = tarfile.TarInfo(f"{name.replace('.', '/')}.py")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return zstandard.compress(buffer.getvalue())


class Plane:
    """The platform, as a worker sees it. `away` makes it drop every connection."""

    def __init__(self):
        self.artifacts, self.queue, self.reports, self.text, self.beats = {}, [], {}, {}, []
        self.given, self.requests, self.stop, self.told = {}, [], set(), []
        self.over = self.away = False
        self.lock = threading.Condition()
        self.lease_s, self.number = 2.0, 0
        plane = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.answer(lambda path, _body: plane.artifacts[path.split("/")[3]], raw=True)

            def do_POST(self):
                self.answer(plane.post)

            def answer(self, how, raw=False):
                body = self.body()
                if plane.away:
                    self.close_connection = True
                    return
                path = urlsplit(self.path).path
                with plane.lock:
                    plane.requests.append((path, self.headers.get("Idempotency-Key")))
                found = how(path, body)
                content = found if raw else json.dumps(found).encode()
                with suppress(ConnectionError):  # of a worker that is gone
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def body(self):
                if self.headers.get("Transfer-Encoding") == "chunked":
                    parts = []
                    while size := int(self.rfile.readline(), 16):
                        parts.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                    return b"".join(parts)
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def post(self, path, body):
        if path == "/v1/artifacts":
            digest = self.put(body)
            return {
                "digest": digest,
                "size": len(body),
                "media_type": "x/y",
                "created_at": "2026-01-01T00:00:00Z",
                "created_by": "me",
            }
        said = json.loads(body)
        what = path.rsplit("/", 1)[1]
        return {"claim": self.claim, "beat": self.beat, "report": self.report}[what](said)

    def claim(self, said):
        deadline = time.monotonic() + said["wait_s"]
        with self.lock:
            while not self.queue and not self.over and time.monotonic() < deadline:
                self.lock.wait(0.05)
            return self.work(said["most"])

    def work(self, most):
        """Give up to so many steps, with the small values that they take."""
        tasks, self.queue = self.queue[:most], self.queue[most:]
        self.given.update({one["id"]: one for one in tasks})
        refs = [
            ref for one in tasks for refs in one["references"].values() for ref in ([refs] if "type" in refs else refs)
        ]
        small = {
            ref["digest"] for ref in refs if ref["type"] == "json" and len(self.artifacts[ref["digest"]]) <= 16_384
        }
        contents = {digest: self.artifacts[digest].decode() for digest in small}
        return {"tasks": tasks, "over": self.over and not tasks, "contents": contents}

    def beat(self, said):
        with self.lock:
            self.beats.append(said)
            self.wrote(said["wrote"])
            for step, _ in said["returned"]:
                self.queue.append(self.given[step] | {"attempt": self.given[step]["attempt"] + 1})
            self.lock.notify_all()
            return {"stop": sorted(self.stop)}

    def report(self, said):
        with self.lock:
            self.wrote(said["wrote"])
            for one in said["reports"]:
                for name, text in one["contents"].items():
                    assert len(text) <= 16_384
                    one["outputs"][name] = {"type": "json", "digest": self.put(text.encode()), "size": len(text)}
                self.reports.setdefault((one["step"], one["attempt"]), one)
            self.told.append(len(said["reports"]))
            self.lock.notify_all()
            return {"stop": [], "work": self.work(said["most"]) | {"over": False}}

    def wrote(self, pieces):
        for piece in pieces:
            key = piece["step"], piece["attempt"]
            before = self.text.get(key, "")
            assert piece["offset"] <= len(before), piece["offset"]
            self.text[key] = before[: piece["offset"]] + piece["text"]

    def put(self, content):
        self.artifacts[digest_of(content)] = content
        return digest_of(content)

    def add(self, function, inputs=None, *, references=None, outputs=None, **facts):
        """Let a step be claimed, and return its id."""
        with self.lock:
            self.number += 1
            step = f"step_{self.number}"
            self.queue.append(
                {
                    "id": step,
                    "key": f"s[{self.number}]",
                    "attempt": 1,
                    "function": function,
                    "inputs": inputs or {},
                    "references": references or {},
                    "outputs": {"result": "json"} if outputs is None else outputs,
                    "timeout_s": None,
                    "resources": {},
                    "idempotency_key": f"key-{self.number}",
                    "lease_s": self.lease_s,
                }
                | facts
            )
            self.lock.notify_all()
        return step

    def ended(self, step, attempt=None, within_s=60.0):
        """Wait for the report of an attempt; by default the first that is told of: a slow machine's worker may return one."""
        with self.lock:
            assert self.lock.wait_for(lambda: self.found(step, attempt), within_s), f"{step} was not reported"
            return self.found(step, attempt)[0]

    def found(self, step, attempt):
        return [report for key, report in self.reports.items() if key[0] == step and attempt in (None, key[1])]

    def value(self, report, output="result"):
        return json.loads(self.artifacts[report["outputs"][output]["digest"]])

    def finish(self):
        with self.lock:
            self.over = True
            self.lock.notify_all()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Worker:
    """A worker's process."""

    def __init__(self, plane, folder: Path, source, *, archive=None, requirements=None, before=lambda: None):
        folder.mkdir()
        before()
        self.log = folder / "log"
        code = plane.put(packed(code=source) if archive is None else archive)
        lock = None if requirements is None else plane.put(requirements)
        task = {"run_id": RUN, "worker": "w1", "code": {"digest": code, "digests": {}, "requirements": lock}}
        (folder / "steps.json").write_text(json.dumps(task))
        (folder / "token").write_text("t")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "modelops.runtime", "steps"],
                cwd=folder,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "MODELOPS_WORKDIR": str(folder),
                    "MODELOPS_URL": plane.url,
                    "MODELOPS_CACHE": str(folder / "cache"),
                    "MODELOPS_ENVIRONMENTS": str(folder / "environments"),
                },
            )

    def wait(self, within_s=30):
        return self.process.wait(within_s)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

"""A platform as several processes on one PostgreSQL, each of which can be killed and started again."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import suppress

from modelops.sdk.client import Client
from modelops.testing.waiting import wait_for

ADMIN_KEY = "mops_" + "k" * 43


class Process:
    """One `mops server` process."""

    def __init__(self, cluster, kind, number, command):
        self.cluster, self.kind, self.command = cluster, kind, command
        self.name = f"{kind}-{number}"
        self.home = cluster.folder / self.name
        self.log = cluster.folder / f"{self.name}.log"
        self.port = free_port()
        self.process = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self, wait=True):
        option = "--port" if self.kind == "api" else "--probe-port"
        line = [*self.command, "--home", str(self.home), "server", self.kind, option, str(self.port), "--json"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                line, env=self.cluster.environment(), stdout=log, stderr=log, start_new_session=True
            )
        if wait:
            wait_for(self.is_ready, within_s=120)
        return self

    def probe(self, path="/health/ready"):
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as refused:
            return refused.code
        except OSError:
            return 0

    def is_ready(self):
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        return self.probe() == 200

    def kill(self):
        """End it as a crash does, this process alone."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """End it as an orchestrator does, and return its exit code."""
        if self.process is None or self.process.poll() is not None:
            return None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


class Cluster:
    """Processes by name; `url` leads to whichever API answers."""

    def __init__(self, folder, database, **settings):
        self.folder, self.database, self.settings = folder, database, settings
        self.processes = {}
        self.variables = {}
        self.balancer = Balancer()
        self.url = self.balancer.url

    def environment(self):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MODELOPS_")}
        given = {
            "database": self.database,
            "database_pool": "10",
            "secret_key": "the secret key of the cluster",
            "admin_key": ADMIN_KEY,
            "public_url": self.url,
            "lease_ttl_s": "2",
            **self.settings,
        }
        return {**clean, **self.variables, **{f"MODELOPS_{name.upper()}": value for name, value in given.items()}}

    def add(self, kind, number=1, *, start=True, command=(sys.executable, "-m", "modelops.cli")):
        process = Process(self, kind, number, command)
        self.processes[process.name] = process
        if kind == "api":
            self.balancer.ports.append(process.port)
        return process.start() if start else process

    def client(self, **options):
        return Client(self.url, token=ADMIN_KEY, home=self.folder, **options)

    def close(self):
        for process in reversed(self.processes.values()):  # agents last begun end first, with what they run
            process.stop()
        self.balancer.close()


class Balancer:
    """Passes each connection on to the first port that takes it, turn by turn: what stands before several APIs."""

    def __init__(self):
        self.ports = []
        self._turn = 0
        self._closed = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._closed.set()
        self._server.close()

    def _accept(self):
        while not self._closed.is_set():
            try:
                near, _ = self._server.accept()
            except OSError:  # closed, or too many files are open just now
                self._closed.wait(0.05)
                continue
            threading.Thread(target=self._pass_on, args=(near,), daemon=True).start()

    def _pass_on(self, near):
        self._turn += 1
        for number in range(len(self.ports)):
            port = self.ports[(self._turn + number) % len(self.ports)]
            try:
                far = socket.create_connection(("127.0.0.1", port), timeout=2)
            except OSError:
                continue
            with far, near, suppress(OSError):
                shuttle(near, far)
            return
        near.close()


def shuttle(near, far):
    """Pass bytes both ways until one side has no more."""
    far.settimeout(None)
    while True:
        for side in select.select([near, far], [], [])[0]:
            piece = side.recv(65_536)
            if not piece:
                return
            (far if side is near else near).sendall(piece)


def free_port():
    """Return a port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]

"""A platform in a process of its own on this machine: `mops up` as a child, for demonstrations and tests."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from modelops.contracts.errors import Unavailable
from modelops.sdk.client import Client


class LocalPlatform:
    """`mops up` as a child process, which can be killed and started again on the same home and port."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.settings = settings
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.log = home.parent / f"{home.name}.log"

    @property
    def url(self) -> str:
        """Return the address it listens on."""
        return f"http://127.0.0.1:{self.port}"

    def mops(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command of `mops` on this home."""
        command = [sys.executable, "-m", "modelops.cli", "--home", str(self.home), *arguments]
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=check, **options)

    def environment(self) -> dict[str, str]:
        """Return the environment of the platform and of the commands."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MODELOPS_")}
        return {**clean, **{f"MODELOPS_{name.upper()}": value for name, value in self.settings.items()}}

    def start(self, within_s: float = 60) -> None:
        """Start it and wait until it is ready."""
        command = [sys.executable, "-m", "modelops.cli", "--home", str(self.home), "up", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment(), stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + within_s
        while not self._listens():
            if time.monotonic() > deadline:
                raise Unavailable(f"The platform was not ready within {within_s:g} s; its log is {self.log}.")
            time.sleep(0.02)

    def client(self, **options: Any) -> Client:
        """Return the administrator's client of it."""
        return Client(self.url, home=self.home, **options)

    def kill(self) -> None:
        """End it as a crash does: `kill -9`, of the platform alone."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it as Ctrl-C does, and return its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout=90)
        self.process = None
        return code

    def _listens(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise Unavailable(f"The platform ended while it started: {self.log.read_text()[-2000:]}")
        try:
            facts = json.loads((self.home / "lock").read_text())
        except (OSError, ValueError):
            return False
        if facts.get("pid") != self.process.pid or "url" not in facts:
            return False
        self.port = int(facts["url"].rsplit(":", 1)[1])
        return True

"""The README's commands, run as a reader runs them: in a fresh home, in order, each to a good end."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from modelops.testing.process import PlatformProcess

ROOT = Path(__file__).parents[2]


def commands():
    text = (ROOT / "README.md").read_text()
    return [line[2:] for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


def programs():
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.slow
def test_the_tour_works_as_written(tmp_path):
    home = tmp_path / "home"
    platform = PlatformProcess(home)
    binaries = Path(sys.executable).parent
    environment = {
        **platform.environment(),
        "MODELOPS_HOME": str(home),
        "MODELOPS_PORT": "0",
        "PATH": f"{binaries}:{os.environ['PATH']}",
    }
    try:
        for command in commands():
            if command == "mops up":
                platform.start()
                continue
            done = subprocess.run(
                command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            assert "Traceback" not in done.stderr
    finally:
        platform.stop()


@pytest.mark.slow
@pytest.mark.parametrize("program", programs())
def test_the_programs_work_as_written(tmp_path, program):
    environment = {**os.environ, "MODELOPS_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "'loss': 0.1" in done.stdout

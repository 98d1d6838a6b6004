"""The commands and the program of docs/pipelines.md, run as a reader runs them."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelops.testing.process import platform_process

PAGE = (Path(__file__).parents[2] / "docs" / "pipelines.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_works_as_written(tmp_path):
    file, program = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "houses.py").write_text(file)
    with platform_process(tmp_path / "home") as platform, platform.client() as client:
        environment = {
            **platform.environment(),
            "MODELOPS_HOME": str(platform.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

        def run(command):
            done = subprocess.run(
                command, shell=True, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            return done.stdout

        commands = [
            line[2:] for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
        ]
        said = {}
        for command in commands:
            if "list" in command:  # the reader has waited until the approval is asked for
                wait_for(client, lambda run: run.steps.get("awaiting") == 1)
            said[command] = run(command)
        assert "approval" in said["mops pipelines graph houses.py"]
        assert "loading 200 houses" in said["mops pipelines logs latest"]
        assert said["mops pipelines output latest approval comment"].strip() == "fine"
        assert float(said["mops pipelines output latest best"]) == 3.0
        assert "no slope reaches 9" in said["mops pipelines show latest"]
        assert wait_for(client, lambda run: run.state.final).state == "canceled"
        assert run(f'{sys.executable} -c "{program.replace(chr(34), chr(39))}"').strip() == "canceled"


def wait_for(client, there, within_s=60):
    deadline = time.monotonic() + within_s
    while not there(newest := client.pipelines.list_runs(limit=1).items[0]):
        assert time.monotonic() < deadline, (newest, list(client.pipelines.all_steps(newest.id)))
        time.sleep(0.1)
    return newest

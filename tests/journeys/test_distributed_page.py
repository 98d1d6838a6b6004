"""The commands and the program of docs/distributed.md about PyTorch, run in order as a reader runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from modelops.testing.process import platform_process

PAGE = (Path(__file__).parents[2] / "docs" / "distributed.md").read_text()
PART = re.search(r"^## PyTorch$(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE).group(1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_works_as_written(tmp_path):
    with platform_process(tmp_path / "home") as platform:
        environment = {
            **platform.environment(),
            "MODELOPS_HOME": str(platform.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        options = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True, "timeout": 400}
        ran = 0
        for kind, block in re.findall(r"```(console|python)\n(.*?)```", PART, re.DOTALL):
            if kind == "python":
                (tmp_path / "distributed.py").write_text(block)
                commands = [f"{sys.executable} distributed.py"]
            else:
                commands = [line.removeprefix("$ ") for line in block.splitlines()]
            for command in commands:
                done = subprocess.run(command, shell=True, **options)
                assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
                ran += 1
        assert ran == 4
        with platform.client() as client:
            jobs = {job.recipe: job for job in client.training.list_jobs().items}
            assert jobs["torch-function"].result.metrics["loss"] < 0.1
            assert client.models.get_version("digits", 1).metrics["accuracy"] > 0.9

"""The commands and the program of docs/jobs.md, run in order as a reader runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from modelops.testing.process import platform_process

PAGE = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_works_as_written(tmp_path):
    (tmp_path / "numbers.csv").write_text("a,b,target\n" + "".join(f"{n},{n * n % 11},{n % 2}\n" for n in range(90)))
    with platform_process(tmp_path / "home") as platform:
        environment = {
            **platform.environment(),
            "MODELOPS_HOME": str(platform.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        options = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True, "timeout": 180}
        ran = 0
        for kind, block in re.findall(r"```(console|python)\n(.*?)```", PAGE, re.DOTALL):
            if kind == "python":
                (tmp_path / "training.py").write_text(block)
                done = subprocess.run([sys.executable, "training.py"], **options)
                assert done.returncode == 0, done.stdout + done.stderr
                assert done.stdout.splitlines() == [
                    "succeeded {'loss': 0.5} {'rows': 90}",
                    "['notes.txt']",
                ]
                continue
            for line in block.splitlines():
                done = subprocess.run(line.removeprefix("$ "), shell=True, **options)
                assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
                ran += 1
        assert ran == 13
        with platform.client() as client:
            jobs = {job.name: job for job in client.training.list_jobs().items}
            assert jobs["busy"].cpu_seconds > 0.5
            assert jobs["broken"].attempt >= 1
            assert client.models.get_version("even").version == 1

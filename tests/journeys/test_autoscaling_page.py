"""The commands and the program of docs/autoscaling.md, run as a reader runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from modelops.sdk.registry import ModelRegistry
from modelops.testing.process import platform_process

PAGE = (Path(__file__).parents[2] / "docs" / "autoscaling.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_page_works_as_written(tmp_path):
    rows, species = load_iris(return_X_y=True)
    with platform_process(tmp_path / "home") as platform:
        with platform.client() as client:
            ModelRegistry(client).register_model(
                "iris", LogisticRegression(max_iter=1000).fit(rows, species), sample=rows
            )
        environment = {
            **platform.environment(),
            "MODELOPS_HOME": str(platform.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        commands = [
            line[2:] for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
        ]
        assert len(commands) == 5
        for command in commands:
            done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        with platform.client() as client:
            found = client.serving.get_deployment("flowers")
            assert (found.autoscaling, found.replicas) == (None, 1)
        (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, done.stdout.splitlines()[0]) == (0, "[0]"), done.stderr
        with platform.client() as client:
            assert client.serving.get_deployment("flowers").autoscaling is not None
            client.serving.delete_deployment("flowers")
            client.serving.wait_until_gone("flowers")

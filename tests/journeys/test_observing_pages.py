"""The commands and programs of docs/explanations.md and docs/observing.md, run in order as a reader runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from modelops.testing.process import PlatformProcess, platform_process

DOCS = Path(__file__).parents[2] / "docs"
DEPLOY = """
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from modelops.sdk.registry import ModelRegistry
from modelops.sdk.serving import deploy_model
rows, target = load_breast_cancer(return_X_y=True)
model = LogisticRegression(max_iter=1000).fit(rows[:, :2], target)
ModelRegistry().register_model("tumours", model, sample=rows[:, :2])
deploy_model("tumours", "tumours").close()
"""


@pytest.mark.slow
def test_the_pages_work_as_written(tmp_path):
    home = tmp_path / "home"
    environment = {**PlatformProcess(home).environment(), "MODELOPS_HOME": str(home)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(command):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    def read(page):
        said = []
        for kind, block in re.findall(r"```(console|python)\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
            if kind == "python":
                said.append(run([sys.executable, "-W", "error", "-c", block]))
            else:
                said += [run(["bash", "-c", line.removeprefix("$ ")]) for line in block.splitlines()]
        return "\n".join(said)

    with platform_process(home, controller_interval_s="0.1"):
        explained = read("explanations.md")
        run([sys.executable, "-c", DEPLOY])
        observed = read("observing.md")
    assert "tree probability ['0', '1'] 1" in explained
    assert "permutation standard error 0.0" in explained
    assert "champion" in observed
    assert "'input.x0', 'input.x1', 'prediction', 'probability.0', 'probability.1'" in observed

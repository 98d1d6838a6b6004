"""The commands and programs of docs/tuning.md, run in order as a reader runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from modelops.testing.process import PlatformProcess, platform_process

PAGE = Path(__file__).parents[2] / "docs" / "tuning.md"


@pytest.mark.slow
def test_the_page_works_as_written(tmp_path):
    binaries = Path(sys.executable).parent
    home = tmp_path / "home"
    environment = {**PlatformProcess(home).environment(), "MODELOPS_HOME": str(home)}
    environment["PATH"] = f"{binaries}:{os.environ['PATH']}"

    def run(command):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    said: list[str] = []
    with platform_process(home) as platform:
        environment["MODELOPS_URL"] = platform.url
        for kind, block in re.findall(r"```(console|python)\n(.*?)```", PAGE.read_text(), re.DOTALL):
            if kind == "python":
                said.append(run([sys.executable, "-W", "error", "-c", block]))
            else:
                said += [run(["bash", "-c", line.removeprefix("$ ")]) for line in block.splitlines()]
    text = "\n".join(said)
    assert "best: 0" in text or "best: 1" in text
    assert "trials: 30" in text
    assert "accuracy: 0.9" in text
    for name in ("bowl.html", "study.html"):
        assert "</html>" in (tmp_path / name).read_text()

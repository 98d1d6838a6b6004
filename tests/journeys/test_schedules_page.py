"""The commands and programs of docs/schedules.md, run in order as a reader runs them."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelops.testing.process import platform_process

PAGE = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_page_works_as_written(tmp_path):
    (yaml,) = re.findall(r"```yaml\n# nightly.yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "nightly.yaml").write_text(yaml)
    with platform_process(tmp_path / "home") as platform:
        environment = {
            **platform.environment(),
            "MODELOPS_HOME": str(platform.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        said = []

        def run(command):
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            said.append(done.stdout)

        for kind, block in re.findall(r"```(console|python)\n(.*?)```", PAGE, re.DOTALL):
            if kind == "python":
                run([sys.executable, "-c", block])
            else:
                for line in block.splitlines():
                    run(["bash", "-c", line.removeprefix("$ ")])
        text = "\n".join(said)
        assert "02:30:00+0" in text
        assert "whsec_" in text
        assert "202 begun" in text
        with platform.client() as client:
            assert client.pipelines.list_schedule_history("nightly-report").items[0].state == "begun"
            deadline = time.monotonic() + 60
            while not client.pipelines.list_trigger_history("on-new-data").items:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            (begun,) = client.pipelines.list_trigger_history("on-new-data").items
            run_ = client.pipelines.wait_for_run(begun.run_id, within_s=60)
            assert (run_.state, run_.parameters["day"]) == ("succeeded", "numbers")

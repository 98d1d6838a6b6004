"""The commands of the page on storage, run as a reader runs them: in order, each to a good end."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from modelops.testing.process import PlatformProcess

PAGE = Path(__file__).parents[2] / "docs" / "storage.md"


def commands():
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines()]


@pytest.mark.slow
def test_the_page_works_as_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    home = tmp_path / ".modelops"
    platform = PlatformProcess(home)
    binaries = Path(sys.executable).parent
    environment = {
        **platform.environment(),
        "MODELOPS_HOME": str(home),
        "PATH": f"{binaries}:{os.environ['PATH']}",
    }
    said = {}
    try:
        for command in commands():
            if command == "mops up":
                platform.stop()  # takes leave of the process that `mops down` has ended
                platform.start()
                continue
            done = subprocess.run(
                command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            assert "Traceback" not in done.stderr
            said[command] = done.stdout
    finally:
        platform.stop()
    assert "encrypted" in said["mops doctor"]
    assert "1 keys were wrapped" in said["mops data rewrap-keys"]
    assert "completed" in said["mops data list-uploads"]
    assert "nothing refers to 1 of them" in said["mops data collect-garbage"]
    assert not [path for path in (home / "blobs").rglob("*") if path.is_file() and b"a,b,c" in path.read_bytes()]

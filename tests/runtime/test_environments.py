"""Environments: built once per lock, whole or not at all, used by many at once, and removed when they are in nobody's way."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from tests.wheels import make_wheel

from modelops.contracts.errors import MissingExtra
from modelops.runtime import environments
from modelops.runtime.environments import EnvironmentFailed, Environments
from modelops.testing.waiting import wait_for


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


def lock_of(wheels, *lines):
    return f"--no-index\n--find-links {wheels}\n{''.join(lines)}".encode()


def said(python, code):
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_an_environment_has_what_its_lock_names_and_modelops_and_is_built_once(tmp_path, wheels, monkeypatch):
    lock = lock_of(wheels, make_wheel(wheels, "tinything", "1.0", "answer = 42\n"))
    told = []
    python = Environments(tmp_path / "e").use(lock, told.append)
    assert said(python, "import tinything; print(tinything.answer)") == "42"
    same = "import modelops, os; print(os.path.realpath(modelops.__file__))"
    assert said(python, same) == os.path.realpath(sys.modules["modelops"].__file__)
    found = "from modelops.contracts import plugins; print('python-function' in plugins.discover('modelops.recipes'))"
    assert said(python, found) == "True"
    missing = "import importlib.util as u; print([n for n in ('pytest', 'sklearn', 'sqlalchemy') if u.find_spec(n)])"
    assert said(python, missing) == "[]"  # of the platform's own packages, only what modelops always needs
    assert [line for line in told if "building" in line]
    monkeypatch.setattr(environments, "find_uv", lambda: pytest.fail("it was built again"))
    assert Environments(tmp_path / "e").use(lock, told.append) == python


def test_another_lock_is_another_environment(tmp_path, wheels):
    place = Environments(tmp_path / "e")
    first = place.use(lock_of(wheels, make_wheel(wheels, "tinything", "1.0", "answer = 1\n")), print)
    second = place.use(lock_of(wheels, make_wheel(wheels, "tinything", "2.0", "answer = 2\n")), print)
    code = "import tinything; print(tinything.answer)"
    assert (said(first, code), said(second, code)) == ("1", "2")


@pytest.mark.parametrize("flaw", ["hash", "unhashed", "nowhere", "clash", "nonsense"])
def test_a_lock_that_cannot_be_resolved_says_why_and_leaves_nothing(tmp_path, wheels, flaw, capfd):
    line = make_wheel(wheels, "tinything", "1.0")
    lines = {
        "hash": ([line[:-9] + "00000000\n"], "[Hh]ash"),
        "unhashed": (["tinything==1.0\n"], "hash"),
        "nowhere": (["nowhere==3.0 --hash=sha256:" + "0" * 64 + "\n"], "nowhere"),
        "clash": ([line, make_wheel(wheels, "pydantic", "1.0", "raise ImportError('too old')")], "does not run with"),
        "nonsense": (["== what is this\n"], "requirements"),
    }
    wrong, words = lines[flaw]
    with pytest.raises(EnvironmentFailed, match=words):
        Environments(tmp_path / "e").use(lock_of(wheels, *wrong), print)
    assert [path.name for path in (tmp_path / "e").iterdir() if path.is_dir() and path.name != ".cache"] == []


def test_without_uv_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setitem(sys.modules, "uv", None)
    with pytest.raises(MissingExtra) as told:
        Environments(tmp_path / "e").use(b"", print)
    assert "modelops[environments]" in told.value.hint


USE = """
    import sys, time
    from pathlib import Path
    from modelops.runtime.environments import Environments
    lock = Path(sys.argv[2]).read_bytes()
    print("python", Environments(Path(sys.argv[1])).use(lock, lambda text: print(text, flush=True)), flush=True)
    sys.stdin.read()
"""


def using(tmp_path, lock, **env):
    """Start a process that uses the environment of a lock until its input is closed."""
    file = tmp_path / hashlib.sha256(lock).hexdigest()
    file.write_bytes(lock)
    command = [sys.executable, "-c", textwrap.dedent(USE), str(tmp_path / "e"), str(file)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, **pipes, text=True, env=os.environ | env)


def end(process):
    out, _ = process.communicate("")
    return out


def test_many_at_once_build_it_once(tmp_path, wheels):
    lock = lock_of(wheels, make_wheel(wheels, "tinything", "1.0"))
    outs = [end(process) for process in [using(tmp_path, lock) for _ in range(4)]]
    assert sum("building" in out for out in outs) == 1
    assert len({out.rpartition("python ")[2] for out in outs}) == 1


def test_a_builder_that_is_killed_leaves_nothing_half(tmp_path, wheels):
    lock = lock_of(wheels, make_wheel(wheels, "tinything", "1.0"))
    stuck = tmp_path / "bin"
    stuck.mkdir()
    uv = stuck / "uv"  # it begins to build, and never ends
    uv.write_text(
        '#!/bin/sh\nfor last; do true; done\nmkdir -p "$last/bin"; touch "$last/bin/python"; exec sleep 10 >/dev/null\n'
    )
    uv.chmod(0o755)
    builder = using(tmp_path, lock, PATH=f"{stuck}:{os.environ['PATH']}")
    (half,) = wait_for(lambda: list((tmp_path / "e").glob("*.new/bin/python")))
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    assert half.exists()
    python = Environments(tmp_path / "e").use(lock, print)
    assert said(python, "import tinything; print('right')") == "right"
    assert not list((tmp_path / "e").glob("*.new"))


def test_those_not_used_for_longest_go_and_those_in_use_stay(tmp_path, wheels):
    locks = [lock_of(wheels, make_wheel(wheels, f"thing{n}", "1.0")) for n in range(4)]
    user = using(tmp_path, locks[0])
    for line in user.stdout:
        if line.startswith("python "):
            used = line.split()[1]
            break
    for lock in locks[1:3]:
        end(using(tmp_path, lock))
        time.sleep(0.02)  # the clock of files
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(USE).replace("Path(sys.argv[1])", "Path(sys.argv[1]), kept_bytes=0"),
            str(tmp_path / "e"),
            str(tmp_path / hashlib.sha256(locks[1]).hexdigest()),
        ],
        stdin=subprocess.DEVNULL,
        check=True,
    )
    assert process.returncode == 0
    left = [path for path in (tmp_path / "e").iterdir() if (path / "used").exists()]
    assert len(left) == 3  # nothing is removed unless something is built
    fresh = Environments(tmp_path / "e", kept_bytes=0).use(locks[3], print)
    left = {path for path in (tmp_path / "e").iterdir() if (path / "used").exists()}
    assert {str(path / "bin" / "python") for path in left} == {used, str(fresh)}
    assert said(used, "import thing0; print('right')") == "right"
    end(user)

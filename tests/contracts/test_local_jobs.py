import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress

import psutil
import pytest

from modelops.adapters.local import LocalJobBackend, processes
from modelops.contracts.errors import StorageFull, Unavailable
from modelops.contracts.ports import JobBackend, JobSpec, Limits, Phase
from modelops.testing.job_backend import SLEEP, STUBBORN, JobBackendContract
from modelops.testing.waiting import wait_for

NAME = "job_0193c4-1"
MIB = 1024 * 1024


def end_all(backend):
    for name in backend.names():
        backend.stop(name, grace_s=0)
    for name in backend.names():
        wait_for(lambda name=name: backend.observe(name).ended)


class TestLocalJobBackend(JobBackendContract):
    @pytest.fixture
    def backend(self, tmp_path):
        backend = LocalJobBackend(tmp_path / "jobs")
        yield backend
        end_all(backend)

    @pytest.fixture
    def python(self):
        return sys.executable


@pytest.fixture
def root(tmp_path):
    return tmp_path / "jobs"


@pytest.fixture
def backend(root):
    backend = LocalJobBackend(root)
    yield backend
    end_all(backend)


def job(code, name=NAME, **limits):
    return JobSpec(name, (sys.executable, "-c", textwrap.dedent(code)), limits=Limits(**limits))


def finish(backend, name=NAME):
    return wait_for(lambda: seen if (seen := backend.observe(name)).ended else None)


def start_and_wait(backend, spec):
    backend.start(spec)
    wait_for(lambda: b"up" in backend.log(spec.name) and backend.observe(spec.name).phase is Phase.RUNNING)


def supervisor_pid(root, name=NAME):
    return json.loads((root / name / "state.json").read_bytes())["supervisor_pid"]


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(pids):
    return wait_for(lambda: not any(alive(pid) for pid in pids), within_s=20)


FAMILY = """
    import os, subprocess, sys, time
    sleeper = [sys.executable, '-c', 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)']
    same_group = subprocess.Popen(sleeper)
    own_session = subprocess.Popen(sleeper, start_new_session=True)
    # A grandchild whose parent is gone.
    code = 'import subprocess, sys; print(subprocess.Popen(sys.argv[1:], start_new_session=True, stdout=2).pid)'
    orphan = subprocess.run([sys.executable, '-c', code, *sleeper], stdout=subprocess.PIPE, text=True).stdout
    print(same_group.pid, own_session.pid, orphan.strip(), 'up', flush=True)
"""


def family_of(backend):
    return [int(word) for word in backend.log(NAME).split()[:3]]


def test_it_is_a_job_backend(backend):
    assert isinstance(backend, JobBackend)


def test_another_backend_sees_and_stops_what_this_one_started(backend, root):
    start_and_wait(backend, job(SLEEP))
    other = LocalJobBackend(root)
    assert other.observe(NAME) == backend.observe(NAME)
    other.start(job(SLEEP))
    other.stop(NAME, grace_s=0, reason="from elsewhere")
    assert finish(backend).reason == "from elsewhere"


def test_no_orphans_after_the_end(backend):
    backend.start(job(FAMILY))
    assert finish(backend).exit_code == 0
    assert gone(family_of(backend))


def test_no_orphans_after_a_stop(backend):
    start_and_wait(backend, job(FAMILY + "\n    time.sleep(600)"))
    backend.stop(NAME, grace_s=10)
    assert finish(backend).reason == "stopped on request"
    assert gone(family_of(backend))


def test_a_killed_supervisor_takes_everything_along_and_the_job_is_lost(backend, root):
    start_and_wait(backend, job(FAMILY + "\n    time.sleep(600)"))
    pid = backend.observe(NAME).pid
    os.kill(supervisor_pid(root), signal.SIGKILL)
    seen = finish(backend)
    assert seen.phase is Phase.LOST
    assert seen.reason == "was lost: its supervisor was killed, and the process with it"
    assert (seen.pid, seen.exit_code) == (pid, None)
    assert gone([pid, *family_of(backend)])
    backend.start(job(FAMILY))
    assert LocalJobBackend(root).observe(NAME) == seen
    assert backend.log(NAME).count(b"up") == 1


def test_a_killed_process_has_ended_by_a_signal(backend):
    start_and_wait(backend, job(SLEEP))
    os.kill(backend.observe(NAME).pid, signal.SIGKILL)
    seen = finish(backend)
    assert (seen.phase, seen.exit_code) == (Phase.EXITED, None)
    assert "SIGKILL" in seen.reason


def test_sigterm_to_the_supervisor_ends_the_job_in_order(backend, root):
    start_and_wait(backend, job(SLEEP))
    os.kill(supervisor_pid(root), signal.SIGTERM)
    assert finish(backend).reason == "its supervisor was told to stop"


def test_a_job_survives_its_starter(root, backend):
    starter = f"""
        import os, signal, sys
        from pathlib import Path
        from modelops.adapters.local import LocalJobBackend
        from modelops.contracts.ports import JobSpec
        backend = LocalJobBackend(Path({str(root)!r}))
        backend.start(JobSpec({NAME!r}, (sys.executable, "-c", "import time; time.sleep(0.5); print('done')")))
        os.killpg(0, signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(starter)], start_new_session=True)
    assert done.returncode == -9
    assert finish(backend).exit_code == 0
    assert backend.log(NAME) == b"done\n"


def test_a_starter_killed_at_any_moment_never_doubles_and_never_forgets(root, backend, tmp_path):
    """The starter dies 0 to 60 ms after it begins to start; then the platform comes back and starts what it must."""
    record = tmp_path / "record"
    code = f"import os; os.write(os.open({str(record)!r}, os.O_WRONLY|os.O_CREAT|os.O_APPEND), b'ran\\n')"
    starter = """
        import os, sys
        from pathlib import Path
        from modelops.adapters.local import LocalJobBackend
        from modelops.contracts.ports import JobSpec
        backend = LocalJobBackend(Path(sys.argv[1]))
        for line in sys.stdin:
            name, code = line.rstrip("\\n").split(" ", 1)
            pid = os.fork()
            if not pid:
                os.setsid()
                print(os.getpid(), flush=True)
                backend.start(JobSpec(name, (sys.executable, "-c", code)))
                os._exit(0)
            os.waitpid(pid, 0)
            print("gone", flush=True)
    """
    argv = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(starter), str(root)]
    rounds = 25
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for number in range(rounds):
            name = f"job_{number}-1"
            process.stdin.write(f"{name} {code}\n")
            process.stdin.flush()
            pid = int(process.stdout.readline())
            until = time.perf_counter() + number * 0.06 / rounds
            while time.perf_counter() < until:
                pass  # the moment of the blow is the point of the test; nothing is waited for
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            assert process.stdout.readline() == "gone\n"
            backend.start(JobSpec(name, (sys.executable, "-c", code)))
        process.stdin.close()
    for number in range(rounds):
        assert finish(backend, f"job_{number}-1").exit_code == 0
    assert record.read_text() == "ran\n" * rounds


def test_a_supervisor_killed_at_any_moment_never_doubles_and_never_forgets(root, backend, tmp_path, monkeypatch):
    """The supervisor dies 0 to 30 ms after it went to the background; then the platform starts the job again."""
    monkeypatch.setattr(processes, "STARTING_S", 0.0)
    rounds = 20
    for number in range(rounds):
        name, record = f"job_{number}-1", tmp_path / f"record{number}"
        spec = job(
            f"import os; os.write(os.open({str(record)!r}, os.O_WRONLY|os.O_CREAT|os.O_APPEND), b'ran\\n')", name
        )
        backend.start(spec)
        until = time.perf_counter() + number * 0.03 / rounds
        while time.perf_counter() < until:
            pass  # as above
        for process in psutil.process_iter(["cmdline"]):
            if str(root / name) in (process.info["cmdline"] or ()):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        backend.start(spec)
        seen = finish(backend, name)
        ran = record.read_text() if record.exists() else ""
        assert ran in (("ran\n",) if seen.exit_code == 0 else ("", "ran\n"))
        assert (seen.phase, seen.exit_code) in ((Phase.EXITED, 0), (Phase.LOST, None))


def test_many_starters_at_once_start_one(root, backend, tmp_path):
    record = tmp_path / "record"
    code = f"import os; os.write(os.open({str(record)!r}, os.O_WRONLY|os.O_CREAT|os.O_APPEND), b'ran\\n')"
    starter = """
        import sys
        from pathlib import Path
        from modelops.adapters.local import LocalJobBackend
        from modelops.contracts.ports import JobSpec
        backend = LocalJobBackend(Path(sys.argv[1]))
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(5):
            backend.start(JobSpec(f"job_{number}-1", (sys.executable, "-c", sys.argv[2])))
    """
    argv = [sys.executable, "-c", textwrap.dedent(starter), str(root), code]
    starters = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    for process in starters:
        assert process.stdout.readline() == b"ready\n"
    for process in starters:
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in starters:
        process.communicate()
        assert process.returncode == 0
    for number in range(5):
        assert finish(backend, f"job_{number}-1").exit_code == 0
    assert record.read_text() == "ran\n" * 5


def test_a_folder_whose_supervisor_never_came_is_started_by_the_next_start(backend, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(processes.ProcessFolder, "_start_supervisor", lambda self: None)
        backend.start(job("print('ran')"))
    assert backend.observe(NAME).phase is Phase.STARTING
    backend.start(job("print('ran')"))
    assert finish(backend).exit_code == 0


def test_a_folder_whose_supervisor_never_came_is_given_up_in_the_end(backend, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(processes.ProcessFolder, "_start_supervisor", lambda self: None)
        patch.setattr(processes, "STARTING_S", 0.0)
        backend.start(job("print('ran')"))
        seen = backend.observe(NAME)
    assert (seen.phase, seen.reason) == (Phase.LOST, "was never started: its supervisor did not come up")
    backend.start(job("print('ran')"))
    assert backend.observe(NAME) == seen
    assert backend.log(NAME) == b""


def test_a_stop_before_the_start_prevents_it(backend, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(processes.ProcessFolder, "_start_supervisor", lambda self: None)
        backend.start(job("print('ran')"))
    backend.stop(NAME, reason="cancelled before it began")
    backend.start(job("print('ran')"))
    seen = finish(backend)
    assert (seen.phase, seen.reason, seen.pid) == (Phase.EXITED, "cancelled before it began", None)
    assert backend.log(NAME) == b""


def test_a_flood_of_output_neither_fills_the_disk_nor_holds_the_job_up(backend, root):
    code = "import os\nfor _ in range(1024): os.write(1, b'x' * (1 << 20))"
    backend.start(job(code, log_bytes=100_000))
    assert finish(backend).exit_code == 0
    assert 100_000 < (root / NAME / "log").stat().st_size < 100_200


def test_memory_shared_by_forked_processes_counts_once(backend):
    """Four processes that share 100 MiB use 100 MiB, not 500."""
    code = """
        import os, time
        data = os.urandom(100 << 20)
        for _ in range(4):
            if os.fork() == 0:
                time.sleep(1.5)
                os._exit(0)
        for _ in range(4):
            os.wait()
    """
    backend.start(job(code, memory_bytes=200 * MIB))
    seen = finish(backend)
    assert (seen.exit_code, seen.reason) == (0, None)


def test_memory_of_children_counts(backend):
    code = """
        import os, time
        for _ in range(4):
            if os.fork() == 0:
                data = os.urandom(40 << 20)
                time.sleep(600)
        print('up', flush=True)
        time.sleep(600)
    """
    backend.start(job(code, memory_bytes=120 * MIB))
    assert finish(backend).reason.startswith("exceeded its memory limit of 120 MiB")


def test_a_job_that_ignores_its_time_limit_is_killed(backend, monkeypatch):
    backend.start(job(STUBBORN, timeout_s=0.5))
    seen = finish(backend)
    assert seen.reason == "exceeded its time limit of 0.5 s (killed: it had not ended 5 s after SIGTERM)"


def test_a_disk_that_fills_up_ends_no_job_and_hides_no_end(small_disk):
    mount = small_disk("512k")
    backend = LocalJobBackend(mount / "jobs")
    backend.start(job("for _ in range(3000): print('x' * 1000)\nraise SystemExit(5)"))
    seen = finish(backend)
    assert (seen.phase, seen.exit_code, seen.reason) == (Phase.EXITED, 5, "ended with exit code 5")
    assert len(backend.log(NAME, limit=10**7)) < 512 * 1024
    with pytest.raises(StorageFull):
        backend.start(job("print()", name="job_next-1"))
    assert backend.names() == [NAME]
    assert [path.name for path in (mount / "jobs").iterdir()] == [NAME]
    backend.remove(NAME)

    backend.start(job("for _ in range(3000): print('x' * 1000)\nimport time; time.sleep(600)"))
    wait_for(lambda: shutil.disk_usage(mount).free == 0)
    backend.stop(NAME, grace_s=10, reason="no room left")
    backend.stop(NAME, grace_s=10, reason="said again")
    assert finish(backend).reason == "no room left"
    supervisor = supervisor_pid(mount / "jobs")
    wait_for(lambda: not psutil.pid_exists(supervisor))


def test_folders_and_files_are_for_their_owner_alone(backend, root):
    spec = job("print()")
    backend.start(JobSpec(NAME, spec.argv, env={"TOKEN": "secret"}, files={"key": "secret"}))
    finish(backend)
    assert {path.stat().st_mode & 0o077 for path in (root / NAME).rglob("*")} == {0}
    assert (root / NAME).stat().st_mode & 0o077 == 0


def test_half_made_folders_of_the_dead_are_swept(root):
    LocalJobBackend(root)
    leftover = root / ".new~999999~1~abcd"
    leftover.mkdir()
    (leftover / "spec.json").touch()
    assert LocalJobBackend(root).names() == []
    assert not leftover.exists()


def test_a_supervisor_is_small_and_idle(backend, root):
    start_and_wait(backend, job(SLEEP))
    process = psutil.Process(supervisor_pid(root))
    assert process.memory_info().rss < 20 * MIB
    assert process.num_threads() == 1
    assert process.terminal() is None
    assert os.getsid(process.pid) == process.pid


def test_a_restart_of_the_machine_is_named_as_the_cause(backend, root, monkeypatch):
    start_and_wait(backend, job(SLEEP))
    os.kill(supervisor_pid(root), signal.SIGKILL)
    monkeypatch.setattr(processes.supervisor, "boot_id", lambda: "another")
    assert finish(backend).reason == "was lost: the machine restarted while it ran"


def test_a_machine_that_starts_no_more_processes_is_told_and_the_next_start_succeeds(backend, monkeypatch):
    def refuse(*_, **__):
        raise BlockingIOError("Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", refuse)
        with pytest.raises(Unavailable):
            backend.start(job("print('ran')"))
    backend.start(job("print('ran')"))
    assert finish(backend).exit_code == 0


def test_a_supervisor_that_cannot_start_leaves_its_last_words(backend, monkeypatch, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('no python here')")
    monkeypatch.setattr(processes.supervisor, "__file__", str(broken))
    monkeypatch.setattr(processes, "STARTING_S", 0.0)
    backend.start(job("print('ran')"))
    assert finish(backend).reason == "was never started: its supervisor did not come up (no python here)"

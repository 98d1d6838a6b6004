"""What a job backend promises."""

import textwrap

import pytest

from modelops.contracts.errors import Conflict, InvalidInput
from modelops.contracts.ports import JobBackend, JobSpec, Limits, Observation, Phase
from modelops.testing.waiting import wait_for

MIB = 1024 * 1024

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print('up', flush=True)
    time.sleep(600)
"""
GRACEFUL = """
    import signal, sys, time
    signal.signal(signal.SIGTERM, lambda *_: (print('drained', flush=True), sys.exit(0)))
    print('up', flush=True)
    time.sleep(600)
"""
HOG = """
    import time
    kept = []
    for _ in range(100):
        kept.append(b'x' * (8 * 1024 * 1024))
        time.sleep(0.01)
    time.sleep(600)
"""


class JobBackendContract:
    """Derive from it and give the fixture `backend`; override `python` where jobs run elsewhere."""

    @pytest.fixture
    def backend(self) -> JobBackend:
        """Return a backend without attempts."""
        raise NotImplementedError("Give a fixture `backend`.")

    @pytest.fixture
    def python(self) -> str:
        """Return how jobs call a Python interpreter."""
        return "python3"

    def job(self, python: str, code: str, name: str = "job_0193c4-1", limits: Limits | None = None) -> JobSpec:
        """Return the spec of a job that runs a piece of Python."""
        return JobSpec(name, (python, "-c", textwrap.dedent(code)), limits=limits or Limits())

    def finish(self, backend: JobBackend, name: str = "job_0193c4-1") -> Observation:
        """Wait until the job has ended, and return what is seen of it."""
        return wait_for(lambda: seen if (seen := backend.observe(name)).ended else None)

    def started(self, backend: JobBackend, spec: JobSpec) -> None:
        """Start a job that says `up`, and wait until it does."""
        backend.start(spec)
        wait_for(lambda: b"up" in backend.log(spec.name) and backend.observe(spec.name).phase is Phase.RUNNING)

    def test_a_job_runs_to_its_end(self, backend: JobBackend, python: str) -> None:
        """It ends with exit code 0, its output is kept, and what it used is told."""
        backend.start(self.job(python, "import sys; print('out'); print('err', file=sys.stderr)"))
        seen = self.finish(backend)
        assert (seen.phase, seen.exit_code, seen.reason) == (Phase.EXITED, 0, None)
        assert seen.started_at is not None
        assert seen.finished_at is not None
        assert seen.finished_at >= seen.started_at
        assert (seen.peak_memory_bytes or 0) > MIB
        assert (seen.cpu_seconds or 0.0) > 0.0
        assert sorted(backend.log("job_0193c4-1").split()) == [b"err", b"out"]

    def test_an_exit_code_is_told(self, backend: JobBackend, python: str) -> None:
        """Another exit code than 0 comes with a reason."""
        backend.start(self.job(python, "raise SystemExit(3)"))
        seen = self.finish(backend)
        assert (seen.phase, seen.exit_code) == (Phase.EXITED, 3)
        assert "3" in (seen.reason or "")

    def test_a_signal_is_told(self, backend: JobBackend, python: str) -> None:
        """A job that a signal ended has no exit code; the reason names the signal."""
        backend.start(self.job(python, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
        seen = self.finish(backend)
        assert (seen.phase, seen.exit_code) == (Phase.EXITED, None)
        assert "SIGSEGV" in (seen.reason or "")

    def test_a_command_that_is_not_there(self, backend: JobBackend) -> None:
        """What cannot be started ends with a reason that says so."""
        backend.start(JobSpec("job_none-1", ("/no/such/program",)))
        seen = self.finish(backend, "job_none-1")
        assert (seen.phase, seen.exit_code) == (Phase.EXITED, None)
        assert "/no/such/program" in (seen.reason or "")

    def test_what_was_never_started_is_absent(self, backend: JobBackend) -> None:
        """No operation on it is an error."""
        assert backend.observe("job_nobody-1") == Observation(Phase.ABSENT)
        assert backend.log("job_nobody-1") == b""
        backend.stop("job_nobody-1")
        backend.remove("job_nobody-1")
        assert backend.names() == []

    def test_starting_twice_runs_once(self, backend: JobBackend, python: str) -> None:
        """While it runs and after it ended, starting it again does nothing."""
        spec = self.job(python, SLEEP)
        self.started(backend, spec)
        before = backend.observe(spec.name)
        backend.start(spec)
        assert backend.observe(spec.name).pid == before.pid
        backend.stop(spec.name, grace_s=0)
        ended = self.finish(backend)
        backend.start(spec)
        assert backend.observe(spec.name) == ended
        assert backend.log(spec.name).count(b"up") == 1

    def test_the_log_is_read_in_pieces(self, backend: JobBackend, python: str) -> None:
        """`offset` and `limit` are in bytes; past the end there is nothing."""
        backend.start(self.job(python, "print('0123456789')"))
        self.finish(backend)
        assert backend.log("job_0193c4-1", offset=2, limit=3) == b"234"
        assert backend.log("job_0193c4-1", offset=8) == b"89\n"
        assert backend.log("job_0193c4-1", offset=100) == b""

    def test_files_and_environment_arrive(self, backend: JobBackend, python: str) -> None:
        """Files lie in the working directory, for the owner alone; `MODELOPS_WORKDIR` names it."""
        code = """
            import os
            mode = os.stat('spec.json').st_mode & 0o077
            same = os.path.samefile(os.environ['MODELOPS_WORKDIR'], '.')
            print(open('spec.json').read(), os.environ['GREETING'], mode, same, os.environ['OMP_NUM_THREADS'])
        """
        command = (python, "-c", textwrap.dedent(code))
        env, files = {"GREETING": "grüße"}, {"spec.json": "content"}
        backend.start(JobSpec("job_files-1", command, env=env, files=files, limits=Limits(cpus=3)))
        assert self.finish(backend, "job_files-1").exit_code == 0
        assert backend.log("job_files-1").decode().strip() == "content grüße 0 True 3"

    def test_the_platforms_environment_stays_its_own(
        self, backend: JobBackend, python: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Secrets in the platform's environment do not reach a job."""
        monkeypatch.setenv("MODELOPS_SECRET_KEY", "swordfish")
        backend.start(self.job(python, "import os; print(dict(os.environ))"))
        self.finish(backend)
        assert b"swordfish" not in backend.log("job_0193c4-1")

    def test_stop_lets_it_end_by_itself(self, backend: JobBackend, python: str) -> None:
        """It gets SIGTERM first. However it then ends, it was stopped: the reason says so, and no exit code is told."""
        self.started(backend, self.job(python, GRACEFUL))
        backend.stop("job_0193c4-1", grace_s=60, reason="the user cancelled it")
        seen = self.finish(backend)
        assert (seen.phase, seen.exit_code) == (Phase.EXITED, None)
        assert seen.reason == "the user cancelled it"
        assert b"drained" in backend.log("job_0193c4-1")

    def test_stop_ends_what_does_not_listen(self, backend: JobBackend, python: str) -> None:
        """After the grace it is ended by force."""
        self.started(backend, self.job(python, STUBBORN))
        backend.stop("job_0193c4-1", grace_s=0.3, reason="enough")
        seen = self.finish(backend)
        assert (seen.phase, seen.exit_code) == (Phase.EXITED, None)
        assert (seen.reason or "").startswith("enough")

    def test_a_second_stop_may_shorten_the_grace(self, backend: JobBackend, python: str) -> None:
        """Who loses patience need not wait for the first grace."""
        self.started(backend, self.job(python, STUBBORN))
        backend.stop("job_0193c4-1", grace_s=600)
        backend.stop("job_0193c4-1", grace_s=0)
        assert self.finish(backend).phase is Phase.EXITED

    def test_the_time_limit_ends_it(self, backend: JobBackend, python: str) -> None:
        """The reason names the limit."""
        backend.start(self.job(python, SLEEP, limits=Limits(timeout_s=0.5)))
        seen = self.finish(backend)
        assert (seen.phase, seen.exit_code) == (Phase.EXITED, None)
        assert seen.reason == "exceeded its time limit of 0.5 s"

    def test_the_memory_limit_ends_it(self, backend: JobBackend, python: str) -> None:
        """The reason names the limit and what was used."""
        backend.start(self.job(python, HOG, limits=Limits(memory_bytes=64 * MIB)))
        seen = self.finish(backend)
        assert (seen.phase, seen.exit_code) == (Phase.EXITED, None)
        assert (seen.reason or "").startswith("exceeded its memory limit of 64 MiB (used ")
        assert (seen.peak_memory_bytes or 0) > 64 * MIB

    def test_output_beyond_the_limit_is_dropped(self, backend: JobBackend, python: str) -> None:
        """The job runs on, and the log says that something is missing."""
        code = "for _ in range(2000): print('x' * 1000)"
        backend.start(self.job(python, code, limits=Limits(log_bytes=10_000)))
        assert self.finish(backend).exit_code == 0
        log = backend.log("job_0193c4-1", limit=10**6)
        assert 10_000 < len(log) < 10_500
        assert log[10_000:].strip().endswith(b"dropped]")

    def test_names_and_remove(self, backend: JobBackend, python: str) -> None:
        """A job is kept until it is removed, which it can be once it has ended."""
        self.started(backend, self.job(python, SLEEP))
        assert backend.names() == ["job_0193c4-1"]
        with pytest.raises(Conflict):
            backend.remove("job_0193c4-1")
        backend.stop("job_0193c4-1", grace_s=0)
        self.finish(backend)
        backend.remove("job_0193c4-1")
        assert backend.names() == []
        assert backend.observe("job_0193c4-1").phase is Phase.ABSENT

    @pytest.mark.parametrize("name", ["", ".", "..", "../other", "a/b", "/etc", ".hidden", "a\0b", "x" * 300])
    def test_names_that_are_paths_are_refused(self, backend: JobBackend, name: str) -> None:
        """A name never leads out of the backend's place."""
        with pytest.raises(InvalidInput):
            backend.start(JobSpec(name, ("true",)))
        with pytest.raises(InvalidInput):
            backend.remove(name)

    @pytest.mark.parametrize("file", ["", "..", "../x", "a/b", "/etc/passwd"])
    def test_files_that_are_paths_are_refused(self, backend: JobBackend, file: str) -> None:
        """A file's name never leads out of the working directory, and nothing is started."""
        with pytest.raises(InvalidInput):
            backend.start(JobSpec("job_files-1", ("true",), files={file: ""}))
        assert backend.names() == []

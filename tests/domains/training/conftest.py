"""A job backend that does what a test says, and a platform on it."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from modelops.contracts.errors import Conflict
from modelops.contracts.ports import JobBackend, Observation, Phase
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform

CSV = b"a,b,target\n" + b"".join(b"%d,%d,%d\n" % (n, n * n % 11, n % 2) for n in range(60))


class ScriptedBackend:
    """A `JobBackend` whose processes end when the test says so."""

    def __init__(self, clock):
        self.clock = clock
        self.specs, self.seen, self.logs, self.samples = {}, {}, {}, {}
        self.starts, self.stops, self.removed = [], [], []
        self.refusal = None
        self.starts_as = Phase.RUNNING
        self._lock = threading.Lock()

    def start(self, spec):
        if self.refusal is not None:
            raise self.refusal
        with self._lock:
            if spec.name in self.seen:
                return
            self.starts.append(spec.name)
            self.specs[spec.name] = spec
            self.put(spec.name, self.starts_as)

    def observe(self, name):
        return self.seen.get(name, Observation(Phase.ABSENT))

    def stop(self, name, *, grace_s=10.0, reason="stopped on request"):
        self.stops.append((name, reason))
        if name in self.seen and not self.seen[name].ended:
            self.put(name, Phase.EXITED, reason=reason)

    def log(self, name, *, offset=0, limit=65_536):
        return self.logs.get(name, b"")[offset : offset + limit]

    def usage(self, name):
        return self.samples.get(name, [])

    def names(self):
        return sorted(self.seen)

    def remove(self, name):
        if not self.observe(name).ended:
            raise Conflict(f"{name} has not ended.")
        self.removed.append(name)
        self.seen.pop(name, None)

    def put(self, name, phase, **facts):
        """Say what is seen of an attempt from now on."""
        alive = phase in (Phase.RUNNING, Phase.EXITED, Phase.LOST)
        self.seen[name] = Observation(phase, pid=7, started_at=self.clock.now() if alive else None, **facts)

    def end(self, name, code=0, **facts):
        """Let an attempt end by itself."""
        reason = facts.pop("reason", None if code == 0 else f"ended with exit code {code}")
        self.put(name, Phase.EXITED, exit_code=code, reason=reason, peak_memory_bytes=2**40, cpu_seconds=1.5, **facts)


class Stage:
    """A platform on a scripted backend and a clock that stands still."""

    def __init__(self, platform, clock):
        self.platform, self.clock = platform, clock
        self.backend = platform.place.ports[JobBackend] = ScriptedBackend(clock)
        platform.platform.url.set("http://test")
        self.client = platform.client()
        self.training = self.client.training
        self.client.data.create_dataset("d")
        self.client.data.create_dataset_version("d", CSV, format="csv")

    def submit(self, **options):
        return self.training.submit_job("python-function", "d", parameters={"function": "a:b"}, **options)

    def started(self, **options):
        """Submit a job and bring it to run; return its attempt's name too."""
        job = self.submit(**options)
        self.turn(2)
        assert self.training.get_job(job.id).state == "running"
        return job, f"{job.id}-1"

    def turn(self, times=1):
        for _ in range(times):
            self.platform.controller.turn()

    def trainer(self, attempt):
        """Return a client as the trainer of an attempt."""
        return self.platform.client(self.backend.specs[attempt].files["token"])

    def state(self, job):
        found = self.training.get_job(job.id)
        return found.state, found.reason


def some_time_ago():
    """Return a clock that a test may move on by half an hour: tokens are checked by the real time."""
    return VirtualClock(datetime.now(UTC) - timedelta(minutes=30))


@pytest.fixture(params=["sqlite", "postgres"])
def stage(request, tmp_path):
    """A stage on each database; two jobs may run at once."""
    settings = {"max_running_jobs": 2}
    if request.param == "postgres":
        settings["database"] = request.getfixturevalue("postgres_database")
    clock = some_time_ago()
    with running_platform(tmp_path / "home", clock=clock, **settings) as platform:
        yield Stage(platform, clock)


@pytest.fixture
def sqlite_stage(tmp_path):
    """A stage on SQLite, for tests to which the database does not matter."""
    clock = some_time_ago()
    with running_platform(tmp_path / "home", clock=clock, max_running_jobs=2) as platform:
        yield Stage(platform, clock)

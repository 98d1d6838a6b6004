"""The parent of one job or replica: it outlives the platform, and never forgets how the process ended.

Run as `python -I -S supervisor.py <folder>`. It is one file and imports little of the standard library, nothing else,
because there is one for each process: it starts in some 20 ms and holds about 10 MB. It returns at once and goes on in
the background, in a session of its own. In the folder:

| name | what it is |
|---|---|
| `spec.json` | read: `argv`, `env`, `memory_bytes`, `timeout_s`, `log_bytes` |
| `work/` | the process's working directory |
| `lock` | locked for as long as the supervisor lives (an open-file-description lock, see fcntl(2)) |
| `state.json` | written before the process starts, and again with its pid after |
| `usage` | samples of what the process uses: CPU, memory, reading and writing, GPUs (`SAMPLE`) |
| `log` | what the process wrote to stdout and stderr, up to `log_bytes` |
| `stop.json` | read when it appears: `grace_s`, `reason` |
| `exit.json` | written last: how it ended |
| `….reserved` | room on the disk for `stop.json` and `exit.json`, should it be full by then |

The process runs at most once: a supervisor that finds the lock taken, or a `state.json`, leaves. The process dies with
its supervisor, and everything the process started dies with the process.
"""

import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing `typing` would take a quarter of the start
    from typing import Any, NoReturn

TICK_S = 0.2
MEASURE_S = 1.0
TIMEOUT_GRACE_S = 5.0
DEFAULT_GRACE_S = 10.0
REAP_WITHIN_S = 10.0
READ_BYTES = 64 * 1024
READS_PER_TURN = 64
RESERVED_BYTES = 4096
REASON_CHARACTERS = 600
MIB = 1024 * 1024
RAN_OUT = "was ended by the system: the machine, or its container, ran out of memory"
# A kernel option that small systems leave out.
HAS_CHILDREN_FILES = os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
# The order of `struct flock` with 64-bit offsets: l_type, l_whence, l_start, l_len, l_pid.
FLOCK = struct.Struct("hhqqi4x")
# A sample: seconds since the start, CPU seconds, bytes of memory, bytes read and written, percent and bytes of GPUs.
SAMPLE = struct.Struct("<7d")
SAMPLES_AT_FIRST = 500
NO_GPU = (float("nan"), float("nan"))
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class StartError(Exception):
    """The command could not be executed."""


class Spec:
    """What to run, and within which limits."""

    def __init__(self, document: "dict[str, Any]") -> None:
        self.argv: list[str] = document["argv"]
        self.env: dict[str, str] = document["env"]
        self.memory_bytes: int | None = document["memory_bytes"]
        self.timeout_s: float | None = document["timeout_s"]
        self.log_bytes: int = document["log_bytes"]


def main(folder: str) -> int:
    """Supervise the process described in the folder, unless it has or had a supervisor already."""
    os.chdir(folder)
    lock = os.open("lock", os.O_RDWR | os.O_CREAT, 0o600)
    if not acquire(lock) or any(os.path.exists(name) for name in ("state.json", "exit.json", "lost.json")):
        return 0
    if os.fork():
        # Whoever started this waits for it; the lock is held now, and the child of this fork goes on holding it.
        os._exit(0)
    os.setsid()
    started_at = time.time()
    try:
        ending = run(started_at)
    except Exception as error:
        end_descendants()
        ending = {"exit_code": None, "reason": f"its supervisor failed: {error!r}"}
    ending |= {"started_at": started_at, "finished_at": max(started_at, time.time())}
    record(ending)
    return 0


def acquire(lock: int) -> bool:
    """Try to take the lock. Unlike flock(2), this kind can be tested by others without being taken for a moment."""
    try:
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError:
        return False
    return True


def run(started_at: float) -> "dict[str, Any]":
    """Run the process to its end and return how it ended."""
    wake = wake_on_signals()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    state = {"supervisor_pid": os.getpid(), "pid": None, "started_at": started_at, "boot_id": boot_id()}
    # Written before the process exists: from here on, whatever happens, nobody starts it a second time.
    write_json("state.json", state)
    with open("spec.json", "rb") as file:
        spec = Spec(json.load(file))
    if (stop := read_stop()) is not None:
        return {"exit_code": None, "ended_by": "request", "reason": stop[1]}
    source, sink = os.pipe()
    os.set_blocking(source, False)
    try:
        pid = spawn(spec, sink)
    except StartError as error:
        return {"exit_code": None, "reason": str(error)}
    os.close(sink)
    write_json("state.json", state | {"pid": pid, "start_time": start_time(pid)})
    return watch(Guard(pid, spec), Log(source, spec.log_bytes), wake)


def watch(guard: "Guard", log: "Log", wake: int) -> "dict[str, Any]":
    """Wait for the process to end, keeping its output and its limits meanwhile."""
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    poll.register(log.source, select.POLLIN)
    status = None
    oom_kills_before = oom_kills()
    next_tick = time.monotonic()
    while status is None:
        for fd, _ in poll.poll(max(0.0, next_tick - time.monotonic()) * 1000):
            if fd == log.source and not log.copy(READS_PER_TURN):
                poll.unregister(log.source)
            elif fd == wake and any(number != signal.SIGCHLD for number in os.read(wake, 1024)):
                guard.stop("its supervisor was told to stop", DEFAULT_GRACE_S, "request")
        if time.monotonic() >= next_tick:
            guard.tick()
            next_tick = time.monotonic() + TICK_S
        status = reap(guard.pid)
    end_descendants()
    log.finish()
    return guard.ending(status, ran_out=oom_kills() > oom_kills_before)


class Guard:
    """Ends the process when it breaks a limit or somebody asks for it, and knows why it did."""

    def __init__(self, pid: int, spec: Spec) -> None:
        self.pid = pid
        self.spec = spec
        self.usage = Usage(spec.env)
        self.born = time.monotonic()
        self.cause: str | None = None
        self.ended_by: str | None = None
        self.grace_s = 0.0
        self.kill_at: float | None = None
        self.killed = False
        self.peak_bytes = 0
        self.measured = 0.0

    def tick(self) -> None:
        """Compare the process with its limits and with what was asked."""
        now = time.monotonic()
        if (stop := read_stop()) is not None:
            self.stop(stop[1], stop[0], "request")
        if self.spec.timeout_s is not None and now - self.born > self.spec.timeout_s:
            self.stop(f"exceeded its time limit of {self.spec.timeout_s:g} s", TIMEOUT_GRACE_S, "time")
        if self.spec.memory_bytes is not None or now - self.measured > min(MEASURE_S, now - self.born):
            self.measured = now
            pids = descendants(os.getpid())
            self.usage.take(now - self.born, pids, self.check_memory(pids))
        if self.kill_at is not None and now >= self.kill_at:
            self.kill()

    def stop(self, cause: str, grace_s: float, ended_by: str) -> None:
        """Ask the process to end, and set the time to end it by force; asked again, the earlier time counts."""
        kill_at = time.monotonic() + grace_s
        if self.kill_at is None:
            self.cause, self.grace_s, self.kill_at = cause, grace_s, kill_at
            self.ended_by = ended_by
            send(-self.pid, signal.SIGTERM)
        elif kill_at < self.kill_at:
            self.grace_s, self.kill_at = grace_s, kill_at

    def check_memory(self, pids: "list[int]") -> int:
        """Measure the process and all its descendants, and end them when they use too much; return their bytes."""
        limit = self.spec.memory_bytes
        used = sum(resident_bytes(pid) for pid in pids)
        if limit is not None and used > limit:
            # Resident pages that forked processes share were counted once for each; now count them once.
            used = sum(proportional_bytes(pid) for pid in pids)
        self.peak_bytes = max(self.peak_bytes, used)
        if limit is not None and used > limit and not self.killed:
            limit_mib, used_mib = limit / MIB, used / MIB
            self.cause = f"exceeded its memory limit of {limit_mib:.0f} MiB (used {used_mib:.0f} MiB)"
            self.ended_by = "memory"
            self.kill_at = self.grace_s = 0.0
            self.kill()
        return used

    def kill(self) -> None:
        """End the process and all its descendants by force."""
        if not self.killed and self.grace_s > 0:
            self.cause = f"{self.cause} (killed: it had not ended {self.grace_s:g} s after SIGTERM)"
        self.killed = True
        for pid in descendants(os.getpid()):
            send(pid, signal.SIGKILL)

    def ending(self, status: int, *, ran_out: bool) -> "dict[str, Any]":
        """Describe how the process ended, given its wait status and whether the system ran out of memory meanwhile."""
        code = os.waitstatus_to_exitcode(status)
        by_system = ran_out and code == -signal.SIGKILL and self.cause is None
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.usage.finish(time.monotonic() - self.born)
        return {
            # A process that was told to end did not reach its end, whatever it says.
            "exit_code": code if code >= 0 and self.cause is None else None,
            "signal": -code if code < 0 else None,
            "ended_by": "memory" if by_system else self.ended_by or ("signal" if code < 0 else None),
            "reason": self.cause or (RAN_OUT if by_system else describe(code)),
            "peak_memory_bytes": max(self.peak_bytes, usage.ru_maxrss * 1024),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 6),
        }


class Usage:
    """Writes samples of what the process uses to the file `usage`: many at first, then fewer and fewer, so that those of
    a month take no more than a few hundred kilobytes. Without room on the disk there are none."""

    def __init__(self, env: "dict[str, str]") -> None:
        self.env = env
        self.next = 0.0
        self.memory = self.read = self.written = 0
        self.gpus: Any = None
        try:
            self.file = os.open("usage", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError:
            self.file = -1

    def take(self, at: float, pids: "list[int]", memory: int) -> None:
        """Write a sample, if it is time for one; of memory, the most since the last one."""
        self.memory = max(self.memory, memory)
        if at < self.next or self.file < 0:
            return
        if self.gpus is None and at > MEASURE_S:
            self.gpus = gpu_meter(self.env)
        self.write(at, pids)
        self.next = at + max(min(at, MEASURE_S), at / SAMPLES_AT_FIRST)

    def write(self, at: float, pids: "list[int]") -> None:
        """Write a sample of processes that run, and of those that ran."""
        read = written = 0
        for pid in pids:
            came, went = storage_bytes(pid)
            read, written = read + came, written + went
        self.read, self.written = max(self.read, read), max(self.written, written)
        own = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = own.ru_utime + own.ru_stime + sum(cpu_seconds(pid) for pid in pids)
        gpu = self.gpus() if self.gpus else NO_GPU
        try:
            os.write(self.file, SAMPLE.pack(at, seconds, self.memory, self.read, self.written, *gpu))
        except OSError:
            self.file = -1
        self.memory = 0

    def finish(self, at: float) -> None:
        """Write the last sample: all processes have ended."""
        if self.file >= 0:
            self.write(at, [])


class Log:
    """Copies output to the file `log` up to a limit, and drops the rest: the process never waits for a disk."""

    def __init__(self, source: int, limit: int) -> None:
        self.source = source
        self.room = self.limit = limit
        self.dropped = 0
        self.lost = 0
        try:
            self.file: int | None = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError:
            self.file = None

    def copy(self, reads: int) -> bool:
        """Copy what is there, in at most so many reads; tell whether more may come later."""
        for _ in range(reads):
            try:
                data = os.read(self.source, READ_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            self.keep(data)
        return True

    def keep(self, data: bytes) -> None:
        """Write what still has room, and count what has not."""
        kept = data[: self.room]
        self.room -= len(kept)
        self.write(kept)
        if len(kept) < len(data):
            if not self.dropped:
                self.write(f"\n[modelops: the log is full; output beyond {self.limit} bytes is dropped]\n".encode())
            self.dropped += len(data) - len(kept)

    def write(self, data: bytes) -> None:
        """Write, or give up: a full disk must not end the process."""
        while data:
            try:
                written = 0 if self.file is None else os.write(self.file, data)
            except OSError:
                written = 0
            if not written:
                self.lost += len(data)
                return
            data = data[written:]

    def finish(self) -> None:
        """Copy the rest and say what is missing. Everybody who could write more has ended."""
        deadline = time.monotonic() + REAP_WITHIN_S
        while self.copy(1) and time.monotonic() < deadline and select.select([self.source], [], [], 0)[0]:
            pass
        if self.lost:
            self.write(f"\n[modelops: {self.lost} bytes of output could not be stored]\n".encode())


def spawn(spec: Spec, output: int) -> int:
    """Start the command as the leader of a session of its own; return its pid, or raise StartError."""
    report, sink = os.pipe()
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        become(spec, output, sink, supervisor)
    os.close(sink)
    with open(report, "rb") as file:
        problem = file.read()
    if problem:
        os.waitpid(pid, 0)
        raise StartError(problem.decode())
    return pid


def become(spec: Spec, output: int, report: int, supervisor: int) -> "NoReturn":
    """Turn this forked process into the command. The pipe `report` closes when that succeeds."""
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(127)  # the supervisor died before it could be asked to take this process along
        prefer_for_oom_kill()
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir("work")
        os.execvpe(spec.argv[0], spec.argv, spec.env)  # noqa: S606 - no shell is what is wanted
    except BaseException as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
        os.write(report, f"could not be started: {spec.argv[0]!r}: {text}".encode()[:2000])
    finally:
        os._exit(127)


def wake_on_signals() -> int:
    """Turn signals into bytes that can be read from the returned descriptor."""
    source, sink = os.pipe()
    os.set_blocking(source, False)
    os.set_blocking(sink, False)
    signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return source


def reap(pid: int) -> "int | None":
    """Collect every child that has ended, adopted ones too; return the wait status of `pid` if it is among them."""
    status = None
    while True:
        try:
            ended, its_status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if ended == 0:
            return status
        if ended == pid:
            status = its_status


def end_descendants() -> None:
    """End and collect everything that is left below this process; give up on what the system cannot end."""
    deadline = time.monotonic() + REAP_WITHIN_S
    while time.monotonic() < deadline:
        for pid in descendants(os.getpid()):
            send(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.005)


def descendants(pid: int) -> "list[int]":
    """Return the children of a process, theirs, and so on."""
    found: list[int] = []
    ahead = [pid]
    while ahead:
        born = children(ahead.pop())
        found += born
        ahead += born
    return found


def children(pid: int) -> "list[int]":
    """Return the children of all threads of a process; none where it has ended."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        if not HAS_CHILDREN_FILES:
            return [other for other in all_processes() if parent(other) == pid]
    return found


def all_processes() -> "list[int]":
    """Return every process of the machine, or of the container."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def parent(pid: int) -> "int | None":
    """Return the parent of a process; None where it has ended."""
    fields = stat_fields(pid)
    return None if fields is None else int(fields[1])


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process (proc(5), statm); 0 where it has ended."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def proportional_bytes(pid: int) -> int:
    """Return its resident memory with shared pages divided among their users (PSS)."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resident_bytes(pid)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of its children that have ended; 0 where it has ended."""
    fields = stat_fields(pid)
    return 0.0 if fields is None else sum(map(int, fields[11:15])) / TICKS


def storage_bytes(pid: int) -> "tuple[int, int]":
    """Return how many bytes a process has read from storage and written to it (proc(5), io); 0 where that is hidden."""
    found = {}
    try:
        with open(f"/proc/{pid}/io", "rb") as file:
            for line in file:
                name, _, value = line.partition(b":")
                found[name] = int(value)
    except OSError:
        pass
    return found.get(b"read_bytes", 0), found.get(b"write_bytes", 0)


def gpu_meter(env: "dict[str, str]") -> "Any":
    """Return what measures the GPUs that the process can see, or False where there are none."""
    if not os.path.exists("/dev/nvidiactl"):
        return False
    beside = os.path.dirname(os.path.abspath(__file__))
    sys.path.append(beside)  # this interpreter was told to know no other place to import from than Python's own
    try:
        return __import__("nvml").open_meter(env.get("CUDA_VISIBLE_DEVICES")) or False
    except Exception:
        return False
    finally:
        sys.path.remove(beside)


def start_time(pid: int) -> "int | None":
    """Return when a process started, in clock ticks since boot; with the pid it names a process for good."""
    fields = stat_fields(pid)
    return None if fields is None else int(fields[19])


def stat_fields(pid: int) -> "list[bytes] | None":
    """Return the fields of proc(5) stat from the third on; None where the process has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return None
    # The second field is the command's name in parentheses, and may hold spaces and parentheses itself.
    return stat[stat.rindex(b")") + 2 :].split()


def oom_kills() -> int:
    """Return how many processes the system has ended for want of memory since it started (proc(5), vmstat)."""
    try:
        with open("/proc/vmstat", "rb") as file:
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def boot_id() -> str:
    """Return what identifies this run of the machine."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def read_stop() -> "tuple[float, str] | None":
    """Return the grace and the reason of a stop request, or None."""
    try:
        with open("stop.json", "rb") as file:
            document = json.load(file)
    except FileNotFoundError:
        return None
    return float(document["grace_s"]), str(document["reason"])[:REASON_CHARACTERS]


def describe(code: int) -> "str | None":
    """Say how a process ended; None where it ended well."""
    if code == 0:
        return None
    if code > 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "a real-time signal"
    hint = "; the system does so when memory runs out" if -code == signal.SIGKILL else ""
    return f"was ended by signal {-code} ({name}{hint})"


def record(ending: "dict[str, Any]") -> None:
    """Write `exit.json` for good. A full disk does not stop it: its room was reserved before the process started."""
    data = json.dumps(ending, ensure_ascii=False).encode().ljust(RESERVED_BYTES)
    for _ in range(60):
        try:
            fd = os.open("exit.reserved", os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.pwrite(fd, data, 0)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename("exit.reserved", "exit.json")
            sync_folder()
        except FileNotFoundError:
            return  # the folder was deleted: nobody wants to know
        except OSError:
            time.sleep(1)
        else:
            return


def write_json(name: str, document: "dict[str, Any]") -> None:
    """Replace a file in one step and flush it to the disk."""
    fd = os.open(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(fd)
    os.rename(f"{name}.new", name)
    sync_folder()


def sync_folder() -> None:
    """Flush the folder's list of names to the disk."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def send(pid: int, number: int) -> None:
    """Send a signal to a process, or to the group of a negative one, that may have ended."""
    try:  # noqa: SIM105 - `contextlib` would cost more than all of this file
        os.kill(pid, number)
    except OSError:
        pass


def prefer_for_oom_kill() -> None:
    """Let the system, when memory runs out, end this process rather than its supervisor or the platform."""
    try:
        with open("/proc/self/oom_score_adj", "wb") as file:
            file.write(b"500")
    except OSError:
        pass


def prctl(option: int, value: int) -> None:
    """Call prctl(2)."""
    _libc.prctl(option, value, 0, 0, 0)


_libc = ctypes.CDLL(None, use_errno=True)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

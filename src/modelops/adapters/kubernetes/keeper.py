"""The first process of a pod of ours: it prepares the folder, lets a supervisor run the command, and tells the cluster.

Run as `python3 -I -S keeper.py`, in any image with Python 3.9 or later. It is one file and imports the standard library
and, from beside it, the supervisor that local processes have, too. Both are mounted into the pod.

| path below `MODELOPS_KEEPER` | what it is |
|---|---|
| `bin/` | read: this file and the supervisor's |
| `spec/spec.json` | read: what to run, with its environment and files (a Secret, mounted for this user alone) |
| `control/annotations` | read: the pod's annotations, kept up to date by the kubelet: to begin, and to stop |
| `run/` | the supervisor's folder; `run/work` is the command's |

The output goes to stdout, framed so that it can be put together again byte for byte: a line that ends with the
character 0x1E is to be joined, without that character and without its line feed, to what follows. How the command
ended goes into the termination message.
"""

import base64
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import sys
import threading
import time
import zlib

ROOT = os.environ.get("MODELOPS_KEEPER", "/modelops")
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

sys.path.insert(0, ROOT + "/bin")
supervisor = __import__("supervisor")  # it lies beside this file there, and nowhere else

TURN_S = 0.05
JOIN = b"\x1e"
LINE_BYTES = 8_000
READ_BYTES = 256 * 1024
MESSAGE_BYTES = 4_000
SAMPLES = 40
LEAVING = "was evicted: its pod was deleted or drained away while it ran"
LONG_S = 7 * 86_400.0
"""Who ends the pod ends it by force after a grace of its own: the keeper does not add another."""

_OWN = re.compile(r"MODELOPS_KEEPER.*|KUBERNETES_.*")


def main() -> int:
    """Run the command that the specification names to its end, and return the exit code for the container."""
    with open(ROOT + "/spec/spec.json", "rb") as file:
        spec = json.load(file)
    prepare(spec)
    leaving = Leaving()
    signal.signal(signal.SIGTERM, leaving.begin)
    control = Control()
    if os.environ.get("MODELOPS_KEEPER_WAITS") and not wait_to_begin(control, leaving):
        _, reason = supervisor.read_stop() or (0.0, "it was stopped before it began")
        return tell({"exit_code": None, "ended_by": whose(reason), "reason": reason})
    start_supervisor()
    relay = Relay() if os.environ.get("MODELOPS_KEEPER_PORT") else None
    output = Output()
    while not os.path.exists("exit.json"):
        if not is_supervised():
            break
        control.follow()
        leaving.look()
        output.copy()
        if relay is not None:
            relay.look()
        time.sleep(TURN_S)
        reap()
    output.copy(last=True)
    return tell(ending(spec))


def prepare(spec: "dict[str, Any]") -> None:
    """Make the supervisor's folder.

    A job's container that is started a second time finds it, and so starts nothing twice; one that serves begins anew, with
    the files as they are now.
    """
    run = ROOT + "/run"
    if os.environ.get("MODELOPS_KEEPER_SERVES"):
        empty(run)
    os.makedirs(run + "/work", mode=0o700, exist_ok=True)
    os.chdir(run)
    if os.path.exists("spec.json"):
        return
    for name, content in spec["files"].items():
        write_private("work/" + name, content.encode())
    inherited = {name: value for name, value in os.environ.items() if not _OWN.fullmatch(name)}
    env = {**spec["defaults"], **inherited, **spec["env"], "MODELOPS_WORKDIR": run + "/work"}
    told = {name: spec[name] for name in ("argv", "memory_bytes", "timeout_s", "log_bytes")}
    write_private("spec.json", json.dumps({**told, "env": env}).encode())


def empty(folder: str) -> None:
    """Delete what is in a folder, which itself stays: it is where a volume is mounted."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def write_private(path: str, data: bytes) -> None:
    """Write a file that its owner alone may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)


def wait_to_begin(control: "Control", leaving: "Leaving") -> bool:
    """Wait until the platform has seen that this pod is the one of its attempt; return False where it is to stop."""
    while not os.path.exists("stop.json"):
        control.follow()
        leaving.look()
        if control.begin:
            return True
        time.sleep(TURN_S)
    return False


def start_supervisor() -> None:
    """Start a supervisor; it goes to the background by itself and becomes a child of this process again."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os._exit(supervisor.main(os.getcwd()))
    os.waitpid(pid, 0)


def is_supervised() -> bool:
    """Tell whether the supervisor lives: it holds the lock until its end."""
    descriptor = os.open("lock", os.O_RDWR)
    try:
        return not supervisor.acquire(descriptor) or os.path.exists("exit.json")
    finally:
        os.close(descriptor)


def reap() -> None:
    """Collect what has ended: orphans become children of a container's first process."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def request_stop(grace_s: float, reason: str) -> None:
    """Tell the supervisor to end the command."""
    new = f"{ROOT}/run/stop.{os.getpid()}"
    try:
        write_private(new, json.dumps({"grace_s": grace_s, "reason": reason}).encode())
        os.rename(new, ROOT + "/run/stop.json")
    except OSError:
        pass


class Leaving:
    """The end of the pod, as its node asks for it: the command is told a little later, so that it still answers those
    who have not heard yet that it goes."""

    def __init__(self) -> None:
        self.linger_s = float(os.environ.get("MODELOPS_KEEPER_LINGER_S", "0"))
        self.at: float | None = None

    def begin(self, *_: "Any") -> None:
        """Note that the node asked."""
        if self.at is None:
            self.at = time.monotonic() + self.linger_s

    def look(self) -> None:
        """Tell the command when it is time."""
        if self.at is not None and time.monotonic() >= self.at:
            self.at = float("inf")
            request_stop(LONG_S, LEAVING)


class Control:
    """What the platform wants of this pod, as its annotations say."""

    def __init__(self) -> None:
        self.begin = False
        self.seen = ""

    def follow(self) -> None:
        """Read the annotations, and pass a request to stop on."""
        try:
            with open(ROOT + "/control/annotations", encoding="utf-8") as file:
                text = file.read()
        except OSError:
            return
        if text == self.seen:
            return
        self.seen = text
        said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        self.begin = json.loads(said.get("modelops.dev/begin", '""')) == os.environ["MODELOPS_KEEPER_UID"]
        if "modelops.dev/stop" in said:
            stop = json.loads(json.loads(said["modelops.dev/stop"]))
            request_stop(float(stop["grace_s"]), str(stop["reason"]))


class Output:
    """Copies the file `log` to stdout, in lines that no reader of containers' logs cuts."""

    def __init__(self) -> None:
        self.file: Any = None
        self.rest = b""

    def copy(self, *, last: bool = False) -> None:
        """Copy what is new; at last what stands on an unfinished line, too."""
        if self.file is None:
            try:
                self.file = open("log", "rb")  # noqa: SIM115 - it is open for as long as the pod
            except OSError:
                return
        while data := self.file.read(READ_BYTES):
            self.put(data)
        if self.rest and last:
            emit(self.rest + JOIN + b"\n")
            self.rest = b""

    def put(self, data: bytes) -> None:
        """Write whole lines, and what has become too long for one."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        out = []
        for line in lines:
            while len(line) > LINE_BYTES:
                out.append(line[:LINE_BYTES] + JOIN)
                line = line[LINE_BYTES:]
            out += [line + JOIN, b""] if line.endswith(JOIN) else [line]
        while len(self.rest) > LINE_BYTES:
            out.append(self.rest[:LINE_BYTES] + JOIN)
            self.rest = self.rest[LINE_BYTES:]
        if out:
            emit(b"\n".join(out) + b"\n")


def emit(data: bytes) -> None:
    """Write to stdout, whatever it takes."""
    while data:
        data = data[os.write(1, data) :]


class Relay:
    """Lets others reach a server that listens on this pod's own addresses alone: the pod's ports are passed on to it."""

    def __init__(self) -> None:
        self.port = int(os.environ["MODELOPS_KEEPER_PORT"])
        self.grpc_port = int(os.environ["MODELOPS_KEEPER_GRPC_PORT"])
        self.relayed = False

    def look(self) -> None:
        """Begin to pass on once the command has said where it listens, unless it listens for others itself."""
        if self.relayed:
            return
        try:
            with open("work/endpoint.json", encoding="utf-8") as file:
                told = json.load(file)
            url, grpc = str(told["url"]), told.get("grpc")
        except (OSError, ValueError, KeyError, AttributeError):
            return
        self.relayed = True
        if grpc is not None:
            self.pass_to(str(grpc), self.grpc_port)
        self.pass_to(url.partition("://")[2].strip("/"), self.port)

    def pass_to(self, address: str, own_port: int) -> None:
        """Pass connections to a port of this pod's on to an address, `host:port`, if only this pod reaches that."""
        host, _, port = address.rpartition(":")
        if host.strip("[]") in ("127.0.0.1", "::1", "localhost") and port.isdigit():
            self.listen(host.strip("[]"), int(port), own_port)

    def listen(self, host: str, port: int, own_port: int) -> None:
        """Pass connections to a port of this pod's on to this address."""
        server = socket.create_server(("", own_port), backlog=256)

        def accept() -> None:
            while True:
                connection, _ = server.accept()
                threading.Thread(target=pass_on, args=(connection, host, port), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()


def pass_on(one: socket.socket, host: str, port: int) -> None:
    """Copy bytes both ways between a connection and a new one to an address, until both sides have said all."""
    try:
        with one, socket.create_connection((host, port)) as other:
            towards = {one: other, other: one}
            while towards:
                for source in select.select(list(towards), [], [])[0]:
                    data = source.recv(65_536)
                    if data:
                        towards[source].sendall(data)
                    else:
                        towards.pop(source).shutdown(socket.SHUT_WR)
    except OSError:
        pass


def ending(spec: "dict[str, Any]") -> "dict[str, Any]":
    """Return how the command ended, with some samples of what it used."""
    try:
        with open("exit.json", "rb") as file:
            document: dict[str, Any] = json.load(file)
    except OSError:
        return {
            "exit_code": None,
            "lost": True,
            "reason": "was lost: its supervisor was killed, and the process with it",
        }
    if document.get("ended_by") == "request":
        document["ended_by"] = whose(document["reason"])
    limit = spec["memory_bytes"]
    if limit and document.get("reason") == supervisor.RAN_OUT:
        used = document.get("peak_memory_bytes") or limit
        mib = supervisor.MIB
        document["reason"] = (
            f"exceeded its memory limit of {limit / mib:.0f} MiB (used {max(used, limit) / mib:.0f} MiB)"
        )
    return {**document, "samples": samples()}


def whose(reason: str) -> str:
    """Return who asked for an end, by its reason: the platform, or the cluster, which takes the pod away."""
    return "eviction" if reason.startswith(LEAVING) else "request"


def samples() -> str:
    """Return so many samples of the file `usage`, packed: each a row of seven numbers of 32 bits."""
    size = supervisor.SAMPLE.size
    try:
        with open("usage", "rb") as file:
            data = file.read()
    except OSError:
        return ""
    rows = [data[at : at + size] for at in range(0, len(data) - size + 1, size)]
    step = max(1, -(-len(rows) // SAMPLES))
    chosen = rows[step - 1 :: step]
    if rows and chosen[-1] is not rows[-1]:
        chosen.append(rows[-1])
    packed = b"".join(struct.pack("<7f", *supervisor.SAMPLE.unpack(row)) for row in chosen)
    return base64.b64encode(zlib.compress(packed, 9)).decode()


def tell(document: "dict[str, Any]") -> int:
    """Write the termination message, and return the container's exit code: 0 only where the command ended well."""
    text = json.dumps(document, ensure_ascii=False).encode()
    if len(text) > MESSAGE_BYTES:
        text = json.dumps({**document, "samples": "", "reason": str(document.get("reason"))[:300]}).encode()
    with open(os.environ.get("MODELOPS_KEEPER_MESSAGE", "/dev/termination-log"), "wb") as file:
        file.write(text)
    code = document.get("exit_code")
    return int(code) if code is not None else 1


if __name__ == "__main__":
    sys.exit(main())

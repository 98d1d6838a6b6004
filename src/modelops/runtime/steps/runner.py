"""The runner: the process that holds the user's code, and runs one step after the other for its keeper.

`python -m modelops.runtime.steps.runner <control fd> <keeper's pid>`; it reads a task a line from the
control socket, and answers each with a line. It imports little before the code of the first task: a step costs what it
costs, and no more.
"""

import ctypes
import gc
import importlib
import inspect
import io
import json
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelops.runtime.steps import values
from modelops.sdk.step_context import StepContext, enter_step

if TYPE_CHECKING:
    from types import FrameType

    from modelops.sdk.client import Client

_libc = ctypes.CDLL(None)

_REASON = 4_000
_RETRY_FOR_S = 600.0


class StepStopped(BaseException):
    """The step was told to end: it was cancelled, took too long, or is another worker's by now."""


class Hopeless(Exception):
    """The step fails the same way however often it is tried."""


class Runner:
    """Runs tasks; see the module.

    Args:
        control: The socket to the keeper.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lines = control.makefile("rb")
        self._pid = os.getpid()
        self._in_step = False
        self._functions: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {}

    def serve(self) -> None:
        """Run tasks until the keeper closes the control socket."""
        signal.signal(signal.SIGTERM, self._stop)
        self._say({"ready": True})
        if not select.select([self._control], [], [], 0)[0]:
            _prepare_imports()
        for line in self._lines:
            task = json.loads(line)
            said = self._run(task)
            if os.getpid() != self._pid:
                os._exit(0)  # a process that the step forked, and let come back to here
            self._say(said)

    def _run(self, task: dict[str, Any]) -> dict[str, Any]:
        """Run a step, and return how it ended: `outputs` or `failure`, and what it used."""
        folder = Path(task["folder"])
        folder.mkdir(parents=True)
        os.chdir(folder)
        _reset_peak()
        before = _cpu_seconds()
        context = StepContext(
            task["run_id"], task["key"], task["attempt"], task["idempotency_key"], folder, _connector()
        )
        said: dict[str, Any] = {"ended": task["id"], "attempt": task["attempt"]}
        enter_step(context)
        try:
            self._in_step = True
            said["outputs"] = self._outputs(task, context)
        except StepStopped:
            said["failure"] = "The step was told to end."
        except BaseException as failure:  # whatever the user's code raises ends the step, not the runner
            said |= {"failure": sentence_of(failure), "hopeless": isinstance(failure, Hopeless)}
            if not isinstance(failure, Hopeless) or failure.__cause__ is not None:
                _print_trace(failure)
        finally:
            self._in_step = False
            enter_step(None)
            _flush()
            if "client" in context.__dict__:
                with suppress(Exception):
                    context.client.close()
            os.chdir("/")
        return said | {"cpu_seconds": _cpu_seconds() - before, "peak_memory_bytes": _peak_bytes()}

    def _outputs(self, task: dict[str, Any], context: StepContext) -> dict[str, Any]:
        function, annotations = self._function(task["function"])
        self._say({"began": task["id"]})
        try:
            given = {name: values.shaped(value, annotations.get(name)) for name, value in task["inputs"].items()}
            for name, reference in task["references"].items():
                given[name] = values.load_input(reference, annotations.get(name), context)
        except (TypeError, ValueError, ImportError) as wrong:
            raise Hopeless(f"An input does not fit what the function takes: {type(wrong).__name__}: {wrong}") from wrong
        try:
            inspect.signature(function).bind(**given)
        except TypeError as wrong:
            raise Hopeless(f"'{task['function']}' does not take these inputs: {wrong}.") from None
        except ValueError:  # a function without a signature, of a C library
            pass
        returned = function(**given)
        if inspect.isawaitable(returned):
            import asyncio

            returned = asyncio.run(_awaited(returned))
        try:
            return values.dump_outputs(returned, task["outputs"], context.folder)
        except values.WrongValue as wrong:
            raise Hopeless(str(wrong)) from None

    def _function(self, name: str) -> tuple[Callable[..., Any], dict[str, Any]]:
        """Return a step's function and its annotations; a step's decorator is taken off."""
        if name not in self._functions:
            module, _, path = name.partition(":")
            try:
                found: Any = importlib.import_module(module)
                for part in path.split("."):
                    found = getattr(found, part)
            except StepStopped:
                raise
            except BaseException as failure:
                raise Hopeless(f"'{name}' cannot be imported: {sentence_of(failure)}") from failure
            found = getattr(found, "function", found) if not inspect.isroutine(found) else found
            if not callable(found):
                raise Hopeless(f"'{name}' is no function.")
            self._functions[name] = found, values.annotations_of(found)
        return self._functions[name]

    def _stop(self, _number: int, _frame: "FrameType | None") -> None:
        if os.getpid() != self._pid:
            os._exit(128 + signal.SIGTERM)
        if self._in_step:
            self._in_step = False  # told once: what the step does to end is not broken off
            raise StepStopped
        os._exit(128 + signal.SIGTERM)

    def _say(self, message: dict[str, Any]) -> None:
        self._control.sendall(json.dumps(message).encode() + b"\n")


def sentence_of(failure: BaseException) -> str:
    """Say in a line why a step failed."""
    if isinstance(failure, SystemExit):
        text = f"The step ended itself with sys.exit({'' if failure.code is None else repr(failure.code)})."
    elif isinstance(failure, Hopeless):
        text = str(failure)
    else:
        text = f"{type(failure).__name__}: {failure}".rstrip(": ")
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")[:_REASON]


async def _awaited(returned: Any) -> Any:
    return await returned


def _prepare_imports() -> None:
    """Load, while there is nothing to do, what the module of most steps imports."""
    with suppress(Exception):  # the environment may lack what it needs, and the step do without
        importlib.import_module("modelops.sdk.pipelines")


def _connector() -> "Callable[[StepContext], Client]":
    def connect(context: StepContext) -> "Client":
        import httpx

        from modelops.contracts.trust import TrustLater
        from modelops.runtime.transfers import PatientData
        from modelops.sdk.client import Client
        from modelops.sdk.keyed_rest import KeyedRest

        token = Path(os.environ["MODELOPS_WORKDIR"], "token").read_text(encoding="utf-8")
        http = httpx.Client(
            base_url=os.environ["MODELOPS_URL"],
            headers={"Authorization": f"Bearer {token}"},
            timeout=60.0,
            verify=TrustLater.new(),
        )
        client = Client.over(KeyedRest(http, context.idempotency_key, retry_for_s=_RETRY_FOR_S))
        client.data = PatientData(client.rest)
        return client

    return connect


def _print_trace(failure: BaseException) -> None:
    """Print where a step failed, without the frames of this module."""
    with suppress(Exception):  # its own __str__ may fail
        trace = failure.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        traceback.print_exception(type(failure), failure, trace)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the step may have closed it
            stream.flush()
    with suppress(AttributeError):
        _libc.fflush(None)  # what native code has written and kept back


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _reset_peak() -> None:
    with suppress(OSError):  # Linux alone can
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _prepare_output() -> None:
    """Make what is printed readable whatever this machine's locale, and let a crash in native code leave a trace."""
    import faulthandler

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    with suppress(OSError, ValueError):
        faulthandler.enable()


def _die_with(keeper: int) -> None:
    """End with the keeper, also in the middle of a step: its steps are another worker's then.

    The kernel sees to it on Linux; elsewhere a thread does, as long as the step lets it run.
    """
    try:
        _libc.prctl(1, signal.SIGKILL, 0, 0, 0)
    except AttributeError:

        def watch() -> None:
            while os.getppid() == keeper:
                time.sleep(1.0)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=watch, daemon=True).start()
    if os.getppid() != keeper:
        os._exit(1)


def main() -> None:
    """Serve the keeper whose socket and process the arguments name."""
    _die_with(int(sys.argv[2]))
    _prepare_output()
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    gc.freeze()
    Runner(control).serve()


if __name__ == "__main__":
    main()

"""The engine `spark`: a session of Spark for the job, opened when the recipe first asks for it, stopped with the job.

`SPARK_MASTER_URL` names the master; without it, Spark runs within the job's own process tree, on as many threads as the job
has. What Spark writes lies in the attempt's folder.
"""

import logging
import os
import shutil
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelops.contracts.errors import InvalidInput, MissingExtra, TrainingError
from modelops.domains.training.recipe import Recipe
from modelops.domains.training.schemas import JobResult
from modelops.runtime.engines.tables import plain_for_spark, reads_as_it_is
from modelops.runtime.job import Job

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MASTER = "SPARK_MASTER_URL"

LEAST_MEMORY_MB = 1024
"""Spark itself refuses to start with a heap under 450 MiB; Python and Java's own memory come on top."""

_REACH_S = 10.0
_EXECUTOR_S = 120.0
_LOOK_S = 0.2
_PYTHON_MB = 300
_HEAP_SHARE = 0.7
_LOOPBACK = "127.0.0.1"


class SparkUnavailable(TrainingError):
    """Spark's master cannot be reached, or gives the job nothing to compute on."""

    code, title = "training.spark_unavailable", "Spark does not answer"


def run(recipe: Recipe, job: Job) -> JobResult:
    """Run a recipe with a session of Spark at hand. Raises what the recipe raises."""
    sessions = Sessions(job)
    job.sessions = sessions
    try:
        return recipe.run(job)
    finally:
        sessions.stop()


class Sessions:
    """The session of a job, made when it is first wanted. For one thread."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._folder = job.folder / "spark"
        self._master = os.environ.get(MASTER) or f"local[{job.task.cpus or os.cpu_count() or 1}]"
        self._session: SparkSession | None = None

    def session(self) -> "SparkSession":
        """Return the session.

        Raises:
            InvalidInput: the job may use less memory than Spark needs.
            MissingExtra: PySpark or Java is not installed.
            SparkUnavailable: the master cannot be reached, or gives no executor.
        """
        if self._session is None:
            self._session = self._open()
        return self._session

    def table(self, name: str) -> "DataFrame":
        """Return an input that is a dataset: read from its Parquet file where Spark runs here, else sent to the master's
        executors by way of this process, as Arrow."""
        import pyarrow.parquet as pq

        session, file = self.session(), self._job.file(name)
        if self._is_local and reads_as_it_is(pq.read_schema(file)):
            return session.read.parquet(file.resolve().as_uri())
        return session.createDataFrame(plain_for_spark(pq.read_table(file, partitioning=None)))

    def stop(self) -> None:
        """Cancel what Spark still computes for the job, and stop it. A JVM that is gone already is none to stop."""
        session, self._session = self._session, None
        if session is None:
            return
        logging.getLogger("py4j").setLevel(logging.CRITICAL)  # whoever ends the job may have ended Java, too
        with suppress(Exception):
            session.sparkContext.cancelAllJobs()
        with suppress(Exception):
            session.stop()

    @property
    def _is_local(self) -> bool:
        return self._master == "local" or self._master.startswith(("local[", "local-cluster["))

    def _open(self) -> "SparkSession":
        try:
            from pyspark.sql import SparkSession
        except ModuleNotFoundError:
            raise MissingExtra(
                "The recipe runs on Spark, and PySpark is not installed where the job runs.",
                hint='Install it there: `pip install "modelops[spark]"`.',
            ) from None
        _check_java()
        _check_master(self._master)
        for name in ("local", "tmp"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        near = self._is_local or _hosts(self._master) <= {_LOOPBACK, "localhost"}
        if near:
            os.environ |= {"SPARK_LOCAL_IP": _LOOPBACK, "SPARK_LOCAL_HOSTNAME": "localhost"}
        if self._is_local:
            os.environ["PYSPARK_PYTHON"] = sys.executable
        builder: Any = SparkSession.builder.master(self._master).appName(self._job.id)
        for key, value in self._configuration(near=near).items():
            builder = builder.config(key, value)
        session: SparkSession = builder.getOrCreate()
        self._job.log(f"[modelops] Spark {session.version} at {self._master}, its UI is off")
        try:
            if not self._is_local:
                _wait_for_executor(session, self._master)
        except BaseException:
            session.stop()
            raise
        return session

    def _configuration(self, *, near: bool) -> dict[str, str]:
        task, folder = self._job.task, self._folder.resolve()
        cpus = task.cpus or os.cpu_count() or 1
        said = {
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.log.level": "ERROR",
            "spark.local.dir": str(folder / "local"),
            "spark.sql.warehouse.dir": (folder / "warehouse").as_uri(),
            "spark.sql.execution.arrow.pyspark.enabled": "true",
            "spark.sql.caseSensitive": "true",
            "spark.sql.shuffle.partitions": str(max(2, 2 * cpus)),
            "spark.driver.extraJavaOptions": f"-Dderby.system.home={folder} -Djava.io.tmpdir={folder / 'tmp'}",
        }
        if near:
            said |= {"spark.driver.host": _LOOPBACK, "spark.driver.bindAddress": _LOOPBACK}
        if task.memory_mb is not None:
            said["spark.driver.memory"] = f"{heap_mb(task.memory_mb)}m"
        if not self._is_local:
            said |= {"spark.cores.max": str(cpus), "spark.executor.cores": str(max(1, cpus // task.processes))}
            said["spark.executor.instances"] = str(task.processes)
        return said


def heap_mb(memory_mb: int) -> int:
    """Return how large Java's heap may be, in MiB, in a job that may use so much memory: Python's part and what Java takes
    beside its heap are left out.

    Raises:
        InvalidInput: Spark needs more.
    """
    if memory_mb < LEAST_MEMORY_MB:
        raise InvalidInput(
            f"The job may use {memory_mb} MiB of memory, and Spark needs {LEAST_MEMORY_MB}.",
            hint=f"Submit it with `--memory-mb {LEAST_MEMORY_MB}` or more.",
        )
    return int((memory_mb - _PYTHON_MB) * _HEAP_SHARE)


def _check_java() -> None:
    home = os.environ.get("JAVA_HOME")
    found = (Path(home) / "bin" / "java").exists() if home else shutil.which("java") is not None
    if not found:
        where = f"in JAVA_HOME, which is {home}" if home else "on the path"
        raise MissingExtra(
            f"Spark runs on Java, and there is none {where}.",
            hint="Install Java 17 or 21 where jobs run; Debian's package is `default-jre-headless`.",
        )


def _hosts(master: str) -> set[str]:
    return {host for host, _ in _addresses(master)}


def _addresses(master: str) -> list[tuple[str, int]]:
    """Return where a standalone master listens, `spark://host:port,host:port`; nothing for masters of other kinds."""
    url = urlsplit(master)
    if url.scheme != "spark":
        return []
    try:
        ends = [urlsplit(f"//{one}") for one in url.netloc.split(",")]
        return [(end.hostname or "", end.port or 7077) for end in ends]
    except ValueError as wrong:
        raise InvalidInput(
            f"{MASTER} is no address of a master: '{master}'.", hint="Such as spark://spark.example.org:7077."
        ) from wrong


def _check_master(master: str) -> None:
    """Find out soon whether one of the addresses answers: Spark itself would try for minutes."""
    problems: list[str] = []
    for address in _addresses(master):
        try:
            with socket.create_connection(address, timeout=_REACH_S):
                return
        except OSError as problem:
            problems.append(f"{address[0]}:{address[1]}: {problem.strerror or problem}")
    if problems:
        raise SparkUnavailable(
            f"No master of Spark answers ({'; '.join(problems)}).",
            hint=f"Start it, or correct {MASTER}; without that, Spark runs inside the job.",
        )


def _wait_for_executor(session: "SparkSession", master: str) -> None:
    context: Any = session.sparkContext._jsc.sc()  # Python has no public door to it
    deadline = time.monotonic() + _EXECUTOR_S
    while context.getExecutorMemoryStatus().size() < 2:  # the driver is counted, too
        if time.monotonic() > deadline:
            raise SparkUnavailable(
                f"The master {master} gave the job no executor within {_EXECUTOR_S:g} s.",
                hint="Look whether workers have joined it, with as many cores and as much memory as an executor takes.",
            )
        time.sleep(_LOOK_S)

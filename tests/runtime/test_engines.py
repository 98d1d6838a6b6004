"""Engines: which of several processes is the cause of a failure, whose output is whose, and what is not installed."""

import os
import signal
import sys

import pytest
from tests.runtime.test_trainer import Admitted

from modelops.contracts.errors import InvalidInput, MissingExtra
from modelops.contracts.schemas import Schema
from modelops.domains.training.recipe import engine_of, load_recipe
from modelops.domains.training.schemas import Engine, JobResult
from modelops.runtime import engines
from modelops.runtime.engines.endings import Endings, ProcessFailed
from modelops.runtime.engines.lines import PrefixedLines
from modelops.runtime.engines.peers import PeerJob, RankJob
from modelops.runtime.job import Job

KILLED, TOLD = -signal.SIGKILL, 128 + signal.SIGTERM


@pytest.fixture
def endings(tmp_path):
    return Endings(tmp_path / "ranks", 3)


@pytest.fixture
def admitted(sqlite_platform):
    job = Admitted(sqlite_platform, "good")
    job.task = job.task.model_copy(update={"processes": 2})
    (job.folder / "ranks").mkdir()
    return job


def test_what_failed_first_is_the_cause(endings):
    endings.fail(2, ValueError("the data smelled"))
    endings.fail(0, RuntimeError("the second"))
    found = endings.cause({0: (1, 5.0), 1: (TOLD, 6.0), 2: (1, 7.0)})
    assert str(found) == "ValueError: the data smelled (process 2 of 3)"
    assert not found.out_of_memory


def test_a_process_that_was_killed_is_the_cause_of_what_others_say_of_their_connections(endings):
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:24")
    endings.fail(0, lost)
    wrapped = ValueError("a step failed")
    wrapped.__cause__ = lost
    endings.fail(2, wrapped)
    found = endings.cause({0: (1, 1.0), 1: (KILLED, 9e9), 2: (1, 1.0)})
    assert str(found).startswith("Process 1 of 3 was ended by signal 9 (SIGKILL")
    only_lost = endings.cause({0: (1, 1.0), 1: (TOLD, 2.0)})
    assert "Connection closed by peer" in str(only_lost)


def test_memory_that_was_refused_is_told(endings):
    endings.fail(1, MemoryError("no more"))
    assert endings.cause({1: (1, 0.0)}).out_of_memory


def test_ends_without_a_word(endings):
    assert "ended with exit code 3" in str(endings.cause({1: (3, 0.0), 0: (TOLD, 0.0)}))
    assert "SIGSEGV" in str(endings.cause({1: (-signal.SIGSEGV, 0.0)}))
    assert "a real-time signal" in str(endings.cause({1: (-40, 0.0)}))
    assert "told to end by somebody else" in str(endings.cause({1: (TOLD, 0.0)}))
    with pytest.raises(ProcessFailed, match="without a result"):
        endings.result()
    endings.succeed(JobResult(metrics={"loss": 0.5}))
    assert endings.result().metrics == {"loss": 0.5}
    assert not endings.is_stopping
    endings.note_stop()
    assert endings.is_stopping


def test_each_line_says_whose_it_is(tmp_path, capfd):
    with PrefixedLines(tmp_path, 2) as lines:
        for rank in range(2):
            with lines.place(rank).open("wb") as output:
                for number in range(5_000):
                    output.write(b"%d\n" % number)
                output.write("the last, ä".encode() if rank else b"x" * 40_000)
    found = capfd.readouterr().out.splitlines()
    for rank in range(2):
        mine = [line[4:] for line in found if line.startswith(f"[{rank}] ")]
        assert mine[:5_000] == [str(number) for number in range(5_000)]
        assert "".join(mine[5_000:]) == ("the last, ä" if rank else "x" * 40_000)
    assert len(found) == sum(1 for line in found if line[:4] in ("[0] ", "[1] "))
    assert os.listdir(tmp_path) == []


def test_a_library_that_is_not_installed_is_named(admitted, monkeypatch):
    recipe = load_recipe("torch-function")
    assert engine_of(recipe) is Engine.TORCH
    monkeypatch.setitem(sys.modules, "torch.distributed.launcher", None)
    monkeypatch.setitem(sys.modules, "torch.distributed.elastic.multiprocessing.errors", None)
    with pytest.raises(MissingExtra, match=r"modelops\[torch\]"):
        engines.run(recipe, Job(admitted.task, Schema(), admitted.trainer, admitted.folder))


def test_inputs_are_downloaded_once_and_only_the_first_process_records(admitted, monkeypatch):
    first, second = (
        kind(admitted.task, Schema(), admitted.trainer, admitted.folder, rank)
        for rank, kind in enumerate((RankJob, PeerJob))
    )
    assert (first.rank, second.rank, first.world_size, second.world_size) == (0, 1, 2, 2)
    table = first.table()
    monkeypatch.setattr(admitted.trainer.data, "download_dataset_version", None)
    assert second.table().equals(table)
    with second.start_run("r", {"a": 1}) as run:
        run.log_metrics({"loss": 1.0})
        run.log_metric("loss", 1.0)
        run.log_params({"b": 1})
        run.log_param("b", 1)
        run.set_tags({"c": "d"})
        assert (run.id, run.log_artifact(b"x", "x")) == ("", "")
    assert second.checkpoint(b"x", 1)
    second.progress(1, 2)
    second.end_runs("finished")
    with pytest.raises(InvalidInput, match="the first process does"):
        second.register_model("m", None)
    assert admitted.runs() == []
    assert admitted.client.training.list_job_artifacts(admitted.id).total == 0
    assert admitted.client.training.get_job(admitted.id).progress is None


def test_a_job_of_one_process_has_the_same_calls(admitted):
    job = Job(admitted.task, Schema(), admitted.trainer, admitted.folder)
    job.barrier()
    assert (job.rank, job.world_size) == (0, 1)


def test_a_trainer_of_a_local_recipe_loads_no_engine():
    import subprocess

    code = "import sys, modelops.runtime.trainer; sys.exit(any(name in sys.modules for name in ('torch', 'pyspark')))"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0

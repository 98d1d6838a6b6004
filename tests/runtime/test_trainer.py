"""The trainer: what becomes of a recipe's result, its errors, its runs and its transfers."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from modelops.contracts.errors import InvalidInput, Unavailable
from modelops.contracts.rest import Rest
from modelops.contracts.schemas import Schema
from modelops.domains.identity import service as identity
from modelops.domains.training.lifecycle import TRAINER_PERMISSIONS
from modelops.domains.training.schemas import JobState
from modelops.runtime.attempt import sentence_of
from modelops.runtime.job import Task
from modelops.runtime.trainer import run_task
from modelops.runtime.transfers import PatientData
from modelops.sdk.jobs import submit_job
from modelops.server.listener import Listener
from modelops.testing.waiting import wait_for

HERE = __name__


def good(job):
    job.log("fine")
    with job.start_run("r", {"a": 1}) as run:
        run.log_metrics({"loss": 0.5})
    return {"run_id": run.id, "metrics": {"rows": job.table().num_rows}}


def leaves_runs_open(job, fail):
    job.start_run("open", {})
    with job.start_run("closed", {}):
        pass
    if fail:
        raise ValueError("no\0 more")


def exits(job, code):
    job.start_run("open", {})
    sys.exit(code)


def returns(job, what):
    return {"number": 5, "unknown": {"nope": 1}, "lone": {"summary": {"x": "\ud800"}}, "nothing": None}[what]


def hangs(job):
    import time

    with job.start_run("r", {}):
        job.log("hanging")
        while True:
            time.sleep(60)


class Admitted:
    """A job that was admitted, and the client its trainer has; the test is the trainer."""

    def __init__(self, platform, function, **arguments):
        self.client = platform.client()
        if self.client.data.list_datasets().total == 0:
            self.client.data.create_dataset("d")
            self.client.data.create_dataset_version("d", b"x\n1\n2\n", format="csv")
        self.client.rest.retry_for_s = 0
        job = submit_job(
            "n",
            "python-function",
            {"function": f"trained:{function}", "arguments": arguments},
            "d",
            backend=self.client,
        )
        self.id = job.id
        with platform.place.work() as ctx:
            self.token = identity.grant_token(ctx.within(job.project_id), job.id, TRAINER_PERMISSIONS, ttl_s=600)
        self.trainer = platform.client(self.token)
        self.folder = platform.place.settings.home / "work" / self.id
        self.folder.mkdir(parents=True)
        self.task = Task(
            job_id=job.id,
            recipe=job.recipe,
            parameters=job.parameters,
            dataset_version_id=job.dataset_version_id,
            dataset=job.dataset,
            experiment=job.experiment,
        )

    def run(self):
        return run_task(self.task, self.trainer, self.folder)

    def report(self):
        """Return what the trainer reported: the result, as the platform keeps it, and its runs."""
        job = self.client.training.get_job(self.id)
        return job.result, {run.name: (run.status, run.reason) for run in self.runs()}

    def runs(self):
        return self.client.experiments.list_runs(filter=f'job_id = "{self.id}"').items


@pytest.fixture(autouse=True)
def _trained(monkeypatch):
    """Let recipes import this file's functions."""
    monkeypatch.setitem(sys.modules, "trained", sys.modules[HERE])


def failure_of(platform, job):
    from modelops.domains.training.tables import JobRow

    with platform.place.work(write=False) as ctx:
        return ctx.session.get(JobRow, job.id).failure


def test_a_result_is_reported(sqlite_platform, capsys):
    job = Admitted(sqlite_platform, "good")
    assert job.run() == 0
    result, runs = job.report()
    assert result.metrics == {"rows": 2.0}
    assert runs == {"r": ("finished", None)}
    assert "fine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        ("leaves_runs_open", {"fail": True}, "ValueError: no more"),
        ("exits", {"code": 3}, "The recipe ended the process with sys.exit(3)."),
        ("exits", {"code": "no data"}, "The recipe ended the process with sys.exit('no data')."),
        ("returns", {"what": "number"}, "a int: "),
        ("returns", {"what": "unknown"}, "nope: Extra inputs are not permitted"),
        ("returns", {"what": "lone"}, "half of a surrogate pair"),
        ("nothing_here", {}, "There is no function 'trained:nothing_here'"),
        ("HERE", {}, "is a str, which cannot be called"),
    ],
)
def test_what_goes_wrong_is_reported_in_a_sentence(sqlite_platform, capsys, function, arguments, words):
    job = Admitted(sqlite_platform, function, **arguments)
    assert job.run() == 1
    assert words in failure_of(sqlite_platform, job)
    result, runs = job.report()
    assert result is None
    assert {status for status, _ in runs.values()} <= {"failed", "finished"}
    assert runs.get("open", ("failed",))[0] == "failed"
    assert "Traceback" in capsys.readouterr().err


def test_runs_that_a_recipe_leaves_open_end_with_it(sqlite_platform):
    job = Admitted(sqlite_platform, "leaves_runs_open", fail=False)
    assert job.run() == 0
    assert job.report()[1] == {"open": ("finished", None), "closed": ("finished", None)}


def test_parameters_that_a_newer_recipe_refuses(sqlite_platform, capsys):
    job = Admitted(sqlite_platform, "good")
    job.task = job.task.model_copy(update={"parameters": {"function": "a:b", "gone": 1}})
    assert job.run() == 1
    assert "no longer takes these parameters" in failure_of(sqlite_platform, job)


def test_a_failure_is_one_line_that_can_be_stored():
    assert sentence_of(RuntimeError()) == "RuntimeError"
    assert sentence_of(InvalidInput("No.", hint="Do.")) == "No. Do."
    assert sentence_of(SystemExit()) == "The recipe ended the process with sys.exit()."
    assert len(sentence_of(RuntimeError("x" * 10_000))) == 4_000
    assert sentence_of(RuntimeError("a\0\ud800")) == "RuntimeError: a?"


def test_a_trainer_that_is_told_to_end_ends_its_run_as_cancelled(sqlite_platform, tmp_path):
    job = Admitted(sqlite_platform, "hangs")
    listener = Listener(sqlite_platform.platform, remembered=tmp_path / "port")
    url = listener.start()
    try:
        process, output = start(job, url, tmp_path)
        wait_for(lambda: b"hanging" in output.read_bytes())
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143, output.read_text()
    finally:
        process.kill()
        listener.stop()
    assert [run.status for run in job.runs()] == ["canceled"]
    assert job.client.training.get_job(job.id).state is JobState.QUEUED  # what became of it, the platform finds out


def test_a_trainer_ends_soon_when_the_platform_is_gone_too(sqlite_platform, tmp_path):
    job = Admitted(sqlite_platform, "hangs")
    listener = Listener(sqlite_platform.platform, remembered=tmp_path / "port")
    process, output = start(job, listener.start(), tmp_path)
    try:
        wait_for(lambda: b"hanging" in output.read_bytes())
        listener.stop()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143, output.read_text()
    finally:
        process.kill()


def start(job, url, folder):
    """Start the trainer as a backend does, on this file's functions."""
    work = folder / "work"
    work.mkdir()
    (work / "job.json").write_text(job.task.model_dump_json())
    (work / "token").write_text(job.token)
    (work / "trained.py").symlink_to(Path(__file__))
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(work),
        "LC_ALL": "C",
        "MODELOPS_WORKDIR": str(work),
        "MODELOPS_URL": url,
    }
    output = folder / "log"
    with output.open("wb") as log:
        command = [sys.executable, "-m", "modelops.runtime", "train"]
        return subprocess.Popen(command, env=environment, cwd=work, stdout=log, stderr=log), output


class Answer(Schema):
    """What the pretended platform answers."""


class FlakyTransport(httpx.BaseTransport):
    """A platform that goes away in the middle of the first transfers."""

    def __init__(self, failures, answer):
        self.failures, self.answer = failures, answer
        self.bodies = []

    def handle_request(self, request):
        self.bodies.append(request.read())
        if len(self.bodies) <= self.failures:
            if len(self.bodies) % 2:
                raise httpx.ConnectError("refused")
            return httpx.Response(200, stream=Broken())
        return self.answer(request)


class Broken(httpx.SyncByteStream):
    """An answer that breaks off."""

    def __iter__(self):
        yield b"half"
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def patient(failures, answer):
    transport = FlakyTransport(failures, answer)
    http = httpx.Client(transport=transport, base_url="http://test")
    return PatientData(Rest(http, retry_for_s=30)), transport


def artifact_of(request):
    import hashlib

    digest = f"sha256:{hashlib.sha256(request.content).hexdigest()}"
    facts = {"digest": digest, "size": len(request.content), "media_type": "x/y", "created_at": "2026-01-01T00:00:00Z"}
    return httpx.Response(200, json={**facts, "created_by": "a"})


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr("modelops.runtime.transfers._FIRST_PAUSE_S", 0.001)


@pytest.mark.parametrize("kind", ["path", "file", "bytes"])
def test_an_upload_is_begun_anew(kind, tmp_path):
    file = tmp_path / "f"
    file.write_bytes(b"head content")
    data, transport = patient(3, artifact_of)
    if kind == "path":
        assert data.upload_artifact(file).size == 12
    elif kind == "bytes":
        assert data.upload_artifact(b"head content").size == 12
    else:
        with file.open("rb") as opened:
            opened.seek(5)
            assert data.upload_artifact(opened).size == 7
    assert len(transport.bodies) == 4
    assert set(transport.bodies[2:]) == {b"content" if kind == "file" else b"head content"}


def test_a_source_that_cannot_seek_is_sent_once():
    class Once:
        def read(self, _size=-1):
            return b""

    data, transport = patient(9, artifact_of)
    with pytest.raises(Unavailable):
        data.upload_artifact(Once())
    assert len(transport.bodies) == 1


def test_a_download_is_begun_anew(tmp_path):
    content = json.dumps({"a": 1}).encode()
    digest = artifact_of(httpx.Request("POST", "http://test", content=content)).json()["digest"]
    data, transport = patient(4, lambda _: httpx.Response(200, content=content))
    assert data.download_artifact(digest, tmp_path / "f").read_bytes() == content
    assert data.download_artifact(digest) == content
    assert data.download_dataset_version("d", 1, tmp_path / "g").read_bytes() == content
    assert len(transport.bodies) == 7


def test_a_platform_that_stays_away_is_given_up(tmp_path):
    data, transport = patient(10**9, artifact_of)
    data._rest.retry_for_s = 0.05
    with pytest.raises(Unavailable):
        data.download_artifact("sha256:" + "0" * 64, tmp_path / "f")
    assert len(transport.bodies) > 1
    assert list(tmp_path.iterdir()) == []

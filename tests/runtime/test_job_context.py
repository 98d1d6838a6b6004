"""What a recipe does with its job: inputs, outputs, checkpoints, progress, and when to stop."""

import sys

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.test_trainer import Admitted

from modelops.contracts.errors import InvalidInput, PermissionDenied, StorageFull, Unavailable
from modelops.contracts.ports import BlobStore
from modelops.contracts.schemas import Schema
from modelops.domains.training.schemas import Declared, InputKind, JobArtifactCreate, JobResult
from modelops.domains.training.stopping import EarlyStopping
from modelops.runtime.job import Job

INF, NAN = float("inf"), float("nan")


def good(job):
    return {}


@pytest.fixture
def admitted(sqlite_platform, monkeypatch):
    monkeypatch.setitem(sys.modules, "trained", sys.modules[__name__])
    return Admitted(sqlite_platform, "good")


@pytest.fixture
def job(admitted):
    return Job(admitted.task, Schema(), admitted.trainer, admitted.folder)


def kept(admitted, role=None):
    return admitted.client.training.list_job_artifacts(admitted.id, role=role).items


def test_outputs_are_kept_and_the_last_one_of_a_name_counts(admitted, job, tmp_path):
    file = tmp_path / "report.txt"
    file.write_text("first")
    job.save_artifact(file)
    file.write_text("second")
    job.save_artifact(file)
    job.save_artifact(b"raw", "bytes.bin")
    made = {one.name: one for one in kept(admitted)}
    assert made.keys() == {"report.txt", "bytes.bin"}
    assert (made["report.txt"].role, made["report.txt"].size, made["report.txt"].step) == ("output", 6, None)
    assert admitted.client.data.download_artifact(made["report.txt"].digest) == b"second"
    with pytest.raises(InvalidInput, match="no name"):
        job.save_artifact(b"raw")
    body = JobArtifactCreate(name="n", digest=made["bytes.bin"].digest)
    with pytest.raises(PermissionDenied):
        admitted.client.training.save_job_artifact(admitted.id, body)


def test_what_a_job_holds_is_not_let_go_of(admitted, job):
    made = job.save_artifact(b"held", "held")
    with pytest.raises(Exception, match="referred to by: training"):
        admitted.client.data.delete_artifact(made.digest)


def test_the_last_checkpoints_are_kept_and_the_last_one_is_restored(admitted, job, tmp_path):
    assert job.restore() is None
    for step in range(6):
        assert job.checkpoint(f"at {step}".encode(), step)
    assert [one.step for one in kept(admitted, "checkpoint")] == [5, 4, 3]
    assert (job.restore().step, job.restore().read()) == (5, b"at 5")
    held = {one.digest for one in admitted.client.data.list_artifacts(limit=1000).items}
    assert {one.digest for one in kept(admitted)} <= held
    folder = tmp_path / "state"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "weights").write_bytes(b"w")
    assert job.checkpoint(folder, 2)  # a job that began anew: what was made last counts, not the step
    last = job.restore()
    assert (last.step, (last.path / "inner" / "weights").read_bytes()) == (2, b"w")
    assert job.checkpoint(b"again", 2)
    assert job.restore().read() == b"again"
    with pytest.raises(InvalidInput, match="No such file"):
        job.checkpoint(tmp_path / "nothing", 7)


def test_a_full_disk_costs_a_checkpoint_and_not_the_training(admitted, job, sqlite_platform, monkeypatch, capsys):
    job.checkpoint(b"before", 1)

    def full(*_args, **_options):
        raise StorageFull("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(sqlite_platform.place.ports[BlobStore], "put", full)
        assert job.checkpoint(b"after", 2) is False
    assert "no room for the checkpoint of step 2" in capsys.readouterr().out
    assert job.restore().read() == b"before"
    assert job.checkpoint(b"later", 3)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(admitted, job, sqlite_platform, capsys):
    job.checkpoint(b"whole", 1)
    job.checkpoint(b"damaged", 2)
    sqlite_platform.place.ports[BlobStore].delete(kept(admitted, "checkpoint")[0].digest)
    found = job.restore()
    assert (found.step, found.read()) == (1, b"whole")
    assert "step 2 cannot be read" in capsys.readouterr().out


def test_progress_is_told_at_most_once_a_second_and_its_end_always(admitted, job):
    for number in range(1, 50):
        job.progress(number, 50, "epochs")
    assert admitted.client.training.get_job(admitted.id).progress.done == 1
    job.progress(50, 50)
    told = admitted.client.training.get_job(admitted.id).progress
    assert (told.done, told.of, told.eta_s) == (50, 50, 0)


def test_the_time_that_is_left_follows_from_the_pace(admitted, job, sqlite_platform):
    report = admitted.trainer.training.report_job_progress
    report(admitted.id, 10, 100)
    assert admitted.client.training.get_job(admitted.id).progress.eta_s is None
    report(admitted.id, 20, 100)
    assert admitted.client.training.get_job(admitted.id).progress.eta_s > 0
    report(admitted.id, 5, 100)  # it began anew
    assert admitted.client.training.get_job(admitted.id).progress.eta_s is None


def test_progress_does_not_wait_for_a_platform_that_is_away(admitted, job, monkeypatch):
    asked = []

    def away(*_args, **_options):
        asked.append(1)
        raise httpx.ConnectError("no")

    monkeypatch.setattr(admitted.trainer.rest.http, "request", away)
    admitted.trainer.rest.retry_for_s = 600
    for number in range(1, 101):
        job.progress(number, 100)
    assert len(asked) == 1


def test_inputs_are_what_the_submission_found(sqlite_platform, admitted, monkeypatch, tmp_path):
    client = admitted.client
    digest = client.data.upload_artifact(b"notes").digest
    submitted = client.training.submit_job(
        "python-function",
        parameters={"function": "trained:good"},
        inputs={"notes": f"file:{digest}", "more": "dataset:d:1"},
    )
    assert (submitted.dataset, submitted.inputs["more"].kind) == (None, "dataset")
    task = admitted.task.model_copy(
        update={"inputs": submitted.inputs, "dataset": None, "dataset_version_id": None, "job_id": submitted.id}
    )
    job = Job(task, Schema(), admitted.trainer, tmp_path)
    assert job.file("notes").read_bytes() == b"notes"
    assert job.table("more").column("x").to_pylist() == [1, 2]
    assert job.file("more").read_bytes()[:4] == b"PAR1"
    with pytest.raises(InvalidInput, match="is a file, not a dataset"):
        job.table("notes")
    with pytest.raises(InvalidInput, match="no input 'nothing'"):
        job.file("nothing")
    with pytest.raises(InvalidInput, match="no input 'dataset'"):
        job.table()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"inputs": {"x": "file:sha256:" + "0" * 64}}, "The input 'x'"),
        ({"inputs": {"x": "model:nothing:1"}}, "The input 'x'"),
        ({"inputs": {"x": "what"}}, "does not say what it is"),
        ({"dataset": "nothing"}, "nothing"),
        ({"dataset": "d", "inputs": {"dataset": "e"}}, "given twice"),
        ({"environment": "sha256:" + "0" * 64}, "no artifact"),
    ],
)
def test_a_wrong_input_is_refused_at_the_submission(admitted, given, words):
    with pytest.raises(Exception, match=words):
        admitted.client.training.submit_job("python-function", parameters={"function": "a:b"}, **given)


def test_a_recipe_with_declared_inputs_takes_those_alone(admitted):
    parameters = {"target": "target", "model": "m"}
    with pytest.raises(InvalidInput, match="needs the input 'dataset'"):
        admitted.client.training.submit_job("tabular-classification", parameters=parameters)
    with pytest.raises(InvalidInput, match="takes no input 'other'"):
        admitted.client.training.submit_job(
            "tabular-classification", "d", parameters=parameters, inputs={"other": "dataset:d"}
        )


def test_declared_outputs_are_made_or_the_job_fails(job):
    declared = {
        "model": Declared(kind=InputKind.MODEL),
        "report.json": Declared(kind=InputKind.FILE),
        "extra": Declared(kind=InputKind.FILE, required=False),
    }
    with pytest.raises(InvalidInput, match=r"declares the output 'model' and did not make it"):
        job.check_outputs(declared, JobResult())
    with pytest.raises(InvalidInput, match=r"'report.json'"):
        job.check_outputs(declared, JobResult(model_version_id="mver_1"))
    job.save_artifact(b"{}", "report.json")
    job.check_outputs(declared, JobResult(model_version_id="mver_1"))


@given(
    st.lists(st.sampled_from([-INF, -1.5, 0.0, 1.0, 2.0, INF, NAN]), min_size=1, max_size=30),
    st.integers(1, 6),
    st.sampled_from(["min", "max"]),
)
def test_early_stopping_stops_exactly_when_so_many_values_brought_nothing_better(values, patience, direction):
    stopping, best, since = EarlyStopping(patience=patience, direction=direction), None, 0
    for step, value in enumerate(values):
        better = value == value and (best is None or (value < best if direction == "min" else value > best))
        if value in (INF, -INF) and best is None and (value > 0) == (direction == "min"):
            better = False  # no worse value could be
        best, since = (value, 0) if better else (best, since + 1)
        assert stopping.update(value, step) == (since >= patience)
        assert stopping.best == best


@pytest.mark.parametrize(
    "wrong", [{"patience": 0}, {"patience": 1, "min_delta": -1}, {"patience": 1, "direction": "up"}]
)
def test_early_stopping_takes_no_nonsense(wrong):
    with pytest.raises(InvalidInput):
        EarlyStopping(**wrong)


def test_a_checkpoint_waits_for_a_platform_that_is_away_for_a_moment(admitted, job, monkeypatch):
    real, failures = admitted.trainer.rest.http.request, [httpx.ConnectError("no")] * 2

    def flaky(*args, **options):
        if failures:
            raise failures.pop()
        return real(*args, **options)

    monkeypatch.setattr(admitted.trainer.rest.http, "request", flaky)
    admitted.trainer.rest.retry_for_s = 30
    assert job.checkpoint(b"patient", 1)
    failures.extend([httpx.ConnectError("no")] * 1000)
    admitted.trainer.rest.retry_for_s = 0
    with pytest.raises(Unavailable):
        job.checkpoint(b"impatient", 2)

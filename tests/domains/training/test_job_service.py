"""What callers may ask of jobs: checked at once, isolated, and shown as they are."""

import json
import math
from uuid import uuid4

import pytest

from modelops.contracts import plugins
from modelops.contracts.errors import Conflict, InvalidInput, NotFound, PermissionDenied, TrainingError, Unauthenticated
from modelops.contracts.ports import Phase
from modelops.domains.training.rules import JobEnded
from modelops.domains.training.schemas import JobReport, JobResult, JobState, Resources

TABULAR = {"target": "target", "model": "m"}


def test_a_job_is_queued_with_everything_filled_in(stage):
    job = stage.training.submit_job("tabular-classification", "d", parameters=TABULAR, name="first", tags={"a": "b"})
    assert (job.state, job.name, job.experiment, job.attempt, job.revision) == (JobState.QUEUED, "first", "first", 0, 1)
    assert (job.parameters["folds"], job.parameters["metric"], job.tags) == (5, "accuracy", {"a": "b"})
    assert (job.resources, job.result, job.started_at) == (Resources(), None, None)
    assert job.reason == "It starts in a moment."
    assert stage.training.get_job(job.id) == job


def test_the_data_is_pinned_at_submission(stage):
    before = stage.submit()
    stage.client.data.create_dataset_version("d", b"a,b\n1,2\n", format="csv")
    after = stage.submit()
    assert (before.dataset, after.dataset) == ("d:1", "d:2")
    assert stage.training.get_job(before.id).dataset_version_id == before.dataset_version_id
    pinned = stage.training.submit_job("python-function", before.dataset_version_id, parameters={"function": "a:b"})
    assert pinned.dataset == "d:1"


WRONG = [
    ("nope", "d", {}, NotFound, "no plug-in 'nope'"),
    ("python-function", "nope", {"function": "a:b"}, NotFound, "no dataset"),
    ("python-function", "d:7", {"function": "a:b"}, NotFound, "7"),
    ("python-function", "d", {}, InvalidInput, "function: Field required"),
    ("python-function", "d", {"function": "a"}, InvalidInput, "function: "),
    ("python-function", "d", {"function": "a:b", "x": 1}, InvalidInput, "x: Extra inputs"),
    ("tabular-classification", "d", {**TABULAR, "folds": 2**70}, InvalidInput, "folds: "),
    ("tabular-classification", "d", {**TABULAR, "folds": "many"}, InvalidInput, "folds: "),
]


def test_what_is_wrong_is_named_at_submission(sqlite_stage):
    for recipe, dataset, parameters, kind, words in WRONG:
        with pytest.raises(kind, match=words) as refused:
            sqlite_stage.training.submit_job(recipe, dataset, parameters=parameters)
        assert refused.value.hint
    assert sqlite_stage.training.list_jobs().total == 0


def test_several_processes_are_for_recipes_whose_engine_runs_them(sqlite_stage):
    training = sqlite_stage.training
    with pytest.raises(InvalidInput, match="'python-function' runs in one process, and 2 are asked for"):
        training.submit_job("python-function", parameters={"function": "a:b"}, resources=Resources(processes=2))
    resources = Resources(processes=2)
    job = training.submit_job("torch-function", parameters={"function": "a:b"}, resources=resources)
    assert job.resources == resources
    engines = {recipe.name: recipe.engine for recipe in training.list_recipes().items}
    assert (engines["python-function"], engines["torch-function"]) == ("local", "torch")
    sqlite_stage.turn(2)
    assert json.loads(sqlite_stage.backend.specs[f"{job.id}-1"].files["job.json"])["processes"] == 2


BODY = '{"recipe": "python-function", "dataset": "d", "parameters": {"function": "a:b", "arguments": {"x": %s}}%s}'


ODD = [
    ('"\\ud800"', "", 422),
    ('"\\u0000"', "", 422),
    ("1e999", "", 422),
    ("NaN", "", 422),
    ('{"\\u0000": 1}', "", 422),
    ("1", ', "name": "\\u0000"', 422),
    ("1", ', "tags": {"\\u0000": "x"}', 422),
    ("1", ', "resources": {"cpus": 1e30}', 422),
    ("1", ', "resources": {"timeout_s": NaN}', 422),
    ("1", ', "resources": {"memory_mb": -1}', 422),
    ("1", ', "resources": {"gpus": 1}', 422),
    ("1", ', "nope": 1', 422),
    ("1" + "0" * 400, "", 202),
    ("1e-320", "", 202),
    ('[{"ü": [null, true, 0.1]}]', ', "resources": {"timeout_s": null}', 202),
]


def test_odd_input_is_stored_or_refused_and_never_breaks(stage):
    with stage.platform.http(authorization=f"Bearer {stage.platform.admin_key}") as http:
        for value, more, status in ODD:
            answer = http.post("/v1/jobs", content=BODY % (value, more), headers={"Content-Type": "application/json"})
            assert answer.status_code == status, (value, more, answer.text)
            if status == 202:
                assert answer.json()["parameters"]["arguments"]["x"] == json.loads(value)
                assert http.get(f"/v1/jobs/{answer.json()['id']}").json() == answer.json()


CALLS = [("GET", ""), ("GET", "/log"), ("GET", "/log/stream"), ("POST", "/cancel"), ("POST", "/result")]


def test_jobs_that_are_not_there(stage):
    with stage.platform.http(authorization=f"Bearer {stage.platform.admin_key}") as http:
        for job in ("job_1", "x" * 250, "%00", "..%2f", "💥"):
            for method, path in CALLS:
                body = {} if method == "POST" else None
                assert http.request(method, f"/v1/jobs/{job}{path}", json=body).status_code in (404, 422)


def test_the_same_request_twice_is_one_job(stage):
    headers = {"Idempotency-Key": uuid4().hex, "Content-Type": "application/json"}
    with stage.platform.http(authorization=f"Bearer {stage.platform.admin_key}") as http:
        first, second = (http.post("/v1/jobs", content=BODY % ("1", ""), headers=headers) for _ in range(2))
    assert first.json() == second.json()
    assert stage.training.list_jobs().total == 1


def test_rights_and_isolation(stage):
    job, attempt = stage.started()
    viewer, stranger = stage.platform.member("viewer").training, stage.platform.stranger().training
    scientist = stage.platform.member("data_scientist")
    assert viewer.get_job(job.id).id == job.id
    assert {recipe.name for recipe in viewer.list_recipes().items} >= {"python-function", "tabular-classification"}
    assert viewer.get_job_log(job.id).text == ""
    for forbidden in (
        lambda: viewer.submit_job("python-function", "d", parameters={"function": "a:b"}),
        lambda: viewer.cancel_job(job.id),
        lambda: viewer.finish_job(job.id, JobReport()),
        lambda: scientist.training.finish_job(job.id, JobReport()),
        lambda: stage.training.finish_job(job.id, JobReport()),
        lambda: stage.trainer(attempt).training.get_job(job.id),
        lambda: stage.trainer(attempt).training.cancel_job(job.id),
    ):
        with pytest.raises(PermissionDenied):
            forbidden()
    for unseen in (
        lambda: stranger.get_job(job.id),
        lambda: stranger.get_job_log(job.id),
        lambda: list(stranger.stream_job_log(job.id)),
        lambda: stranger.cancel_job(job.id),
        lambda: stranger.finish_job(job.id, JobReport()),
        lambda: stranger.submit_job("python-function", job.dataset_version_id, parameters={"function": "a:b"}),
    ):
        with pytest.raises(NotFound):
            unseen()
    assert (stranger.list_jobs().total, viewer.list_jobs().total) == (0, 1)
    assert scientist.training.cancel_job(job.id).state is JobState.CANCELING


def test_a_job_has_no_more_rights_than_it_needs_and_none_after_its_end(stage):
    (first, one), (second, two) = stage.started(), stage.started()
    trainer = stage.trainer(one)
    with pytest.raises(PermissionDenied, match="Only the job itself"):
        trainer.training.finish_job(second.id, JobReport(failure="not mine"))
    with pytest.raises(PermissionDenied):
        stage.client.serving.list_deployments() and trainer.serving.list_deployments()
    run = trainer.experiments.create_run(trainer.experiments.create_experiment("e").name)
    assert run.job_id == first.id
    trainer.training.finish_job(first.id, JobReport(result=JobResult(run_id=run.id)))
    stage.backend.end(one)
    stage.turn()
    assert stage.state(first) == ("succeeded", None)
    with pytest.raises(Unauthenticated):
        trainer.experiments.get_run(run.id)
    assert stage.trainer(two).experiments.get_run(run.id).status == "finished"


def test_results_hold_what_json_lacks(stage):
    job, attempt = stage.started()
    result = JobResult(metrics={"nan": math.nan, "inf": -math.inf, "x": 0.5}, summary={"board": [{"a": None}]})
    stage.trainer(attempt).training.finish_job(job.id, JobReport(result=result))
    stage.backend.end(attempt)
    stage.turn()
    found = stage.training.get_job(job.id)
    assert math.isnan(found.result.metrics.pop("nan"))
    assert found.result.metrics == {"inf": -math.inf, "x": 0.5}
    assert found.result.summary == result.summary
    assert (found.peak_memory_bytes, found.cpu_seconds, found.exit_code) == (2**40, 1.5, 0)
    with pytest.raises(Unauthenticated):  # its token ended with it
        stage.trainer(attempt).training.finish_job(job.id, JobReport(failure="too late"))


def test_listings_filter_and_say_why_jobs_wait(stage):
    jobs = [stage.submit(name=f"job {n}") for n in range(5)]
    stage.turn()
    listed = {job.id: job.reason for job in stage.training.list_jobs().items}
    assert [listed[job.id] for job in jobs[2:]] == [
        "2 of 2 jobs run, and 0 wait before it.",
        "2 of 2 jobs run, and 1 waits before it.",
        "2 of 2 jobs run, and 2 wait before it.",
    ]
    assert [job.id for job in stage.training.list_jobs(filter='state = "queued"', order_by="created_at asc").items]
    assert stage.training.list_jobs(filter='name = "job 3"').items[0].reason == listed[jobs[3].id]
    page = stage.training.list_jobs(limit=2)
    assert [job.name for job in page.items] == ["job 4", "job 3"]
    assert [job.name for job in stage.training.list_jobs(limit=2, cursor=page.next_cursor).items] == ["job 2", "job 1"]


def test_a_job_that_waits_is_cancelled_at_once(stage):
    job = stage.submit()
    canceled = stage.training.cancel_job(job.id)
    assert (canceled.state, canceled.reason) == (JobState.CANCELED, "Cancelled by admin.")
    assert canceled.ended_at is not None
    assert stage.training.cancel_job(job.id, reason="again") == canceled
    log = stage.training.get_job_log(job.id)
    assert (log.text, log.next_offset, log.complete) == ("", 0, True)
    assert list(stage.training.follow_log(job.id)) == []
    stage.turn(2)
    assert stage.backend.starts == []


def test_an_ended_job_is_not_cancelled(stage):
    job, attempt = stage.started()
    stage.backend.end(attempt, 1)
    stage.turn()
    with pytest.raises(JobEnded, match="failed already") as refused:
        stage.training.cancel_job(job.id)
    assert isinstance(refused.value, Conflict | TrainingError)
    assert refused.value.hint


def test_a_log_is_read_in_pieces_that_cut_no_character(sqlite_stage):
    training = sqlite_stage.training
    job, attempt = sqlite_stage.started()
    text = "aé€𝄞" * 3 + "\n"
    sqlite_stage.backend.logs[attempt] = text.encode() + b"\xff\x00" + "é".encode()[:1]
    sqlite_stage.backend.end(attempt)
    sqlite_stage.turn()
    for limit in (1, 2, 3, 5, 7, 65_536):
        assert "".join(pieces(training, job, limit)) == text + "\ufffd\ufffd\ufffd"
    assert "".join(training.follow_log(job.id)) == text + "\ufffd\ufffd\ufffd"
    assert "".join(training.stream_job_log(job.id)) == text + "\ufffd\ufffd\ufffd"
    assert training.get_job_log(job.id, offset=2**61).complete


def pieces(training, job, limit):
    offset = 0
    while True:
        piece = training.get_job_log(job.id, offset=offset, limit=limit)
        yield piece.text
        if piece.complete:
            return
        assert piece.next_offset > offset
        offset = piece.next_offset


def test_a_running_jobs_log_leaves_a_character_that_is_still_coming(sqlite_stage):
    job, attempt = sqlite_stage.started()
    sqlite_stage.backend.logs[attempt] = b"ab\xe2\x82"
    piece = sqlite_stage.training.get_job_log(job.id)
    assert (piece.text, piece.next_offset, piece.complete) == ("ab", 2, False)
    sqlite_stage.backend.logs[attempt] += b"\xac"
    assert sqlite_stage.training.get_job_log(job.id, offset=2).text == "€"


def test_a_stream_follows_until_the_job_ends(sqlite_stage):
    job, attempt = sqlite_stage.started()
    sqlite_stage.backend.logs[attempt] = b"one\n"
    stream = sqlite_stage.training.stream_job_log(job.id)
    assert next(stream) == "one\n"
    sqlite_stage.backend.logs[attempt] += b"two\n"
    assert next(stream) == "two\n"
    sqlite_stage.backend.end(attempt)
    sqlite_stage.turn()
    assert list(stream) == []


def test_a_stream_ends_with_the_platform(sqlite_stage):
    job, attempt = sqlite_stage.started()
    sqlite_stage.backend.logs[attempt] = b"one\n"
    sqlite_stage.platform.app.state.draining = True
    assert list(sqlite_stage.training.stream_job_log(job.id)) == ["one\n"]


def test_a_recipe_that_cannot_be_loaded_hides_no_other(sqlite_stage, monkeypatch):
    load = plugins.load

    def broken(group, name):
        if name == "python-function":
            raise SyntaxError("a stranger's typing error")
        return load(group, name)

    monkeypatch.setattr(plugins, "load", broken)
    found = {recipe.name for recipe in sqlite_stage.training.list_recipes().items}
    assert found >= {"container", "tabular-classification"}
    assert "python-function" not in found
    with pytest.raises(TrainingError, match="cannot be loaded: SyntaxError: a stranger's"):
        sqlite_stage.submit()


def test_waiting_for_a_job_ends_in_time(sqlite_stage):
    job, attempt = sqlite_stage.started()
    seen = []
    with pytest.raises(Exception, match="still running after 0"):
        sqlite_stage.training.wait_for_job(job.id, within_s=0, watch=seen.append)
    assert [look.state for look in seen] == [JobState.RUNNING]
    assert sqlite_stage.backend.observe(attempt).phase is Phase.RUNNING

"""Experiments and runs through the client, on both databases."""

import threading
import time

import pytest

from modelops.contracts.errors import (
    AlreadyExists,
    Conflict,
    ExperimentError,
    InvalidInput,
    MLOpsError,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from modelops.domains.experiments import service
from modelops.domains.experiments.schemas import MetricPoint, RunStatus


def test_an_experiment_is_made_found_changed_and_listed(experiments):
    made = experiments.create_experiment("churn", description="who leaves", tags={"team": "a"})
    assert experiments.get_experiment("churn") == experiments.get_experiment(made.id) == made
    changed = experiments.update_experiment("churn", description="who stays")
    assert (changed.description, changed.tags, changed.revision) == ("who stays", {"team": "a"}, 2)
    assert [one.name for one in experiments.list_experiments(order_by="name").items] == ["churn", "trials"]
    assert [one.name for one in experiments.list_experiments(filter='name ~ "CHU"').items] == ["churn"]
    with pytest.raises(AlreadyExists):
        experiments.create_experiment("churn")


def test_an_id_is_an_id_whatever_another_is_named(experiments):
    first = experiments.get_experiment("trials")
    second = experiments.create_experiment(first.id)
    assert second.name == first.id
    assert experiments.get_experiment(first.id).id == first.id


def test_a_run_begins_with_what_is_known_of_it(experiments):
    run = experiments.create_run("trials", name="first", parameters={"lr": 0.1, "layers": [1, 2]}, tags={"gpu": "no"})
    assert (run.status, run.experiment, run.name) == (RunStatus.RUNNING, "trials", "first")
    assert (run.parameters, run.tags, run.metrics) == ({"lr": 0.1, "layers": [1, 2]}, {"gpu": "no"}, {})
    assert (run.job_id, run.ended_at, run.reason) == (None, None, None)
    assert experiments.get_run(run.id) == run
    assert experiments.create_run(run.experiment_id).experiment == "trials"


def test_a_run_of_no_experiment_is_refused_with_a_hint(experiments):
    with pytest.raises(NotFound) as refused:
        experiments.create_run("nowhere")
    assert "create-experiment nowhere" in refused.value.hint


@pytest.mark.parametrize("status", ["finished", "failed", "canceled"])
def test_how_a_run_ended_never_changes(experiments, run, status):
    ended = experiments.update_run(run.id, status=status, reason="so")
    assert (ended.status, ended.reason) == (status, "so")
    assert ended.ended_at >= ended.started_at
    assert experiments.update_run(run.id, status=status, reason="another") == ended  # a repeat changes nothing
    for other in {"running", "finished", "failed", "canceled"} - {status}:
        with pytest.raises(ExperimentError):
            experiments.update_run(run.id, status=other)
    with pytest.raises(ExperimentError) as refused:
        experiments.log_batch(run.id, tags={"a": "b"})
    assert refused.value.hint
    experiments.heartbeat(run.id)
    assert experiments.get_run(run.id) == ended
    assert experiments.update_run(run.id, name="a better name").name == "a better name"


def test_a_reason_that_would_be_kept_nowhere_is_refused(experiments, run):
    for body in ({"reason": "x"}, {"reason": "x", "status": "running"}):
        with pytest.raises(InvalidInput):
            experiments.update_run(run.id, **body)


def test_a_revision_guards_updates(experiments, run):
    with pytest.raises(PreconditionFailed):
        experiments.update_run(run.id, name="x", revision=7)
    assert experiments.update_run(run.id, name="x", revision=1).revision == 2
    with pytest.raises(PreconditionFailed):
        experiments.update_experiment("trials", description="x", revision=7)


def at_once(*actions):
    """Do things at the same moment, and return what each returned or raised."""
    gate, results = threading.Barrier(len(actions)), [None] * len(actions)

    def act(index, action):
        gate.wait(10)
        try:
            results[index] = action()
        except MLOpsError as error:
            results[index] = error

    threads = [threading.Thread(target=act, args=pair) for pair in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_of_two_that_end_a_run_at_once_one_wins(platform, experiments, run, monkeypatch):
    def slow(*arguments, real=service.check_transition):
        found = real(*arguments)
        time.sleep(0.2)  # long enough for the other to read the same state, if it could
        return found

    monkeypatch.setattr(service, "check_transition", slow)
    results = at_once(
        lambda: experiments.update_run(run.id, status="finished"),
        lambda: experiments.update_run(run.id, status="failed"),
    )
    refused = [result for result in results if isinstance(result, MLOpsError)]
    won = [result for result in results if not isinstance(result, MLOpsError)]
    assert (len(refused), len(won)) == (1, 1)
    assert isinstance(refused[0], ExperimentError)
    assert experiments.get_run(run.id).status is won[0].status


def test_the_end_of_a_job_does_not_overwrite_how_its_run_ended(in_project, granted, monkeypatch):
    job = granted("job_1").experiments
    job.create_experiment("e")
    run = job.create_run("e")

    def slow(*arguments, real=service.check_transition):
        found = real(*arguments)
        time.sleep(0.3)
        return found

    monkeypatch.setattr(service, "check_transition", slow)

    def end_job():
        time.sleep(0.1)  # while the run is ending
        with in_project() as ctx:
            return service.end_runs_of_job(ctx, "job_1", RunStatus.CANCELED, "the job ended")

    finished, ended = at_once(lambda: job.update_run(run.id, status="finished"), end_job)
    assert (finished.status, ended) == (RunStatus.FINISHED, 0)
    assert job.get_run(run.id).status is RunStatus.FINISHED


@pytest.mark.parametrize("what", ["run", "experiment"])
def test_of_many_updates_of_one_revision_one_wins(experiments, run, what):
    update = {
        "run": lambda n: experiments.update_run(run.id, name=f"n{n}", revision=1),
        "experiment": lambda n: experiments.update_experiment("trials", description=f"n{n}", revision=1),
    }[what]
    results = at_once(*(lambda n=n: update(n) for n in range(6)))
    assert sum(not isinstance(result, MLOpsError) for result in results) == 1
    assert all(isinstance(result, PreconditionFailed) for result in results if isinstance(result, MLOpsError))


def test_of_many_that_make_an_experiment_one_does(experiments):
    results = at_once(*(lambda: experiments.create_experiment("new") for _ in range(6)))
    assert sum(not isinstance(result, MLOpsError) for result in results) == 1
    assert all(isinstance(result, Conflict) for result in results if isinstance(result, MLOpsError))


def test_runs_are_filtered_and_ordered_by_what_is_recorded_on_them(experiments):
    inf, nan = float("inf"), float("nan")
    rates = {"a": 9, "b": 10, "c": 99.5, "d": 100, "e": 1e-3, "f": "big"}
    for name, loss in (("a", 0.5), ("b", nan), ("c", -inf), ("d", 0.1), ("e", inf), ("f", None)):
        run = experiments.create_run(
            "trials", name=name, parameters={"algo": f"algo-{name}", "n": 3, "lr": rates[name]}, tags={"k": name}
        )
        if loss is not None:
            experiments.log_batch(run.id, metrics=[MetricPoint(key="val/loss", value=9.0, step=-1)])
            experiments.log_batch(run.id, metrics=[MetricPoint(key="val/loss", value=loss, step=0)])
        if name in "ab":
            experiments.update_run(run.id, status="finished")

    def names(**page):
        return "".join(run.name for run in experiments.list_runs("trials", **page).items)

    assert names() == "fedcba"  # newest first
    assert names(filter="metrics.`val/loss` < 0.4", order_by="name") == "cd"
    assert names(filter="metrics.`val/loss` >= 0.5", order_by="name") == "ae"
    assert names(filter='parameters.algo = "algo-d" and parameters.n = "3"') == "d"
    assert (
        names(filter="parameters.lr > 9 and parameters.lr < 100", order_by="name") == "bc"
    )  # not as texts, where "10" < "9"
    assert names(filter="parameters.lr = 10 and parameters.n = 3") == "b"
    assert names(filter='parameters.lr = "big"') == "f"
    assert names(filter='tags.k ~ "E"') == "e"
    assert names(filter='status = "finished"', order_by="name desc") == "ba"
    assert names(filter="ended_at = null", order_by="started_at") == "cdef"
    assert names(order_by="metrics.`val/loss`")[:4] == "cdae"
    assert set(names(order_by="metrics.`val/loss`")[4:]) == set("bf")  # NaN is no number, and neither is none
    for order in ("metrics.`val/loss`", "metrics.`val/loss` desc", "parameters.algo", "tags.k desc", "ended_at"):
        pages = [run.name for run in experiments.all_runs("trials", order_by=order, limit=2)]
        assert "".join(pages) == names(order_by=order)
    with pytest.raises(NotFound):
        experiments.list_runs("nowhere")
    with pytest.raises(InvalidInput, match="metrics"):
        names(filter="metrics = 1")


def test_the_other_project_sees_nothing(platform, experiments, run):
    stranger = platform.stranger().experiments
    assert stranger.list_runs().items == []
    assert stranger.list_experiments().items == []
    for attempt in (
        lambda: stranger.get_experiment("trials"),
        lambda: stranger.update_experiment(run.experiment_id, description="x"),
        lambda: stranger.create_run("trials"),
        lambda: stranger.create_run(run.experiment_id),
        lambda: stranger.list_runs("trials"),
        lambda: stranger.get_run(run.id),
        lambda: stranger.update_run(run.id, name="x"),
        lambda: stranger.log_batch(run.id, tags={"a": "b"}),
        lambda: stranger.heartbeat(run.id),
        lambda: stranger.get_metric_history(run.id, "m"),
        lambda: stranger.link_run_artifact(run.id, "a", "sha256:" + "0" * 64),
        lambda: stranger.list_run_artifacts(run.id),
    ):
        with pytest.raises(NotFound):
            attempt()


def test_a_viewer_reads_and_writes_nothing(platform, experiments, run):
    viewer = platform.member("viewer").experiments
    assert viewer.get_run(run.id) == run
    assert viewer.get_experiment("trials").name == "trials"
    for attempt in (
        lambda: viewer.create_experiment("x"),
        lambda: viewer.update_experiment("trials", description="x"),
        lambda: viewer.create_run("trials"),
        lambda: viewer.update_run(run.id, name="x"),
        lambda: viewer.log_batch(run.id, tags={"a": "b"}),
        lambda: viewer.heartbeat(run.id),
        lambda: viewer.link_run_artifact(run.id, "a", "sha256:" + "0" * 64),
        lambda: viewer.log_batch("run_nobody", tags={}),  # 403 before 404: it learns nothing of what there is
    ):
        with pytest.raises(PermissionDenied):
            attempt()
    scientist = platform.member("data_scientist").experiments
    scientist.log_batch(scientist.create_run(scientist.create_experiment("mine").name).id, tags={"a": "b"})


def test_a_job_writes_on_its_own_runs_alone(granted, experiments, run):
    job, other, deployment = (granted(subject).experiments for subject in ("job_1", "job_2", "dep_1"))
    own = job.create_run("trials")
    assert (own.job_id, own.created_by) == ("job_1", "job_1")
    assert deployment.create_run("trials").job_id is None
    job.log_batch(own.id, metrics=[MetricPoint(key="m", value=1)])
    job.heartbeat(own.id)
    for grant, foreign in ((other, own), (job, run), (deployment, own), (deployment, run)):
        for attempt in (
            lambda grant, run: grant.log_batch(run, tags={"a": "b"}),
            lambda grant, run: grant.heartbeat(run),
            lambda grant, run: grant.update_run(run, status="failed"),
            lambda grant, run: grant.link_run_artifact(run, "a", "sha256:" + "0" * 64),
        ):
            with pytest.raises(PermissionDenied):
                attempt(grant, foreign.id)
    assert other.get_run(own.id).metrics == {"m": 1.0}
    assert [one.id for one in experiments.list_runs(filter='job_id = "job_1"').items] == [own.id]
    assert experiments.update_run(own.id, name="a person may").name == "a person may"


def test_the_steps_of_a_pipelines_run_write_on_what_it_began_alone(granted, experiments, run):
    steps, others = (granted(subject).experiments for subject in ("prn_1", "prn_2"))
    own = steps.create_run("trials")
    assert own.job_id is None
    steps.log_batch(own.id, tags={"a": "b"})
    steps.update_run(own.id, status="finished")
    assert experiments.get_run(own.id).status == "finished"
    for grant, foreign in ((others, own), (steps, run)):
        with pytest.raises(PermissionDenied):
            grant.log_batch(foreign.id, tags={"a": "b"})
        with pytest.raises(PermissionDenied):
            grant.update_run(foreign.id, status="failed")


def test_the_runs_of_a_job_end_with_it(granted, in_project, experiments, run):
    job = granted("job_1").experiments
    ended, open_ = job.create_run("trials"), job.create_run("trials")
    job.update_run(ended.id, status="finished")
    with in_project() as ctx:
        assert service.end_runs_of_job(ctx, "job_1", RunStatus.CANCELED, "the job was cancelled") == 1
        assert service.find_run(ctx, open_.id).status is RunStatus.CANCELED
    with in_project() as ctx:
        assert service.end_runs_of_job(ctx, "job_1", RunStatus.FAILED, "again") == 0
    assert job.get_run(ended.id).status is RunStatus.FINISHED
    assert job.get_run(open_.id).reason == "the job was cancelled"
    assert job.get_run(run.id).status is RunStatus.RUNNING
    with in_project() as ctx, pytest.raises(NotFound):
        service.find_run(ctx, "run_nobody")


def test_others_hear_of_it(platform, experiments):
    run = experiments.create_run("trials", name="n")
    experiments.update_run(run.id, status="failed", reason="why")
    experiments.update_run(run.id, status="failed")
    platform.controller.turn()
    events = list(platform.client().platform.stream_events(follow=False))
    told = [(event.type.rsplit(".")[-1], event.subject, event.data) for event in events if "experiments" in event.type]
    assert told == [
        ("experiment_created", run.experiment_id, {"name": "trials"}),
        ("run_started", run.id, {"experiment": "trials", "name": "n"}),
        ("run_ended", run.id, {"status": "failed", "reason": "why", "name": "n"}),
    ]


def test_an_artifact_of_the_project_gets_a_path_in_a_run(platform, experiments, run):
    admin = platform.client()
    first, second = (admin.data.upload_artifact(content, media_type="text/plain") for content in (b"one", b"other"))
    linked = experiments.link_run_artifact(run.id, "plots/a.txt", first.digest)
    assert (linked.path, linked.digest, linked.size, linked.media_type) == (
        "plots/a.txt",
        first.digest,
        3,
        "text/plain",
    )
    experiments.link_run_artifact(run.id, "b.txt", first.digest)
    experiments.link_run_artifact(run.id, "plots/a.txt", second.digest)
    files = experiments.list_run_artifacts(run.id)
    assert [(file.path, file.size) for file in files.items] == [("b.txt", 3), ("plots/a.txt", 5)]
    with pytest.raises(NotFound):
        experiments.link_run_artifact(run.id, "c", "sha256:" + "0" * 64)
    for path in ("../c", "a/../c"):
        with pytest.raises(InvalidInput):
            experiments.link_run_artifact(run.id, path, first.digest)


def test_an_artifact_of_another_project_is_none(platform, run):
    stranger = platform.stranger()
    digest = stranger.data.upload_artifact(b"theirs").digest
    with pytest.raises(NotFound):
        platform.client().experiments.link_run_artifact(run.id, "c", digest)


BAD = {
    "a text with NUL": '{"parameters": {"a": "x\\u0000y"}}',
    "a NUL inside": '{"parameters": {"a": {"b\\u0000": ["\\u0000"]}}}',
    "half a surrogate pair": '{"parameters": {"a": "\\ud800"}}',
    "half a pair as a key": '{"parameters": {"\\ud800": 1}}',
    "half a pair in a tag": '{"tags": {"a": "\\ud800"}}',
    "infinity inside": '{"parameters": {"a": [1e999]}}',
    "deep": '{"parameters": {"a": ' + "[" * 900 + "]" * 900 + "}}",
    "a key with a line break": '{"metrics": [{"key": "a\\nb", "value": 1}]}',
    "a time before time": '{"metrics": [{"key": "m", "value": 1, "timestamp": "0001-01-01T00:00:00+10:00"}]}',
    "a value that is no float": '{"metrics": [{"key": "m", "value": ' + "9" * 400 + "}]}",
    "a value that is no number": '{"metrics": [{"key": "m", "value": "much"}]}',
    "a step beyond": '{"metrics": [{"key": "m", "value": 1, "step": 9223372036854775808}]}',
    "an unknown field": '{"metric": []}',
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_and_nothing_is_kept(platform, experiments, run, body):
    with platform.http(authorization=f"Bearer {platform.admin_key}", content_type="application/json") as http:
        answer = http.post(f"/v1/runs/{run.id}/log", content=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert experiments.get_run(run.id) == run


@pytest.mark.parametrize("place", ["[1e30,0,0,false]", "[0,9223372036854775808,0,false]", "[0,0,NaN,false]", "{}", "["])
def test_a_cursor_that_is_not_ours_is_refused(experiments, run, place):
    import base64

    cursor = base64.urlsafe_b64encode((place * (1400 if place == "[" else 1)).encode()).decode()
    for listing in (
        lambda: experiments.get_metric_history(run.id, "m", cursor=cursor),
        lambda: experiments.list_runs(cursor=cursor),
    ):
        with pytest.raises(InvalidInput):
            listing()


def test_a_history_has_nothing_to_filter_by(experiments, run):
    for page in ({"filter": "value > 1"}, {"order_by": "value"}):
        with pytest.raises(InvalidInput):
            experiments.get_metric_history(run.id, "m", **page)

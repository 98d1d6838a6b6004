"""Every documented command is run, for people and for programs, and a wrong one is told what is wrong."""

import base64
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from tests.api.world import CSV, fill
from typer.testing import CliRunner

from modelops.cli.root import app
from modelops.domains.serving.courses.strategies import Canary
from modelops.sdk.client import Client
from modelops.sdk.registry import ModelRegistry
from modelops.testing.process import platform_process

ROOT = Path(__file__).parents[2]
KEYS = "first:" + base64.b64encode(b"k" * 32).decode()

NIGHTLY_YAML = """
name: nightly
steps:
  begin:
    notify: It begins anew.
"""

# Commands that start or end a platform, or take a minute: the journeys and the server's tests run them.
ELSEWHERE = {
    *("mops up", "mops down", "mops demo", "mops login"),
    *("mops server agent", "mops server api", "mops server bucket", "mops server controller"),
}

# What each command is run with; {names} are of the world that `fill` makes.
RUNS = {
    "mops config": "",
    "mops doctor": "",
    "mops events": "",
    "mops plugins": "",
    "mops status": "",
    "mops version": "",
    "mops identity get-me": "",
    "mops identity issue-token": "--permission datasets.read",
    "mops identity create-tenant": "acme",
    "mops identity list-tenants": "",
    "mops identity get-tenant": "{tenant}",
    "mops identity create-project": "second --description other",
    "mops identity list-projects": "--limit 1",
    "mops identity get-project": "default",
    "mops identity update-project": "default better",
    "mops identity list-members": "default",
    "mops identity set-member": "default machine ml_engineer",
    "mops identity remove-member": "default somebody",
    "mops identity create-user": "carol --email carol@example.org",
    "mops identity list-users": "",
    "mops identity get-user": "carol",
    "mops identity update-user": "carol --disable",
    "mops identity create-service-account": "robot --role ml_engineer",
    "mops identity list-service-accounts": '--filter name="robot"',
    "mops identity get-service-account": "robot",
    "mops identity update-service-account": "robot --disable",
    "mops identity create-api-key": "k --expires-in-days 3",
    "mops identity list-api-keys": "",
    "mops identity revoke-api-key": "{key_id}",
    "mops identity list-signing-keys": "",
    "mops identity rotate-signing-keys": "",
    "mops identity list-audit-records": "--limit 3",
    "mops data create-dataset": "more --tag a=b",
    "mops data list-datasets": "",
    "mops data get-dataset": "numbers",
    "mops data update-dataset": "numbers --description d",
    "mops data create-dataset-version": "numbers {folder}/t.csv",
    "mops data list-dataset-versions": "numbers",
    "mops data get-dataset-version": "numbers 1",
    "mops data preview-dataset-version": "numbers --rows 2",
    "mops data download-dataset-version": "numbers 1 {folder}/out.parquet --format parquet",
    "mops data upload-artifact": "{folder}/t.csv",
    "mops data get-artifact": "{digest}",
    "mops data list-artifacts": "",
    "mops data download-artifact": "{digest} {folder}/copy.csv",
    "mops data delete-artifact": "{spare_digest}",
    "mops data list-uploads": "",
    "mops data get-upload": "{upload}",
    "mops data delete-upload": "{spare_upload}",
    "mops data collect-garbage": "--dry-run",
    "mops data rewrap-keys": "",
    "mops studies create-study": "second --parameter lr=log:1e-5..1e-1 --parameter kind=a,b --max-trials 9",
    "mops studies list-studies": "",
    "mops studies get-study": "search",
    "mops studies update-study": "search --max-trials 9",
    "mops studies enqueue-trial": "search --parameter lr=0.5",
    "mops studies list-trials": "search",
    "mops studies get-trial": "search 1",
    "mops studies get-best-trials": "search",
    "mops studies get-importance": "search",
    "mops studies report-study": "search {folder}/study.html",
    "mops studies stop-study": "search",
    "mops studies resume-study": "search",
    "mops studies delete-study": "second",
    "mops experiments create-experiment": "e2",
    "mops experiments list-experiments": "",
    "mops experiments get-experiment": "trials",
    "mops experiments update-experiment": "trials --description d",
    "mops experiments create-run": "trials --parameter lr=0.1",
    "mops experiments list-runs": "--experiment trials",
    "mops experiments get-run": "{run}",
    "mops experiments update-run": "{run} --name better",
    "mops experiments delete-run": "{run}",
    "mops experiments restore-run": "{run}",
    "mops experiments delete-experiment": "trials",
    "mops experiments restore-experiment": "trials",
    "mops experiments get-metric-history": "{run} loss",
    "mops experiments list-run-artifacts": "{run}",
    "mops experiments compare": "{run} --objective loss:min --curve loss",
    "mops experiments report": "trials -o {folder}/report.html",
    "mops experiments group-runs": "parameters.lr --metric loss:min",
    "mops experiments get-best-run": "loss --direction min --any-status --constraint loss<1",
    "mops experiments get-metric-buckets": "{run} loss",
    "mops experiments create-view": "mine --filter metrics.loss<1 --column metrics.loss",
    "mops experiments list-views": "",
    "mops experiments get-view": "best",
    "mops experiments update-view": "mine --group-by parameters.lr",
    "mops experiments list-view-runs": "best",
    "mops experiments delete-view": "mine",
    "mops export mlflow": "sqlite:///{folder}/mlflow.db",
    "mops predict": "{folder}/v.csv --model numbers:1 --output {folder}/predicted.csv --keep target",
    "mops import mlflow": "sqlite:///{folder}/mlflow.db --dry-run",
    "mops runs pending": "",
    "mops runs sync": "",
    "mops models create-model": "empty",
    "mops models list-models": "",
    "mops models get-model": "numbers",
    "mops models update-model": "numbers --description d",
    "mops models list-versions": "numbers",
    "mops models update-version": "numbers 1 --description good --tag a=b",
    "mops models get-version": "numbers 1",
    "mops models verify-version": "numbers",
    "mops models sign-version": "numbers 1 --bundle {folder}/model.sig --public-key {folder}/key.pem",
    "mops models verify-bundle": "numbers 1 --bundle {folder}/model.sig --public-key {folder}/key.pem",
    "mops models download-version": "numbers 1 {folder}/downloaded",
    "mops models register-ensemble": "both --member numbers:1 --member numbers@other --weight 1 --weight 2",
    "mops models register-chain": "chain --step numbers:1 --step numbers:2 --pass-on probabilities",
    "mops models set-stage": "numbers Registration",
    "mops models list-stage-history": "numbers",
    "mops models set-alias": "numbers shadow 1",
    "mops models delete-alias": "numbers shadow",
    "mops models list-metrics": "",
    "mops models request-approval": "numbers",
    "mops models rename-model": "empty renamed",
    "mops models delete-model": "renamed",
    "mops models delete-version": "spare 1",
    "mops models list-approvals": "",
    "mops models decide-approval": "{reviewed} --reject",
    "mops models validate": "numbers --data {folder}/v.csv --target target --check metrics --check noise:scale=0.001",
    "mops models list-validations": "numbers 1",
    "mops models get-validation": "{validation}",
    "mops models get-policy": "numbers",
    "mops models set-policy": "numbers --require Production=metrics,latency",
    "mops models card": "numbers 1 --output {folder}/README.md",
    "mops models set-card": "numbers 1 --section limitations=few --license mit --tag demo",
    "mops models get-lineage": "numbers 1",
    "mops models compare-versions": "numbers:1 numbers@other --all",
    "mops jobs list-recipes": "",
    "mops jobs submit-job": "python-function numbers -p function=modelops.testing.tasks:work",
    "mops jobs list-jobs": "",
    "mops jobs get-job": "{job}",
    "mops jobs get-job-log": "{job}",
    "mops jobs get-job-usage": "{job}",
    "mops jobs list-job-attempts": "{job}",
    "mops jobs list-job-artifacts": "{job} --role output",
    "mops jobs get-training-requirements": "python-function numbers -p function=modelops.testing.tasks:work",
    "mops jobs estimate-cost": "tabular-classification --rows 1000 --columns 9 --cpus 2",
    "mops jobs explain-job": "{workload_job}",
    "mops pools set-pool": "more --mode TIME_SLICE --gpus 2 --timeslice-replicas 4 --toleration gpu=yes:NoSchedule",
    "mops pools list-pools": "",
    "mops pools watch": "--times 1",
    "mops pools get-pool": "gpus",
    "mops pools list-pool-allocations": "gpus",
    "mops pools delete-pool": "more",
    "mops flavors set-flavor": "spot --node-label kind=spot",
    "mops flavors list-flavors": "",
    "mops flavors get-flavor": "nodes",
    "mops flavors delete-flavor": "spot",
    "mops cohorts set-cohort": "team --parent everyone --quota nodes:cpus=4,lend=2",
    "mops cohorts list-cohorts": "",
    "mops cohorts get-cohort": "everyone",
    "mops cohorts delete-cohort": "team",
    "mops queues set-cluster-queue": "own --quota nodes:cpus=2,borrow=1 --cohort everyone --reclaim Any",
    "mops queues list-cluster-queues": "",
    "mops queues get-cluster-queue": "fair",
    "mops queues set-queue": "second --cluster-queue own --limit cpus=2",
    "mops queues list-queues": "",
    "mops queues get-queue": "shared",
    "mops queues delete-queue": "second",
    "mops queues delete-cluster-queue": "own",
    "mops queues set-priority-class": "low -10 --description later",
    "mops queues list-priority-classes": "",
    "mops queues delete-priority-class": "low",
    "mops quotas set-quota": "tenant {tenant} --limit gpus:gpu_shares=3 --limit gpu_shares=4",
    "mops quotas list-quotas": "",
    "mops quotas get-quota": "tenant {tenant}",
    "mops quotas delete-quota": "project default",
    "mops workloads list-workloads": "",
    "mops workloads get-workload": "{workload}",
    "mops jobs cancel-job": "{submitted}",
    "mops jobs retry-job": "{job}",
    "mops pipelines list-pipelines": "",
    "mops pipelines get-pipeline": "nightly",
    "mops pipelines list-pipeline-versions": "nightly",
    "mops pipelines get-pipeline-version": "nightly 1",
    "mops pipelines start-run": "nightly -p n=0 --wait",
    "mops pipelines list-runs": '--filter pipeline="nightly"',
    "mops pipelines get-run": "{pipeline_run}",
    "mops pipelines list-steps": "{pipeline_run}",
    "mops pipelines get-step": "{pipeline_run} agree",
    "mops pipelines get-step-log": "{pipeline_run}",
    "mops pipelines graph": "{pipeline_run}",
    "mops pipelines pause-run": "{pipeline_run}",
    "mops pipelines resume-run": "{pipeline_run}",
    "mops pipelines decide-step": "{pipeline_run} agree --reject",
    "mops pipelines cancel-run": "{second_run}",
    "mops pipelines rerun-run": "{done_run} --parameter n=0",
    "mops pipelines output": "{approved_run} agree comment",
    "mops pipelines delete-run": "{done_run}",
    "mops pipelines delete-pipeline": "unused",
    "mops pipelines clear-cache": "",
    "mops pipelines create-schedule": "hourly @hourly --pipeline nightly --parameter n=0 --zone Europe/Berlin",
    "mops pipelines list-schedules": '--filter name="yearly"',
    "mops pipelines list-scheduled-jobs": "",
    "mops pipelines get-schedule": "yearly",
    "mops pipelines update-schedule": "yearly --when @monthly --zone Europe/Berlin --overlap queue",
    "mops pipelines run-schedule": "yearly",
    "mops pipelines list-next-times": "yearly --count 3",
    "mops pipelines preview-times": "@weekly --count 3",
    "mops pipelines list-schedule-history": "yearly",
    "mops pipelines delete-schedule": "hourly",
    "mops pipelines create-trigger": "retrain --event modelops.data.* --pipeline nightly --limit 3/3600 --condition data.x=1",
    "mops pipelines list-triggers": "",
    "mops pipelines get-trigger": "pushed",
    "mops pipelines update-trigger": "pushed --pause --overlap skip",
    "mops pipelines rotate-trigger-secret": "pushed",
    "mops pipelines list-trigger-history": "pushed",
    "mops pipelines delete-trigger": "retrain",
    "mops pipelines register-pipeline": "{folder}/nightly.yaml",
    "mops deployments create-deployment": "live numbers:1 --limit rate_per_s=1000 --limit batch_wait_ms=0.5 --wait",
    "mops deployments list-deployments": "",
    "mops deployments get-deployment": "live",
    "mops deployments list-revisions": "live",
    "mops deployments predict": "live [[1,2]]",
    "mops deployments explain": "live [[1,2]] --method permutation --max-evaluations 500",
    "mops deployments get-replica-log": "live 0",
    "mops deployments watch": "live --once",
    "mops deployments list-prediction-logs": "numbers",
    "mops deployments download-prediction-logs": "numbers {folder}/predictions.parquet",
    "mops deployments update-deployment": "live --replicas 2 --wait",
    "mops deployments rollback-deployment": "live --revision 1",
    "mops deployments pause-rollout": "rolled",
    "mops deployments resume-rollout": "rolled",
    "mops deployments record-business-metric": "rolled revenue candidate 9.5 11",
    "mops deployments get-rollout": "rolled",
    "mops deployments list-rollouts": "rolled",
    "mops deployments promote-rollout": "rolled --wait",
    "mops deployments abort-rollout": "given-up --reason tired --wait",
    "mops deployments delete-deployment": "live --wait",
    "mops monitoring get-traffic": "numbers",
    "mops monitoring detect-drift": "numbers",
    "mops monitoring list-drift-reports": "",
    "mops monitoring get-drift-report": "{report}",
    "mops webhooks create-webhook": "https://hooks.example.org/ --event modelops.models.*",
    "mops webhooks list-webhooks": "",
    "mops webhooks get-webhook": "{webhook}",
    "mops webhooks ping-webhook": "{webhook}",
    "mops webhooks list-deliveries": "{webhook}",
    "mops webhooks redeliver": "{webhook} {delivery}",
    "mops webhooks update-webhook": "{webhook} --description d",
    "mops webhooks rotate-webhook-secret": "{webhook}",
    "mops webhooks delete-webhook": "{spare}",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    with platform_process(folder / "home", controller_interval_s="0.1", encryption_keys=KEYS) as platform:
        names = fill(platform)
        with platform.client() as client:
            client.identity.create_service_account("asker", role="ml_engineer")
            key = client.identity.create_api_key("k", principal="asker").secret
            with platform.client(token=key) as asker:
                names["reviewed"] = asker.models.request_approval("numbers", 1).id
            parameters = {"function": "modelops.testing.tasks:hang"}
            client.training.wait_for_job(names["job"], within_s=120)  # it is tried again below
            names["submitted"] = client.training.submit_job("python-function", "numbers", parameters=parameters).id
            rows = np.array([[n, n * n] for n in range(40)], dtype=float)
            other = LogisticRegression(max_iter=1000).fit(rows, rows[:, 0] > 20)
            ModelRegistry(client).register_model("numbers", other, sample=rows, parent="numbers:1")
            client.models.set_alias("numbers", "other", 2)
            names["workload_job"] = client.compute.get_workload(names["workload"]).job_id
            rolling_out(client, "rolled", "given-up")
            names |= runs_of_pipelines(client)
            names["spare"] = client.webhooks.create_webhook("https://spare.example.org/", ["*"]).id
        (folder / "t.csv").write_bytes(CSV)
        (folder / "nightly.yaml").write_text(NIGHTLY_YAML)
        (folder / "v.csv").write_text("x0,x1,target\n" + "".join(f"{n},{n * n},{n > 20}\n" for n in range(40)))
        yield platform, {**names, "folder": str(folder)}


def runs_of_pipelines(client):
    """Make a run that has ended, one that waits, and one that somebody approved."""
    done = client.pipelines.start_run("nightly", parameters={"n": 0})
    second, approved = client.pipelines.start_run("nightly"), client.pipelines.start_run("nightly")
    client.pipelines.wait_for_run(done.id, within_s=60)
    account = client.identity.create_service_account("approver", role="ml_engineer")
    key = client.identity.create_api_key("approving", principal=account.id).secret
    with Client(str(client.rest.http.base_url), token=key) as other:
        while client.pipelines.get_run(approved.id).steps.get("awaiting") is None:
            time.sleep(0.05)
        other.pipelines.decide_step(approved.id, "agree", approved=True)
    return {"done_run": done.id, "second_run": second.id, "approved_run": approved.id}


def rolling_out(client, *names):
    """Make deployments with a canary that is under way."""
    for name in names:
        client.serving.create_deployment(name, "numbers:1", strategy=Canary(analysis=None))
    for name in names:
        client.serving.wait_until_settled(name)
        client.serving.update_deployment(name, model="numbers:2")


def documented():
    text = (ROOT / "docs" / "commands.md").read_text()
    return set(re.findall(r"^\| `(mops [a-z -]+)` \|", text, re.MULTILINE))


def invoke(platform, line):
    arguments = [word.replace("name=", "name = ") if word.startswith("name=") else word for word in line.split()[1:]]
    return CliRunner().invoke(app, ["--home", str(platform.home), "--url", platform.url, *arguments])


def test_every_documented_command_is_run_here_or_elsewhere():
    assert documented() == RUNS.keys() | ELSEWHERE


def test_every_command_works(world):
    platform, names = world
    failed = []
    for command, arguments in RUNS.items():
        line = f"{command} {arguments.format(**names)}"
        result = invoke(platform, line)
        if result.exit_code != 0 or (result.exception and not isinstance(result.exception, SystemExit)):
            failed.append((line, result.output[-400:], result.exception))
    assert not failed


READING = sorted(
    c for c in RUNS if re.search(r" (get|list|status|config|version|plugins|events)", c) and "replica-log" not in c
)


def test_what_reads_speaks_json_to_programs(world):
    platform, names = world
    wrong = []
    for command in READING:
        if "live" in RUNS[command]:
            continue
        result = invoke(platform, f"{command} {RUNS[command].format(**names)} --json")
        try:
            lines = result.stdout.strip().splitlines()
            assert result.exit_code == 0
            for line in lines:
                json.loads(line)
        except (ValueError, AssertionError):
            wrong.append((command, result.output[-300:]))
    assert not wrong


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("mops data get-dataset nope", "There is no dataset 'nope'"),
        ("mops models get-version numbers 99", "has no version 99"),
        ("mops models set-stage numbers Production", "cannot go to Production"),
        ("mops jobs submit-job nope numbers", "There is no plug-in 'nope'"),
        ("mops jobs submit-job python-function numbers -p function=a:b --queue nope", "There is no queue 'nope'"),
        ("mops jobs submit-job python-function numbers -p function=a:b --processes 2", "runs in one process"),
        ("mops pools get-pool nope", "There is no pool 'nope'"),
        ("mops queues set-cluster-queue x --quota nope:gpu_shares=1", "There is no flavor 'nope'"),
        ("mops deployments create-deployment x numbers:1 --limit nonsense=1", "nonsense"),
        ("mops deployments create-deployment x numbers:1 --autoscale min=3,max=2", "min_replicas (3) is above"),
        ("mops deployments create-deployment x numbers:1 --autoscale nonsense=1", "nonsense"),
        ("mops deployments create-deployment x numbers:1 --challenger b", "NAME=MODEL"),
        ("mops deployments create-deployment x numbers:1 --challenger b=numbers:1:101", "less than or equal to 100"),
        ("mops deployments create-deployment x numbers:1 --sticky-header cookie", "cookie"),
        ("mops deployments update-deployment numbers --strategy slowly", "There is no strategy 'slowly'"),
        ("mops deployments update-deployment numbers --strategy rolling --step 5", "Only a canary has steps"),
        ("mops deployments update-deployment numbers --step 5:soon", "pause_s"),
        ("mops deployments promote-rollout numbers", "Nothing is being rolled out"),
        ("mops deployments predict nope [[1]]", "There is no deployment 'nope'"),
        ("mops experiments list-runs --filter bad", "cannot be read"),
        ("mops studies create-study x --parameter lr=5..1", "is empty"),
        ("mops studies create-study x --parameter lr=log:a,b", "is no range"),
        ("mops studies get-study nope", "There is no study 'nope'"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(world, line, said):
    platform, _ = world
    done = platform.mops(*line.split()[1:], check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert "→" in done.stderr
    assert done.stdout == ""


def test_login_keeps_the_key_for_this_user_alone(world, tmp_path):
    platform, _ = world
    with platform.client() as client:
        key = client.identity.create_api_key("elsewhere").secret
    elsewhere = ["--home", str(tmp_path / "other"), "--url", platform.url]
    result = CliRunner().invoke(app, [*elsewhere, "login", "--token", key])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "other" / "credentials.json").stat().st_mode & 0o077 == 0
    again = CliRunner().invoke(app, ["--home", str(tmp_path / "other"), "status", "--json"])
    assert json.loads(again.stdout)["signed_in_as"] == "admin"
    wrong = platform.mops("--url", platform.url, "login", "--token", "mops_wrong", check=False)
    assert "The API key is unknown" in wrong.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there(shell, monkeypatch):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    result = CliRunner().invoke(app, ["--show-completion", shell])
    assert result.exit_code == 0
    assert "mops" in result.output or "_MOPS_COMPLETE" in result.output

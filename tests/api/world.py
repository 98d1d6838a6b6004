"""One of each resource, made through the public client, for tests that walk every operation."""

from datetime import UTC, datetime, timedelta

import numpy as np
from sklearn.linear_model import LogisticRegression
from tests.logged import about, batch, send, stream

from modelops.domains.compute.schemas import (
    ClusterQueueSpec,
    CohortSpec,
    FlavorQuotas,
    FlavorSpec,
    PoolSpec,
    PriorityClassSpec,
    QueueSpec,
    QuotaLimit,
    QuotaLimits,
    QuotaSpec,
    ResourceGroup,
)
from modelops.domains.models.validation.schemas import CheckResult, ValidationCreate
from modelops.domains.monitoring.schemas import SketchBatch, SketchBatches
from modelops.domains.monitoring.sketches import Sketcher, build_reference
from modelops.domains.pipelines.checking import read_document
from modelops.sdk.registry import ModelRegistry

NIGHTLY = {
    "name": "nightly",
    "parameters": {"n": {"type": "integer", "default": 1}},
    "steps": {
        "begin": {"notify": {"message": "It begins."}},
        "agree": {"approval": {"message": "Go on?"}, "after": ["begin"], "when": {"true": {"parameter": "n"}}},
    },
}
"""A pipeline that needs no worker; without an answer it waits, and with n=0 it ends at once."""

CSV = b"a,b,target\n" + b"".join(b"%d,%d,%d\n" % (n, n * n, n % 2) for n in range(40))


def fill(platform):
    """Fill the default project and return a value for each path parameter of the API."""
    with platform.client() as admin:
        return _fill(admin)


def _fill(admin):
    me = admin.identity.get_me()
    user = admin.identity.create_user("somebody", role="viewer")
    account = admin.identity.create_service_account("machine", role="viewer")
    key = admin.identity.create_api_key("spare", principal="machine")
    admin.data.create_dataset("numbers")
    dataset = admin.data.create_dataset_version("numbers", CSV, format="csv")
    spare = admin.data.upload_artifact(b"nobody needs this")
    upload = admin.data.create_upload(f"sha256:{'0' * 64}", 100)
    spare_upload = admin.data.create_upload(f"sha256:{'1' * 64}", 100)
    experiment = admin.experiments.create_experiment("trials")
    run = admin.experiments.create_run("trials", parameters={"lr": 0.1})
    admin.experiments.log_batch(run.id, metrics=[{"key": "loss", "value": 0.5}])
    view = admin.experiments.create_view("best", order_by="metrics.loss asc", group_by="parameters.lr", shared=True)
    rows = np.array([[n, n * n] for n in range(40)], dtype=float)
    model = LogisticRegression(max_iter=1000).fit(rows, [n % 2 for n in range(40)])
    version = ModelRegistry(admin).register_model("numbers", model, sample=rows, experiment_id=run.id)
    ModelRegistry(admin).register_model("spare", model, sample=rows)
    admin.models.set_alias("numbers", "challenger", 1)
    approval = admin.models.request_approval("numbers", 1)
    job = admin.training.submit_job("python-function", "numbers", parameters={"function": "json:dumps"})
    _pools(admin, me.tenant)
    queued = admin.training.submit_job(
        "python-function", "numbers", parameters={"function": "json:dumps"}, queue="shared", priority="urgent"
    )
    deployment = admin.serving.create_deployment("numbers", "numbers:1", replicas=0)
    validation = admin.models.record_validation("numbers", 1, _validation(version))
    admin.pipelines.register_pipeline(read_document(NIGHTLY))
    admin.pipelines.register_pipeline(read_document({**NIGHTLY, "name": "unused"}))
    pipeline_run = admin.pipelines.start_run("nightly")
    schedule = admin.pipelines.create_schedule("yearly", "@yearly", pipeline="nightly", parameters={"n": 0})
    trigger = admin.pipelines.create_trigger("pushed", hook=True, pipeline="nightly", parameters={"n": 0})
    webhook = admin.webhooks.create_webhook("https://hooks.example.org/", ["modelops.webhooks.none"])
    delivery = admin.webhooks.ping_webhook(webhook.id)
    send(admin, deployment.id, stream(batch(about(deployment.id), rows[:4])))
    study = admin.tuning.create_study("search", space={"lr": {"type": "float", "low": 0, "high": 1}})
    for value in (0.1, 0.2):
        admin.tuning.enqueue_trial(study.id, {"lr": value})
    report = _drift_report(admin, deployment.id, version, rows)
    return {
        "tenant": me.tenant_id,
        "project": me.project_id,
        "principal": account.id,
        "user": user.id,
        "account": account.id,
        "key_id": key.id,
        "digest": dataset.digest,
        "spare_digest": spare.digest,
        "upload": upload.id,
        "spare_upload": spare_upload.id,
        "number": "1",
        "dataset": dataset.dataset_id,
        "version": "1",
        "experiment": experiment.id,
        "run": run.id,
        "view": view.id,
        "study": study.id,
        "key": "loss",
        "key:path": "loss",
        "model": version.model_id,
        "alias": "challenger",
        "approval": approval.id,
        "job": job.id,
        "workload": admin.compute.get_workload(queued.id).id,
        "pool": "gpus",
        "flavor": "nodes",
        "cohort": "everyone",
        "cluster_queue": "fair",
        "queue": "shared",
        "scope": "project",
        "holder": me.project_id,
        "priority_class": "urgent",
        "deployment": deployment.id,
        "index": "0",
        "report": report.id,
        "validation": validation.id,
        "schedule": schedule.id,
        "trigger": trigger.id,
        "token": trigger.hook_path.rpartition("/")[2],
        "webhook": webhook.id,
        "delivery": delivery.id,
        "pipeline": "nightly",
        "pipeline_run": pipeline_run.id,
        "step": "agree",
    }


def _pools(admin, tenant):
    """Make a pool, a queue for the default project, and what is around them. The queue is stopped: its jobs wait."""
    compute = admin.compute
    compute.set_pool("gpus", PoolSpec(mode="MIG", gpu_count=1, gpu_model="A30"))
    compute.set_flavor("nodes", FlavorSpec())
    quotas = [
        FlavorQuotas(flavor="gpus", quotas={"gpu_shares": QuotaSpec(nominal=4)}),
        FlavorQuotas(flavor="nodes", quotas={"cpus": QuotaSpec(nominal=8)}),
    ]
    groups = [ResourceGroup(flavors=[one]) for one in quotas]
    compute.set_cohort("everyone", CohortSpec())
    compute.set_cluster_queue("fair", ClusterQueueSpec(groups=groups, cohort="everyone", tenant=tenant))
    compute.set_queue("shared", QueueSpec(cluster_queue="fair", limits={"cpus": 4}, stop_policy="Hold"))
    compute.set_quota("project", "default", QuotaLimits(limits=[QuotaLimit(resource="gpu_shares", limit=4)]))
    compute.set_priority_class("urgent", PriorityClassSpec(value=100))


def _validation(version):
    check = CheckResult(name="metrics", passed=True, reason="accuracy is 1.", figures={"accuracy": 1.0})
    return ValidationCreate(
        digest=version.digest, data_digest="sha256:" + "0" * 64, rows=40, target="target", checks=[check]
    )


def _drift_report(admin, deployment, version, rows):
    reference = build_reference(rows, [n % 2 for n in range(40)], input_names=["x0", "x1"])
    sketcher = Sketcher(reference)
    sketcher.add(rows, np.array([n % 2 for n in range(40)]))
    inputs, outputs, count = sketcher.take()
    now = datetime.now(UTC)
    batch = SketchBatch(
        source="test",
        sequence=0,
        deployment_id=deployment,
        revision=1,
        model_version_id=version.id,
        started_at=now - timedelta(seconds=2),
        ended_at=now - timedelta(seconds=1),
        rows=count,
        requests=1,
        errors=0,
        dropped_rows=0,
        inputs=inputs,
        outputs=outputs,
    )
    admin.rest.request("POST", "/monitoring/sketches", json=SketchBatches(batches=[batch]))
    return admin.monitoring.detect_drift(deployment)

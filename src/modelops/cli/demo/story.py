"""The story: from real data to monitored predictions, each step verified from outside."""

import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from modelops.cli.demo.report import write_report
from modelops.cli.demo.stage import NotVerified, Plot, Record, Step, wait_until
from modelops.contracts.errors import MLOpsError, PermissionDenied
from modelops.contracts.schemas import Json
from modelops.contracts.terminal import note, say
from modelops.domains.models.rules import ApprovalRequired
from modelops.domains.models.schemas import ModelVersion
from modelops.domains.monitoring.schemas import DriftReport
from modelops.domains.serving.schemas import Deployment, DeploymentState
from modelops.domains.training.schemas import Job, JobState
from modelops.sdk.client import Client
from modelops.sdk.local import LocalPlatform
from modelops.sdk.registry import ModelRegistry

CANCER, DIGITS = "breast-cancer", "digits"
DEPLOYMENT = "diagnosis"
SHIFTED = ("mean texture", "worst smoothness")
ROWS_PER_REQUEST = 50
_SEED = 7


def run_demo(report: Path, *, keep: bool = False) -> int:
    """Run the story on a platform of its own, write the report, and return the exit code."""
    record, failure = Record(), None
    folder = Path(tempfile.mkdtemp(prefix="modelops-demo-"))
    platform = LocalPlatform(folder / "home")
    say("The main job, on real data and through public faces only.")
    began = time.monotonic()
    try:
        Story(record, platform, folder).tell()
    except (MLOpsError, httpx.HTTPError, OSError) as error:
        failure = str(error)
        note(f"\nFailed: {failure}")
    finally:
        if keep:
            say(f"\nThe platform goes on at {platform.url}; end it with: mops --home {platform.home} down")
        else:
            platform.stop()
    write_report(report, record.steps, failure)
    checks = sum(len(step.checks) for step in record.steps)
    say(f"\n{len(record.steps)} steps, {checks} claims verified, {time.monotonic() - began:.0f} s. Report: {report}")
    return 1 if failure else 0


class Story:
    """The steps, and what each leaves for the next."""

    def __init__(self, record: Record, platform: LocalPlatform, folder: Path) -> None:
        self.record = record
        self.platform = platform
        self.folder = folder
        self.client: Client
        self.registry: ModelRegistry
        self.reviewer: Client
        self.job: Job
        self.version: ModelVersion
        self.model: Any
        self.held_out: Any
        self.answers: Any

    def tell(self) -> None:
        """Take every step in turn."""
        steps: list[tuple[str, Callable[[Step], None]]] = [
            ("Start the platform", self.start),
            ("Register real data", self.register_data),
            ("Train three algorithms as a job", self.train),
            ("Train on a second data set from the command line", self.train_from_shell),
            ("Compare the candidates", self.compare),
            ("Verify the registered, signed model", self.verify),
            ("Refuse promotion without approval", self.refuse),
            ("Approve and promote", self.promote),
            ("Deploy two replicas", self.deploy),
            ("Predict over HTTP", self.predict),
            ("Explain predictions", self.explain),
            ("Watch ordinary traffic", self.watch_ordinary),
            ("Watch shifted traffic", self.watch_shifted),
            ("Kill a runtime", self.kill_runtime),
            ("Deploy a bad version", self.deploy_bad),
            ("Read the trail", self.read_trail),
        ]
        with contextlib.ExitStack() as stack:
            for number, (title, act) in enumerate(steps):
                with self.record.step(title) as step:
                    act(step)
                if number == 0:
                    stack.callback(self.client.close)

    def start(self, step: Step) -> None:
        """`mops up` in a process of its own; the readiness is asked over HTTP, the sign-in through the command line."""
        self.platform.start()
        step.check("the readiness probe answers 200", httpx.get(f"{self.platform.url}/readyz").status_code == 200)
        step.check("without a key nothing else answers", httpx.get(f"{self.platform.url}/v1/me").status_code == 401)
        status = json.loads(self.platform.mops("status", "--json").stdout)
        step.check("the first start signed this machine in", status["signed_in_as"] == "admin")
        self.client = self.platform.client()
        self.registry = ModelRegistry(self.client)
        step.fact("platform", self.platform.url)
        step.fact("version", status["version"])
        step.link("API documentation", f"{self.platform.url}/docs")

    def register_data(self, step: Step) -> None:
        """scikit-learn's breast cancer as CSV and its digits as Parquet; a third of the former is held out."""
        from sklearn.datasets import load_breast_cancer, load_digits
        from sklearn.model_selection import train_test_split

        cancer = load_breast_cancer(as_frame=True).frame
        train, self.held_out = train_test_split(cancer, test_size=0.33, random_state=_SEED, stratify=cancer["target"])
        csv, parquet = self.folder / "cancer.csv", self.folder / "digits.parquet"
        train.to_csv(csv, index=False)
        load_digits(as_frame=True).frame.to_parquet(parquet, index=False)
        self.client.data.create_dataset(CANCER, description="Wisconsin diagnostic breast cancer, two thirds of it")
        version = self.client.data.create_dataset_version(CANCER, csv)
        self.platform.mops("data", "create-dataset", DIGITS)
        self.platform.mops("data", "create-dataset-version", DIGITS, str(parquet))
        copy = self.client.data.download_dataset_version(CANCER, 1, self.folder / "copy.csv")
        step.check("the file comes back byte for byte", copy.read_bytes() == csv.read_bytes())
        profile = {column.name: column for column in version.profile}
        mean = float(train["mean radius"].mean())
        measured = profile["mean radius"].mean or 0.0
        step.check("the profile has the true mean of a column", abs(measured - mean) < 1e-9)
        digits = self.client.data.get_dataset_version(DIGITS)
        step.check("both tables have all their rows", (version.rows, digits.rows) == (len(train), 1797))
        step.fact(CANCER, f"{version.rows} rows, {len(version.columns)} columns, {version.digest[:19]}…")
        step.fact(DIGITS, f"{digits.rows} rows, {len(digits.columns)} columns, {digits.digest[:19]}…")
        step.link("the data set", f"{self.platform.url}/v1/datasets/{CANCER}/versions/1")

    def train(self, step: Step) -> None:
        """The recipe tries three algorithms on the same folds; the job runs in a process of its own."""
        parameters: dict[str, Json] = {"target": "target", "model": CANCER, "seed": _SEED}
        queued = self.client.training.submit_job(
            "tabular-classification", CANCER, parameters=parameters, name="diagnose", experiment=CANCER
        )
        self.job = self.client.training.wait_for_job(queued.id, within_s=120)
        step.check(f"the job succeeded ({self.job.reason or 'no complaint'})", self.job.state is JobState.SUCCEEDED)
        runs = self.client.experiments.list_runs(CANCER, order_by="metrics.accuracy desc").items
        step.check("each of three candidates is a finished run", [run.status for run in runs] == ["finished"] * 3)
        log = self.client.training.get_job_log(queued.id).text
        step.check("the job's log names the best", "best:" in log)
        step.fact("job", self.job.id)
        step.fact(
            "CPU", f"{self.job.cpu_seconds or 0:.1f} s, {(self.job.peak_memory_bytes or 0) / 2**20:.0f} MiB at most"
        )
        step.link("the job", f"{self.platform.url}/v1/jobs/{self.job.id}")

    def train_from_shell(self, step: Step) -> None:
        """The same recipe on digits, submitted and followed by `mops`."""
        arguments = ["jobs", "submit-job", "tabular-classification", DIGITS, "--name", DIGITS, "--wait", "--json"]
        arguments += ["-p", "target=target", "-p", f"model={DIGITS}", "-p", "folds=3"]
        arguments += ["-p", 'algorithms=["logistic_regression", "nearest_neighbours"]']
        done = self.platform.mops(*arguments, check=False)
        step.check("the command ended with 0", done.returncode == 0)
        scores = json.loads(done.stdout)["result"]["metrics"]
        step.check("the digits are told apart in 95 of 100 cases", scores["accuracy"] > 0.95)
        step.fact("accuracy", scores["accuracy"])

    def compare(self, step: Step) -> None:
        """The runs in order of their score, and whether the job chose the best."""
        runs = self.client.experiments.list_runs(CANCER, order_by="metrics.accuracy desc").items
        best = self.job.result.run_id if self.job.result else None
        step.check("the job chose the run with the best score", runs[0].id == best)
        history = self.client.experiments.get_metric_history(runs[0].id, "fold_accuracy").items
        mean = sum(point.value for point in history) / len(history)
        step.check("its score is the mean of its folds", abs(mean - runs[0].metrics["accuracy"]) < 1e-12)
        for run in runs:
            step.fact(run.name, f"accuracy {run.metrics['accuracy']:.4f} ± {run.metrics['accuracy_std']:.4f}")
        bars = [(run.name, run.metrics["accuracy"]) for run in runs]
        step.plots.append(Plot("Accuracy in cross-validation", bars, frozenset({runs[0].name})))
        step.link("the runs", f"{self.platform.url}/v1/runs?experiment={CANCER}")

    def verify(self, step: Step) -> None:
        """The signature and every file are checked by the platform, and again by the loader here."""
        self.version = self.registry.get_model(CANCER)
        checked = self.client.models.verify_version(CANCER, self.version.version)
        step.check("the platform's signature holds", checked.digest == self.version.digest)
        self.model = self.registry.load_model(f"{CANCER}:{self.version.version}")
        step.check("the loader here verified and loaded it", self.model is not None)
        lineage = (self.version.job_id, self.version.run_id, self.version.dataset_version_id)
        step.check("its lineage names job, run and data", lineage[0] == self.job.id and None not in lineage)
        step.fact("model", f"{self.version.name}:{self.version.version}, {self.version.flavour}, {self.version.stage}")
        step.fact("digest", self.version.digest)
        step.fact("signed by", f"{checked.signed_by} (Ed25519), {checked.files_checked} files")
        step.fact("takes", f"{len(self.version.signature.inputs)} features")
        step.link("the version", f"{self.platform.url}/v1/models/{CANCER}/versions/{self.version.version}")

    def refuse(self, step: Step) -> None:
        """Production is closed to what nobody approved, and to what was approved by who asked."""
        for stage in ("Registration", "Staging"):
            self.registry.promote_model(CANCER, stage)
        refused = _refusal(lambda: self.registry.promote_model(CANCER, "Production"))
        step.check("promotion without approval is refused", isinstance(refused, ApprovalRequired))
        asked = self.registry.request_approval(CANCER, comment="best of three")
        alone = _refusal(lambda: self.registry.approve(asked.id))
        step.check("who asked cannot approve", isinstance(alone, PermissionDenied))
        step.check("it still is in Staging", self.registry.get_model(CANCER).stage == "Staging")
        step.fact("the platform said", str(refused))

    def promote(self, step: Step) -> None:
        """Another member approves; the approval is bound to the digest and signed."""
        self.client.identity.create_service_account("reviewer", role="ml_engineer")
        key = self.client.identity.create_api_key("review", principal="reviewer")
        with Client(self.platform.url, token=key.secret, home=self.folder) as reviewer:
            pending = reviewer.models.list_approvals(filter='state = "pending"').items[0]
            approval = ModelRegistry(reviewer).approve(pending.id, comment="looked at the folds")
        step.check("the approval is of this digest", approval.digest == self.version.digest)
        promoted = self.registry.promote_model(CANCER, "Production", comment="first release")
        step.check("it is in Production", promoted.stage == "Production")
        champion = self.registry.get_model(CANCER, alias="champion")
        step.check("the alias champion points at it", champion.id == self.version.id)
        for record in reversed(self.client.models.list_stage_history(CANCER).items):
            step.fact(f"{record.from_stage} → {record.to_stage}", record.changed_at.strftime("%H:%M:%S"))

    def deploy(self, step: Step) -> None:
        """Two processes serve the champion; each is asked for its readiness directly."""
        self.client.serving.create_deployment(DEPLOYMENT, f"{CANCER}@champion", replicas=2)
        ready = self._settled(
            lambda d: d.state is DeploymentState.READY and d.ready_replicas == 2, "two replicas are ready"
        )
        endpoints = [replica.endpoint for replica in ready.replica_status if replica.endpoint]
        step.check(
            "each replica answers its readiness probe",
            all(httpx.get(f"{e}/readyz").status_code == 200 for e in endpoints),
        )
        refused = httpx.post(f"{endpoints[0]}/predict", json={"instances": [[0.0] * 30]}).status_code
        step.check("a replica refuses who has no token", refused == 401)
        for replica in ready.replica_status:
            step.fact(f"replica {replica.index}", f"{replica.endpoint}, process {replica.pid}")
        step.link("the deployment", f"{self.platform.url}/v1/deployments/{DEPLOYMENT}")

    def predict(self, step: Step) -> None:
        """Held-out rows over HTTP, against the model that was loaded here."""
        rows = self.held_out.drop(columns="target")
        self.answers = self._ask("predict", rows.to_numpy().tolist())
        expected = self.model.predict(rows.to_numpy()).tolist()
        step.check(f"all {len(rows)} predictions equal the loaded model's", self.answers["predictions"] == expected)
        right = (self.held_out["target"].to_numpy() == self.answers["predictions"]).mean()
        step.check("more than 90 of 100 are right on rows it never saw", right > 0.9)
        named = self._ask("predict", [rows.iloc[0].to_dict()])
        step.check(
            "a row by feature names gets the same answer", named["predictions"] == self.answers["predictions"][:1]
        )
        wrong = self._post("predict", {"instances": [[1.0, "x"]]})
        step.check("a wrong row is refused with a reason", wrong.status_code == 422 and bool(wrong.json()["detail"]))
        step.fact("accuracy on held-out rows", float(right))
        step.fact("the platform said of a wrong row", wrong.json()["detail"])

    def explain(self, step: Step) -> None:
        """Attributions must add up to the model's output."""
        row = self.held_out.drop(columns="target").iloc[:3]
        said = self._ask("explain", row.to_numpy().tolist())
        first = said["attributions"][0][-1]
        total = said["base_values"][-1] + sum(first)
        step.check("every feature has an attribution", len(first) == len(said["feature_names"]) == row.shape[1])
        rows = row.to_numpy()[:1]
        native = self.model.model
        true = (
            self.model.predict_proba(rows)[0][-1]
            if said["explains"] == "probability"
            else native.decision_function(rows)[0]
        )
        step.check(f"they add up to the loaded model's {said['explains']}", abs(total - float(true)) < 1e-6)
        top = sorted(zip(said["feature_names"], first, strict=True), key=lambda pair: -abs(pair[1]))[:10]
        step.fact("method", f"{said['method']}, in {said['explains']}")
        step.fact("most telling", ", ".join(name for name, _ in top[:3]))
        step.plots.append(Plot("What spoke for and against, in the first held-out row", top))

    def watch_ordinary(self, step: Step) -> None:
        """Rows like the training data raise no alarm."""
        report = self._drift_of(self.held_out.drop(columns="target"))
        inputs = [name for name in report.drifted_columns if name != "prediction"]
        step.check(f"{report.rows} ordinary rows raise no alarm", not inputs)
        step.fact("greatest effect", f"{report.columns[0].effect:.3f} ({report.columns[0].name})")

    def watch_shifted(self, step: Step) -> None:
        """Two features are moved by two standard deviations: they are named, and no other."""
        rows = self.held_out.drop(columns="target").copy()
        for name in SHIFTED:
            rows[name] += 2 * rows[name].std()
        report = self._drift_of(rows)
        inputs = {column.name for column in report.columns if column.drifted and column.role == "input"}
        step.check("the report names the shifted features and only those", inputs == set(SHIFTED))
        for column in report.columns[:4]:
            shift = f"{column.shift:.2f} sd" if column.shift is not None else "-"
            step.fact(column.name, f"effect {column.effect:.3f}, shift {shift}, p {column.adjusted_p_value:.2g}")
        bars = [(column.name, column.effect) for column in report.columns if column.role == "input"][:12]
        step.plots.append(Plot("Drift: distance from the training data", bars, frozenset(SHIFTED)))
        step.link("the report", f"{self.platform.url}/v1/monitoring/drift/{report.id}")

    def kill_runtime(self, step: Step) -> None:
        """`kill -9` of a replica: the other answers meanwhile, and it comes back."""
        before = self.client.serving.get_deployment(DEPLOYMENT)
        victim = next(replica for replica in before.replica_status if replica.pid)
        os.kill(victim.pid or 0, signal.SIGKILL)
        rows = self.held_out.drop(columns="target").iloc[:1].to_numpy().tolist()
        answered = [self._post("predict", {"instances": rows}).status_code for _ in range(20)]
        step.check("20 of 20 requests were answered right after", answered == [200] * 20)

        def returned(deployment: Deployment) -> bool:
            pids = {replica.pid for replica in deployment.replica_status if replica.ready}
            return deployment.ready_replicas == 2 and victim.pid not in pids

        after = self._settled(returned, "the killed replica is back")
        replica = next(r for r in after.replica_status if r.index == victim.index)
        step.check("another process has its place", replica.pid != victim.pid and replica.restarts >= 1)
        step.fact("killed", victim.pid)
        step.fact("in its place", replica.pid)

    def deploy_bad(self, step: Step) -> None:
        """A version that cannot be loaded never takes over."""
        bad = self.registry.register_model(
            CANCER, Broken(), sample=self.held_out.drop(columns="target").head(20), outputs=[0] * 20
        )
        self.client.serving.update_deployment(DEPLOYMENT, model=f"{CANCER}:{bad.version}")
        rows = self.held_out.drop(columns="target").iloc[:1].to_numpy().tolist()
        codes = []

        def rolled_back(deployment: Deployment) -> bool:
            codes.append(self._post("predict", {"instances": rows}).status_code)
            return deployment.state is DeploymentState.ROLLED_BACK

        after = self._settled(rolled_back, "the bad version is rolled back", within_s=90)
        step.check(f"all {len(codes)} requests meanwhile were answered", set(codes) == {200})
        step.check(
            "the good version still serves", after.model_version == self.version.version and after.ready_replicas == 2
        )
        answer = self._ask("predict", rows)
        step.check("and says so itself", answer["version"] == self.version.version)
        step.fact("the platform said", (after.reason or "")[:300])

    def read_trail(self, step: Step) -> None:
        """What happened is in the event stream and in the audit trail."""
        kinds = [event.type for event in self.client.platform.stream_events(follow=False)]
        for kind in (
            "training.job_ended",
            "models.stage_changed",
            "serving.revision_active",
            "monitoring.drift_detected",
        ):
            step.check(f"the event {kind} is in the stream", f"modelops.{kind}" in kinds)
        denied = self.client.identity.list_audit_records(filter='outcome != "done"').items
        step.check(
            "the denied approval is in the audit trail", any(r.operation == "models.decide_approval" for r in denied)
        )
        done = self.client.identity.list_audit_records(limit=1).total
        step.fact("events", len(kinds))
        step.fact("audit records", done)
        step.link("the event stream", f"{self.platform.url}/v1/events?follow=false")

    def _drift_of(self, rows: Any) -> DriftReport:
        """Send rows, wait until the platform has counted them, and compare."""
        since = datetime.now(UTC)
        time.sleep(2.5)  # whatever was seen before is in batches that ended before
        since, sent = datetime.now(UTC), 0
        values = rows.sample(600, replace=True, random_state=_SEED).to_numpy().tolist()
        for start in range(0, len(values), ROWS_PER_REQUEST):
            self._ask("predict", values[start : start + ROWS_PER_REQUEST])
            sent += len(values[start : start + ROWS_PER_REQUEST])
        wait_until(
            lambda: self.client.monitoring.get_traffic(DEPLOYMENT, since=since).rows >= sent, "all rows are counted"
        )
        return self.client.monitoring.detect_drift(DEPLOYMENT, since=since)

    def _ask(self, what: str, instances: list[Any]) -> dict[str, Any]:
        answer = self._post(what, {"instances": instances})
        if answer.status_code != 200:
            raise NotVerified(f"{what} answered {answer.status_code}: {answer.text[:500]}")
        found: dict[str, Any] = answer.json()
        return found

    def _post(self, what: str, body: dict[str, Any]) -> httpx.Response:
        """Send a plain HTTP request, as any program would."""
        url = f"{self.platform.url}/v1/deployments/{DEPLOYMENT}/{what}"
        headers = {"Authorization": self.client.rest.http.headers["Authorization"]}
        return httpx.post(url, json=body, headers=headers, timeout=60)

    def _settled(self, condition: Callable[[Deployment], bool], what: str, *, within_s: float = 60) -> Deployment:
        def look() -> Deployment | None:
            found = self.client.serving.get_deployment(DEPLOYMENT)
            return found if condition(found) else None

        try:
            settled: Deployment = wait_until(look, what, within_s=within_s)
        except NotVerified as late:
            found = self.client.serving.get_deployment(DEPLOYMENT)
            states = "; ".join(f"{r.revision}/{r.index} {r.phase} {r.reason or ''}" for r in found.replica_status)
            raise NotVerified(f"{late.detail} It is {found.state}: {found.reason or states}.") from late
        return settled


class Broken:
    """A model that cannot be loaded anywhere."""

    def __call__(self, rows: Any) -> list[int]:
        """Predict nothing of use."""
        return [0 for _ in rows]

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return _refuse_to_load, ("this model refuses to be loaded",)


def _refuse_to_load(why: str) -> None:
    raise RuntimeError(why)


def _refusal(act: Callable[[], object]) -> MLOpsError | None:
    try:
        act()
    except MLOpsError as refused:
        return refused
    return None

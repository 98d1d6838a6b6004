"""A platform whose runs are driven by a test: workers are played by it, over the same HTTP as real ones."""

import json
import threading
import time

from modelops.contracts.errors import MLOpsError
from modelops.contracts.ports import JobBackend, Observation, Phase
from modelops.domains.pipelines.checking import read_document
from modelops.domains.pipelines.schemas import (
    StepBeat,
    StepClaim,
    StepOrders,
    StepReport,
    StepReports,
    StepWork,
    ValueRef,
)
from modelops.domains.pipelines.tables import PipelineWorkerRow


class SilentBackend:
    """A `JobBackend` whose processes do nothing: the test says what is seen of them."""

    def __init__(self):
        self.specs, self.seen, self.stops, self.removed, self.refusal = {}, {}, [], [], None

    def start(self, spec):
        if self.refusal is not None:
            raise self.refusal
        if spec.name not in self.seen:
            self.specs[spec.name] = spec
            self.seen[spec.name] = Observation(Phase.RUNNING, pid=1)

    def observe(self, name):
        return self.seen.get(name, Observation(Phase.ABSENT))

    def stop(self, name, *, grace_s=10.0, reason="stopped on request"):
        self.stops.append((name, reason))
        self.seen[name] = Observation(Phase.EXITED, reason=reason)

    def log(self, name, *, offset=0, limit=65_536):
        return b""

    def usage(self, name):
        return []

    def names(self):
        return sorted(self.seen)

    def remove(self, name):
        self.removed.append(name)
        self.seen.pop(name, None)


class Theatre:
    """A platform with a silent backend, whose workflows run; `turn` does a round of the reconcilers."""

    def __init__(self, platform):
        self.platform = platform
        self.backend = platform.place.ports[JobBackend] = SilentBackend()
        platform.platform.url.set("http://test")
        platform.platform.launch_workflows()
        self.client = platform.client()
        self.pipelines = self.client.pipelines

    def register(self, name="p", **rest):
        return self.pipelines.register_pipeline(read_document({"name": name, **rest}))

    def start(self, name="p", **options):
        run = self.pipelines.start_run(name, **options)
        self.turn()
        return run

    def turn(self):
        self.platform.controller.turn()

    def worker(self, run, number=0):
        """Play one of the run's workers, by the order in which they were made."""
        with self.platform.place.work(write=False) as ctx:
            rows = ctx.session.query(PipelineWorkerRow).filter_by(run_id=run.id).order_by(PipelineWorkerRow.id).all()
        name = rows[number].id
        return Player(self, run, name, self.platform.client(self.backend.specs[name].files["token"]))

    def until(self, run, *states, within_s=20.0):
        """Turn the reconcilers until the run is in one of the states."""
        deadline = time.monotonic() + within_s
        while True:
            found = self.pipelines.get_run(run.id)
            if found.state in states:
                return found
            assert time.monotonic() < deadline, (found, self.states(run))
            self.turn()
            time.sleep(0.02)

    def until_step(self, run, key, *states, within_s=20.0):
        """Turn the reconcilers until a step is in one of the states."""
        deadline = time.monotonic() + within_s
        while True:
            found = self.states(run).get(key)
            if found in states:
                return self.pipelines.get_step(run.id, key)
            assert time.monotonic() < deadline, self.states(run)
            self.turn()
            time.sleep(0.02)

    def until_job(self, job, state, within_s=20.0):
        """Turn the reconcilers until a training job is in a state."""
        deadline = time.monotonic() + within_s
        while self.client.training.get_job(job).state != state:
            assert time.monotonic() < deadline, self.client.training.get_job(job)
            self.turn()

    def states(self, run):
        return {step.key: str(step.state) for step in self.pipelines.all_steps(run.id)}

    def play(self, run, functions=None, *, most=4, within_s=60.0):
        """Carry the run out to its end with one worker, and return it. `functions`: name -> what it does of its inputs."""
        self.until(run, "running", "succeeded", "failed", "canceled")
        stop = threading.Event()

        def keep_turning():
            while not stop.is_set():
                self.turn()
                stop.wait(0.05)

        turning = threading.Thread(target=keep_turning)
        turning.start()
        try:
            self.worker(run).perform(functions or {}, most=most, within_s=within_s)
            return self.pipelines.wait_for_run(run.id, within_s=within_s)
        finally:
            stop.set()
            turning.join()


class Player:
    """A worker, played."""

    def __init__(self, theatre, run, name, client):
        self.theatre, self.run, self.name, self.client = theatre, run, name, client
        self._known = {}

    def _post(self, kind, path, body):
        answer = self.client.rest.request("POST", f"/pipeline-runs/{self.run.id}/steps/{path}", json=body, timeout=60)
        return kind.model_validate_json(answer.content)

    def claim(self, most=1, wait_s=5.0):
        return self._post(StepWork, "claim", StepClaim(worker=self.name, most=most, wait_s=wait_s))

    def take(self):
        """Claim one step."""
        (task,) = self.claim().tasks
        return task

    def beat(self, *tasks, wrote=(), returned=()):
        attempts, back = ([(task.id, task.attempt) for task in each] for each in (tasks, returned))
        body = StepBeat(worker=self.name, attempts=attempts, wrote=list(wrote), returned=back)
        return self._post(StepOrders, "beat", body)

    def report(self, *reports, wrote=(), most=0):
        body = StepReports(worker=self.name, reports=reports, wrote=list(wrote), most=most)
        return self._post(StepOrders, "report", body)

    def succeed(self, task, **values):
        outputs = {name: self.put(value) for name, value in values.items()}
        return self.report(StepReport(step=task.id, attempt=task.attempt, outputs=outputs))

    def fail(self, task, failure="it broke", *, hopeless=False):
        return self.report(StepReport(step=task.id, attempt=task.attempt, failure=failure, hopeless=hopeless))

    def put(self, value):
        content = json.dumps(value).encode()
        kept = self.client.data.upload_artifact(content)
        return ValueRef(type="json", digest=kept.digest, size=kept.size)

    def read(self, ref):
        if isinstance(ref, list):
            return [self.read(each) for each in ref]
        if ref.digest not in self._known:
            self._known[ref.digest] = json.loads(self.client.data.download_artifact(ref.digest))
        return self._known[ref.digest]

    def perform(self, functions, *, most, within_s):
        """Take steps up and carry them out until the run wants no worker any more."""
        deadline = time.monotonic() + within_s
        known = {}
        while time.monotonic() < deadline:
            work = self.claim(most, wait_s=1.0)
            if work.over:
                return
            reports = [self._done(task, functions, known) for task in work.tasks]
            if reports:
                self.report(*reports)
        raise AssertionError(self.theatre.states(self.run))

    def _done(self, task, functions, known):
        inputs = {**task.inputs, **{name: self.read(ref) for name, ref in task.references.items()}}
        act = functions.get(task.function.partition(":")[2], lambda **_: None)
        try:
            result = act(**inputs)
        except MLOpsError:
            raise
        except Exception as wrong:
            return StepReport(step=task.id, attempt=task.attempt, failure=f"{type(wrong).__name__}: {wrong}")
        values = result if set(task.outputs) != {"result"} else {"result": result}
        outputs = {}
        for name in task.outputs:
            content = json.dumps(values[name])
            if content not in known:
                known[content] = self.put(values[name])
            outputs[name] = known[content]
        return StepReport(step=task.id, attempt=task.attempt, outputs=outputs)


def function(name="f", **rest):
    """Return a step that is a function."""
    return {"run": {"function": f"code:{name}"}, **rest}


def output(step, name="result"):
    """Return the binding of another step's output."""
    return {"step": step, "output": name}

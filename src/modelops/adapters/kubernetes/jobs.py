"""Attempts at jobs as batch Jobs of a cluster.

A Job makes another pod where its pod was deleted or its node vanished; an attempt runs at most once. So a pod's keeper
waits until it is told to begin, and only the pod is told whose number was written into the Job first. How an attempt
ended is written into the Job, too, as soon as it was seen, with its output read before: it stays known when the pod is
gone. That it began is noted in the database before it does: when the Job is gone, too, it is lost, and not begun anew.
"""

import json
import math
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from modelops.adapters.kubernetes import names
from modelops.adapters.kubernetes.cluster import Cluster, Document
from modelops.adapters.kubernetes.drift import tell
from modelops.adapters.kubernetes.logs import Archive
from modelops.adapters.kubernetes.observing import Verdict, judge, time_of
from modelops.adapters.kubernetes.pods import pod_spec, spec_secret
from modelops.adapters.kubernetes.settings import Site
from modelops.adapters.kubernetes.tenants import Tenants
from modelops.adapters.local.commands import Command
from modelops.adapters.local.processes import checked_name
from modelops.contracts.errors import Conflict, NotFound, Unavailable
from modelops.contracts.ports import EndedBy, JobSpec, Observation, Phase, UsageSample

DELETION_GRACE_S = 30
FOLLOW_EVERY_S = 5.0
ASK_EVERY_S = 10.0
"""How often a cluster that refuses a pod is asked again: by itself it waits longer each time, up to six minutes."""

_STOP_SLACK = timedelta(seconds=15)
_OUTPUT_PATIENCE = timedelta(seconds=60)
_REASON_CHARACTERS = 600


class KubernetesJobBackend:
    """A JobBackend of a cluster; see `JobBackend` for what its methods promise. Any number of processes may share it.

    What an attempt used over time is known after its end: its keeper hands over some samples. Close it after use, or use
    it in a `with` block: the attempts go on.

    Args:
        cluster: The cluster, which is closed with this.
        site: Where in it attempts are put, and their image.
    """

    def __init__(self, cluster: Cluster, site: Site) -> None:
        self._cluster = cluster
        self._site = site
        self._tenants = Tenants(cluster, site)
        self._outputs = site.logs
        self._archive = Archive(site.logs, cluster)
        self._namespaces: dict[str, str] = {}
        self._followed: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the connections. The attempts go on."""
        self._cluster.close()

    def start(self, spec: JobSpec) -> None:
        """Create the attempt's Job, unless it was before.

        Raises:
            Refused: the cluster does not admit it.
            Unavailable: the cluster does not answer, or the namespace is being deleted.
        """
        if self._job(spec.name) is not None or self._began(spec.name):
            return
        secret, job = self.documents(spec)
        self._tenants.ensure(spec.tenant)
        self._cluster.create(secret)
        try:
            made = self._cluster.create(job)
        except NotFound as wrong:
            raise Unavailable(f"The namespace of {spec.name} is being deleted.", hint="It is tried again.") from wrong
        if made is not None:
            owner = {"apiVersion": "batch/v1", "kind": "Job", "name": made["metadata"]["name"]}
            owners = [{**owner, "uid": made["metadata"]["uid"]}]
            self._cluster.patch(secret, {"metadata": {"ownerReferences": owners}})

    def observe(self, name: str) -> Observation:
        """Return what is seen of the attempt. The one that sees its pod first lets it begin."""
        job = self._job(name)
        if job is not None:
            return self._look(job).observation
        if not self._began(name):
            return Observation(Phase.ABSENT)
        why = "was lost: its Job is gone from the cluster, deleted by somebody else"
        return Observation(Phase.LOST, reason=why, ended_by=EndedBy.EVICTION)

    def stop(self, name: str, *, grace_s: float = 10.0, reason: str = "stopped on request") -> None:
        """Ask the attempt to end: its keeper reads the request from its pod."""
        job = self._job(name)
        if job is None or self._look(job).observation.ended:
            return
        now = datetime.now(UTC)
        before = _stop_of(job)
        words = reason[:_REASON_CHARACTERS] if before is None else before["reason"]
        until = (now + timedelta(seconds=max(0.0, grace_s))).isoformat()
        asked = {"grace_s": max(0.0, grace_s), "reason": words, "until": until}
        try:
            job = self._cluster.annotate(job, {names.STOP: json.dumps(asked)})
        except NotFound:
            return
        self._look(job)

    def log(self, name: str, *, offset: int = 0, limit: int = 65_536) -> bytes:
        """Return a piece of the attempt's output, as far as it was read; what is new is read first."""
        job = self._job(name)
        if job is not None and not self._look(job).observation.ended:
            pod = self._pod(job)
            if pod is not None:
                with suppress(Unavailable):  # its node does not answer; what was read before is there
                    self._follow(job, pod, every_s=0.0)
        return self._archive.read(self._key(name), offset, limit)

    def usage(self, name: str) -> list[UsageSample]:
        """Return samples of an attempt that has ended; of one that runs there are none yet."""
        job = self._job(name)
        kept = None if job is None else _annotation(job, names.VERDICT)
        return Verdict.read(kept).usage() if kept else []

    def names(self) -> list[str]:
        """Return every attempt that is still kept, sorted: those whose Job is gone, too, as long as their output is there."""
        labels = names.labels_of(self._site.instance, names.ATTEMPT, "")
        del labels[names.NAME]
        jobs = [job for job in self._cluster.list("Job", labels) if "deletionTimestamp" not in job["metadata"]]
        found = {name for job in jobs if (name := _annotation(job, names.FULL_NAME))}
        return sorted(found.union(self._outputs.attempts()))

    def remove(self, name: str) -> None:
        """Delete the attempt's Job, and with it pod, Secret and output. Raises Conflict while it has not ended."""
        job = self._job(name)
        if job is None:
            self._archive.remove(self._key(name))
            return
        phase = self._look(job).observation.phase
        if phase in (Phase.STARTING, Phase.RUNNING):
            raise Conflict(
                f"{name} is {phase}; it can be removed after it has ended.", hint="Stop it, and wait for its end."
            )
        about = job["metadata"]
        self._cluster.delete("Secret", about["name"], about["namespace"])
        self._cluster.delete("Job", about["name"], about["namespace"])
        self._archive.remove(about["name"])
        self._namespaces.pop(about["name"], None)

    def documents(self, spec: JobSpec) -> tuple[Document, Document]:
        """Return the Secret and the Job of an attempt.

        Raises:
            InvalidInput: its name, its command or a file's name cannot be used.
            TooLarge: its files do not fit into a Secret.
        """
        name = names.object_name(checked_name(spec.name), self._site.instance)
        namespace = names.namespace_of(self._site.namespace, spec.tenant)
        labels = names.labels_of(self._site.instance, names.ATTEMPT, spec.name)
        command = Command(spec.argv, spec.env, spec.files, spec.limits)
        secret = spec_secret(name, namespace, labels, self._site, command)
        pod = pod_spec(name, self._site, spec.limits, spec.placement, grace_s=DELETION_GRACE_S, waits=True)
        told = {names.FULL_NAME: spec.name, names.LIMITS: json.dumps({"memory_bytes": spec.limits.memory_bytes})}
        job: Document = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "namespace": namespace, "labels": labels, "annotations": told},
            "spec": {
                "backoffLimit": 0,
                "parallelism": 1,
                "completions": 1,
                "template": {"metadata": {"labels": labels, "annotations": told}, "spec": pod},
            },
        }
        return secret, job

    def _key(self, name: str) -> str:
        return names.object_name(checked_name(name), self._site.instance)

    def _began(self, name: str) -> bool:
        """Tell whether the attempt was told to begin once, whatever became of its Job."""
        return self._outputs.mark(self._key(name)) is not None

    def _job(self, name: str) -> Document | None:
        """Return the attempt's Job, wherever its namespace is."""
        key = self._key(name)
        if key in self._namespaces:
            found = self._cluster.get("Job", key, self._namespaces[key])
        else:
            listed = self._cluster.list("Job", names.labels_of(self._site.instance, names.ATTEMPT, name))
            found = listed[0] if listed else None
        if found is None or "deletionTimestamp" in found["metadata"]:
            self._namespaces.pop(key, None)
            return None
        self._namespaces[key] = found["metadata"]["namespace"]
        return found

    def _look(self, job: Document) -> Verdict:
        """Return what is seen of an attempt, and do what is due: let it begin, pass a stop on, keep how it ended."""
        if kept := _annotation(job, names.VERDICT):
            return Verdict.read(kept)
        try:
            pod = self._pod(job) or self._bind(job)
        except (Conflict, NotFound):  # another was faster
            return Verdict(Observation(Phase.STARTING))
        stop = _stop_of(job)
        if pod is None:
            seen = self._without_pod(job, stop)
        else:
            seen = judge(pod, datetime.now(UTC), memory_bytes=_memory_of(job))
            if not seen.observation.ended:
                seen = self._steer(pod, seen, stop)
            elif stop is not None and seen.observation.ended_by is EndedBy.EVICTION:  # its pod was deleted to end it
                seen = Verdict(_requested(stop, seen.observation.finished_at))
            if seen.observation.phase is not Phase.STARTING:
                self._read_output(job, pod, seen.observation)
        return self._keep(job, seen) if seen.observation.ended else seen

    def _pod(self, job: Document) -> Document | None:
        """Return the pod that the attempt runs in; None where none was chosen, or the chosen one is gone."""
        bound = _annotation(job, names.POD)
        if bound is None:
            return None
        name, _, uid = bound.rpartition("/")
        pod = self._cluster.get("Pod", name, job["metadata"]["namespace"])
        return pod if pod is not None and pod["metadata"]["uid"] == uid else None

    def _bind(self, job: Document) -> Document | None:
        """Choose the pod that the attempt runs in, once and for all."""
        about = job["metadata"]
        if _annotation(job, names.POD) is not None:
            return None
        labels = names.labels_of(self._site.instance, names.ATTEMPT, _annotation(job, names.FULL_NAME) or "")
        pods = [
            pod
            for pod in self._cluster.list("Pod", labels, about["namespace"])
            if any(owner["uid"] == about["uid"] for owner in pod["metadata"].get("ownerReferences") or [])
        ]
        if not pods:
            return None
        pod = min(pods, key=lambda one: one["metadata"]["name"])
        chosen = f"{pod['metadata']['name']}/{pod['metadata']['uid']}"
        job["metadata"] = self._cluster.annotate(job, {names.POD: chosen}, unchanged=True)["metadata"]
        return pod

    def _steer(self, pod: Document, seen: Verdict, stop: dict[str, Any] | None) -> Verdict:
        """Pass on to the pod what it is to do, and return what is seen then."""
        uid, wanted = pod["metadata"]["uid"], dict[str, str | None]()
        if stop is not None:
            if seen.observation.phase is Phase.STARTING:
                return Verdict(_requested(stop, None))
            wanted[names.STOP] = json.dumps({"grace_s": stop["grace_s"], "reason": stop["reason"]})
            if datetime.now(UTC) > datetime.fromisoformat(stop["until"]) + _STOP_SLACK:
                about = pod["metadata"]
                self._cluster.delete("Pod", about["name"], about["namespace"], grace_s=1)
        else:
            wanted[names.BEGIN] = uid
        if any(_annotation(pod, name) != value for name, value in wanted.items()):
            full_name = _annotation(pod, names.FULL_NAME)
            if names.BEGIN in wanted and full_name:
                self._outputs.begin(self._key(full_name), full_name)
            try:
                self._cluster.annotate(pod, wanted)
            except NotFound:
                return Verdict(Observation(Phase.STARTING))
        begun = stop is not None or _annotation(pod, names.BEGIN) == uid
        return seen if begun or seen.observation.ended else Verdict(Observation(Phase.STARTING))

    def _without_pod(self, job: Document, stop: dict[str, Any] | None) -> Verdict:
        """Return what is seen of an attempt that has no pod (any more)."""
        if stop is not None:
            return Verdict(_requested(stop, datetime.now(UTC)))
        if _annotation(job, names.POD) is not None:
            return Verdict(
                Observation(
                    Phase.LOST,
                    reason="was lost: its pod was deleted",
                    finished_at=datetime.now(UTC),
                    ended_by=EndedBy.EVICTION,
                )
            )
        return Verdict(Observation(Phase.STARTING, reason=self._why_no_pod(job)))

    def _why_no_pod(self, job: Document) -> str | None:
        """Return why the Job has no pod, and see to it that the cluster tries again: by what it noted, or by what was changed."""
        about, spec = job["metadata"], job.get("spec") or {}
        if spec.get("suspend"):
            return "its Job is suspended in the cluster, and waits for whoever suspended it"
        if spec.get("parallelism") == 0:
            self._cluster.patch(job, {"spec": {"parallelism": 1}})
            tell(self._cluster, self._site.instance, job, ["spec.parallelism"])
            return "its Job was changed by hand to have no pod; that was put right"
        events = self._cluster.list("Event", {}, about["namespace"], fields={"involvedObject.name": about["name"]})
        refused = [one for one in events if one.get("type") == "Warning" and one.get("reason") == "FailedCreate"]
        if not refused:
            return None
        asked, now = time_of(_annotation(job, names.ASKED)), datetime.now(UTC)
        if asked is None or now > asked + timedelta(seconds=ASK_EVERY_S):
            self._cluster.annotate(job, {names.ASKED: now.isoformat()})
        last = max(refused, key=lambda one: str(one.get("lastTimestamp") or ""))
        return f"the cluster refuses its pod: {last.get('message')}"

    def _keep(self, job: Document, seen: Verdict) -> Verdict:
        """Write how the attempt ended into its Job, and see that no further pod is made for it; the first word counts."""
        try:
            kept = self._cluster.annotate(job, {names.VERDICT: seen.document()}, unchanged=True)
            if not _is_over(kept):
                self._cluster.patch(kept, {"spec": {"parallelism": 0}})
        except (Conflict, NotFound):
            again = self._cluster.get("Job", job["metadata"]["name"], job["metadata"]["namespace"])
            words = None if again is None else _annotation(again, names.VERDICT)
            return Verdict.read(words) if words else Verdict(Observation(Phase.RUNNING))
        return Verdict.read(seen.document())

    def _read_output(self, job: Document, pod: Document, seen: Observation) -> None:
        """Read what is new of the output. A node that does not answer keeps the end from being told, but not for ever."""
        try:
            self._follow(job, pod, every_s=0.0 if seen.ended else FOLLOW_EVERY_S)
        except Unavailable:
            recent = seen.finished_at is not None and datetime.now(UTC) < seen.finished_at + _OUTPUT_PATIENCE
            if seen.phase is Phase.EXITED and recent:
                raise
            self._followed[job["metadata"]["name"]] = time.monotonic() + _OUTPUT_PATIENCE.total_seconds()

    def _follow(self, job: Document, pod: Document, *, every_s: float) -> None:
        name, now = job["metadata"]["name"], time.monotonic()
        if now - self._followed.get(name, -math.inf) < every_s:
            return
        self._followed[name] = now
        self._archive.follow(name, pod["metadata"]["name"], pod["metadata"]["namespace"])
        if every_s == 0.0 and judge(pod, datetime.now(UTC)).observation.ended:
            self._followed.pop(name)


def _annotation(document: Document, name: str) -> str | None:
    return (document["metadata"].get("annotations") or {}).get(name)


def _stop_of(job: Document) -> dict[str, Any] | None:
    text = _annotation(job, names.STOP)
    return json.loads(text) if text else None


def _memory_of(job: Document) -> int | None:
    found: int | None = json.loads(_annotation(job, names.LIMITS) or "{}").get("memory_bytes")
    return found


def _requested(stop: dict[str, Any], finished: datetime | None) -> Observation:
    return Observation(
        Phase.EXITED, reason=stop["reason"], finished_at=finished or datetime.now(UTC), ended_by=EndedBy.REQUEST
    )


def _is_over(job: Document) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)

"""What a pod's document tells: in which phase its process is, and how it ended."""

import base64
import json
import signal
import struct
import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from modelops.adapters.kubernetes.cluster import Document
from modelops.adapters.kubernetes.pods import CONTAINER
from modelops.adapters.kubernetes.settings import MIB
from modelops.contracts.ports import EndedBy, Observation, Phase, UsageSample

PULL_PATIENCE = timedelta(seconds=60)
"""How long an image that cannot be pulled is tried."""

NODE_PATIENCE = timedelta(seconds=30)
"""How long a pod that is being deleted may stay beyond its grace before its node is taken for gone."""

_NEVER = {"InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError"}
_PULLING = {"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"}
_MOVED = {"Evicted", "Preempting", "NodeShutdown", "Shutdown", "Terminated", "NodeAffinity", "NodeLost"}
_SAMPLE = struct.Struct("<7f")


@dataclass(frozen=True)
class Verdict:
    """How a process ended, as it is kept. `samples` are packed, as the keeper told them."""

    observation: Observation
    samples: str = ""

    def document(self) -> str:
        """Return it as text."""
        seen = self.observation
        told = {
            "phase": seen.phase,
            "exit_code": seen.exit_code,
            "reason": seen.reason,
            "started_at": seen.started_at and seen.started_at.isoformat(),
            "finished_at": seen.finished_at and seen.finished_at.isoformat(),
            "peak_memory_bytes": seen.peak_memory_bytes,
            "cpu_seconds": seen.cpu_seconds,
            "ended_by": seen.ended_by,
        }
        return json.dumps({**told, "samples": self.samples})

    @classmethod
    def read(cls, text: str) -> "Verdict":
        """Return what `document` wrote."""
        told = json.loads(text)
        samples = told.pop("samples")
        for name in ("started_at", "finished_at"):
            told[name] = told[name] and datetime.fromisoformat(told[name])
        phase, ended_by = Phase(told.pop("phase")), told.pop("ended_by")
        return cls(Observation(phase, **told, ended_by=EndedBy(ended_by) if ended_by else None), samples)

    def usage(self) -> list[UsageSample]:
        """Return the samples."""
        if not self.samples:
            return []
        rows = _SAMPLE.iter_unpack(zlib.decompress(base64.b64decode(self.samples)))
        return [UsageSample(*row[:5], *(None if value != value else value for value in row[5:])) for row in rows]


def judge(pod: Document, now: datetime, *, memory_bytes: int | None = None) -> Verdict:
    """Return what is seen of a pod's process, and whether it has ended.

    Args:
        pod: The pod's document.
        now: The time.
        memory_bytes: The limit of the process.
    """
    status, about = pod.get("status") or {}, pod["metadata"]
    container = container_of(status)
    ended = (container.get("state") or {}).get("terminated")
    running = (container.get("state") or {}).get("running")
    began = time_of((running or ended or {}).get("startedAt"))
    if ended or status.get("phase") in ("Succeeded", "Failed"):
        return _with_the_clusters_words(_ended(pod, ended, began, memory_bytes), status)
    if (gone := _node_is_gone(pod, now)) is not None:
        return Verdict(Observation(Phase.LOST, reason=gone, started_at=began, finished_at=now))
    if running:
        return Verdict(Observation(Phase.RUNNING, started_at=began))
    waiting = (container.get("state") or {}).get("waiting") or {}
    why, said = waiting.get("reason"), (waiting.get("message") or "").strip()
    if why in _NEVER or (why in _PULLING and now - _created(about) > PULL_PATIENCE):
        text = f"could not be started: {_in_words(why, said, container)}"
        return Verdict(Observation(Phase.EXITED, reason=text, finished_at=now))
    if why in _PULLING:
        return Verdict(Observation(Phase.STARTING, reason=_in_words(why, said, container)))
    return Verdict(Observation(Phase.STARTING, reason=_why_unscheduled(status)))


def is_ready(pod: Document) -> bool:
    """Tell whether the pod takes requests, and is not about to end."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def listens(pod: Document) -> bool:
    """Tell whether the pod's server was seen to listen."""
    return bool(container_of(pod.get("status") or {}).get("started"))


def time_of(text: str | datetime | None) -> datetime | None:
    """Return a time as the cluster writes it."""
    if text is None or isinstance(text, datetime):
        return text
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.year > 1970 else None  # the cluster's way to say that it never was


def container_of(status: Document) -> Document:
    """Return the status of the container that runs the command."""
    found = [one for one in status.get("containerStatuses") or [] if one["name"] == CONTAINER]
    return found[0] if found else {}


def _created(about: Document) -> datetime:
    return time_of(about.get("creationTimestamp")) or datetime.now(UTC)


def _ended(pod: Document, ended: Document | None, began: datetime | None, memory_bytes: int | None) -> Verdict:
    told = _told(ended)
    if told is not None:
        return told
    status = pod["status"]
    finished = time_of((ended or {}).get("finishedAt")) or datetime.now(UTC)
    moved = status.get("reason")
    said = (status.get("message") or "").strip().rstrip(".")
    if moved == "DeadlineExceeded":
        why = "exceeded its time limit: the cluster ended it"
        return Verdict(_exited(why, began, finished, EndedBy.TIME))
    if moved in _MOVED:
        text = f"was evicted: {said or moved}"
        return Verdict(Observation(Phase.LOST, None, None, text, began, finished, ended_by=EndedBy.EVICTION))
    if "deletionTimestamp" in pod["metadata"] and (ended or {}).get("reason") != "OOMKilled":
        text = "was evicted: its pod was deleted while it ran"
        return Verdict(Observation(Phase.LOST, None, None, text, began, finished, ended_by=EndedBy.EVICTION))
    if ended is None:
        text = f"could not be run: {moved or 'the cluster says no more'}{': ' + said if said else ''}"
        return Verdict(_exited(text, began, finished, None))
    return Verdict(_without_words(ended, began, finished, memory_bytes))


def _with_the_clusters_words(seen: Verdict, status: Document) -> Verdict:
    """Return an eviction with why it was, where the cluster tells it (from 1.26 on); any other end as it is."""
    if seen.observation.ended_by is EndedBy.EVICTION:
        for one in status.get("conditions") or []:
            if one["type"] == "DisruptionTarget" and one["status"] == "True":
                text = f"was evicted: {one.get('message') or one.get('reason')}"
                return replace(seen, observation=replace(seen.observation, reason=text))
    return seen


def _told(ended: Document | None) -> Verdict | None:
    """Return what the keeper told before it ended, if it could."""
    try:
        told: dict[str, Any] = json.loads((ended or {}).get("message") or "")
        ended_by = EndedBy(told["ended_by"]) if told.get("ended_by") else None
        phase = Phase.LOST if told.get("lost") or ended_by is EndedBy.EVICTION else Phase.EXITED
        seen = Observation(
            phase,
            exit_code=told["exit_code"],
            reason=told["reason"],
            started_at=_moment(told.get("started_at")),
            finished_at=_moment(told.get("finished_at")) or time_of((ended or {}).get("finishedAt")),
            peak_memory_bytes=told.get("peak_memory_bytes"),
            cpu_seconds=told.get("cpu_seconds"),
            ended_by=ended_by,
        )
    except (ValueError, KeyError, TypeError):
        return None
    return Verdict(seen, told.get("samples") or "")


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _without_words(ended: Document, began: datetime | None, finished: datetime, memory: int | None) -> Observation:
    """Return how a container ended whose keeper could tell nothing: it was killed, too, or never came up."""
    code, why = int(ended.get("exitCode") or 0), ended.get("reason")
    if why == "OOMKilled":
        text = f"exceeded its memory limit of {(memory or 0) / MIB:.0f} MiB (used all of it, and its keeper's)"
        return _exited(text, began, finished, EndedBy.MEMORY)
    if why in ("ContainerCannotRun", "StartError"):
        return _exited(f"could not be started: {(ended.get('message') or why).strip()}", None, finished, None)
    number = int(ended.get("signal") or 0) or (code - 128 if code > 128 else 0)
    if number:
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "a real-time signal"
        return _exited(f"was ended by signal {number} ({name}), with its pod", began, finished, EndedBy.SIGNAL)
    said = (ended.get("message") or "").strip()
    return _exited(f"its keeper ended with exit code {code}{': ' + said[-500:] if said else ''}", began, finished, None)


def _exited(reason: str, began: datetime | None, finished: datetime, ended_by: EndedBy | None) -> Observation:
    return Observation(Phase.EXITED, reason=reason, started_at=began, finished_at=finished, ended_by=ended_by)


def _node_is_gone(pod: Document, now: datetime) -> str | None:
    about, status = pod["metadata"], pod.get("status") or {}
    node = (pod.get("spec") or {}).get("nodeName") or "its node"
    if status.get("reason") == "NodeLost":
        return f"was lost: {node} no longer answers"
    due = time_of(about.get("deletionTimestamp"))  # the moment at which the grace is over
    if due is not None and now > due + NODE_PATIENCE:
        return f"was lost: {node} does not answer, and so did not end it"
    return None


def _in_words(why: str, said: str, container: Document) -> str:
    image = container.get("image") or "its image"
    words = (
        f"the image {image} cannot be pulled" if why in _PULLING | {"InvalidImageName", "ErrImageNeverPull"} else why
    )
    return f"{words} ({why}{': ' + said if said else ''})"[:600]


def _why_unscheduled(status: Document) -> str | None:
    for one in status.get("conditions") or []:
        if one["type"] == "PodScheduled" and one["status"] == "False":
            return f"waits for a node: {one.get('message') or one.get('reason')}"
    return None

"""The ports `JobBackend` and `Deployer` by way of the database: what is wanted is written down, and an agent does it."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from modelops.adapters.agents import wire
from modelops.adapters.agents.door import AgentDoor
from modelops.adapters.agents.registry import Registry
from modelops.adapters.agents.tables import AgentProcessRow, AgentRow
from modelops.adapters.local.commands import Command
from modelops.adapters.local.processes import checked_name
from modelops.adapters.local.scaling import refuse_scaling
from modelops.contracts.clock import Clock
from modelops.contracts.errors import Conflict, InvalidInput, Unavailable
from modelops.contracts.ports import (
    EndedBy,
    JobSpec,
    Observation,
    Phase,
    ReplicaObservation,
    UsageSample,
    WorkloadSpec,
)
from modelops.kernel.secrets import SecretBox


class _Forwarding:
    """What both ports share. `changed` is called after something was written that agents wait for."""

    kind: str

    def __init__(
        self, registry: Registry, clock: Clock, box: SecretBox, door: AgentDoor, changed: Callable[[], None]
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._box = box
        self._door = door
        self._changed = changed

    def names(self) -> list[str]:
        """Return everything of this kind that is kept, sorted."""
        query = select(AgentProcessRow.name).where(
            AgentProcessRow.kind == self.kind, AgentProcessRow.wanted != wire.REMOVE
        )
        with self._registry.work(write=False) as session:
            return sorted(session.scalars(query))

    def _row(self, session: Session, name: str) -> AgentProcessRow | None:
        row = session.get(AgentProcessRow, checked_name(name))
        return row if row is not None and row.kind == self.kind else None

    def _find(self, name: str) -> tuple[AgentProcessRow | None, AgentRow | None]:
        with self._registry.work(write=False) as session:
            row = self._row(session, name)
            agent = session.get(AgentRow, row.agent_id) if row is not None and row.agent_id is not None else None
        return row, agent

    def _put(self, session: Session, name: str, document: bytes, **values: Any) -> None:
        """Add the row of a process. Where a controller that lost its lease did so just now, its row stands."""
        row = AgentProcessRow(
            name=name,
            kind=self.kind,
            spec=wire.seal(self._box, name, document),
            spec_digest=wire.digest(document),
            wanted=wire.RUN,
            created_at=self._clock.now(),
            **values,
        )
        with suppress(IntegrityError), session.begin_nested():
            session.add(row)

    def _asked(self, name: str) -> AgentRow | None:
        """Return the agent to ask about a process; None where none has it.

        Raises:
            Unavailable: it is not heard of.
        """
        row, agent = self._find(name)
        if row is None or row.agent_id is None:
            return None
        if agent is None or self._registry.is_gone(agent):
            raise Unavailable(
                f"The agent that has '{name}' is not heard of.",
                hint="Its output lies on that machine: start the agent there again.",
            )
        return agent


class AgentJobBackend(_Forwarding):
    """A JobBackend whose attempts run where agents are; see `JobBackend` for what its methods promise.

    An attempt is taken by one agent and never by a second. It is lost when that agent was not heard of for too long, and then
    for good: an agent that comes back ends what was given up.
    """

    kind = wire.JOB

    def start(self, spec: JobSpec) -> None:
        """Have an agent start the attempt, unless it was started before."""
        Command(spec.argv, spec.env, spec.files, spec.limits).check()
        with self._registry.work() as session:
            if session.get(AgentProcessRow, checked_name(spec.name)) is not None:
                return
            self._put(session, spec.name, wire.JOBS.dump_json(spec))
        self._changed()

    def observe(self, name: str) -> Observation:
        """Return what its agent saw of the attempt last."""
        row, agent = self._find(name)
        if row is None or row.wanted == wire.REMOVE:
            return Observation(Phase.ABSENT)
        if row.ended or row.agent_id is None or not self._registry.is_gone(agent):
            return Observation(Phase.STARTING) if row.seen is None else wire.SEEN.validate_python(row.seen)
        return self._give_up(row, agent)

    def stop(self, name: str, *, grace_s: float = 10.0, reason: str = "stopped on request") -> None:
        """Ask the attempt to end; one that no agent has taken yet has ended with that."""
        with self._registry.work() as session:
            row = session.get(AgentProcessRow, checked_name(name), with_for_update=True)
            if row is None or row.ended or row.wanted == wire.REMOVE:
                return
            patience = grace_s if row.grace_s is None else min(grace_s, row.grace_s)
            if row.wanted == wire.STOP and patience == row.grace_s:
                return
            row.wanted, row.grace_s, row.stop_reason = wire.STOP, patience, row.stop_reason or reason
            if row.agent_id is None:
                row.ended, row.seen = True, wire.plain(wire.SEEN, _never_started(reason))
        self._changed()

    def log(self, name: str, *, offset: int = 0, limit: int = 65_536) -> bytes:
        """Return a piece of the attempt's output, from the machine where it is."""
        agent = self._asked(name)
        return b"" if agent is None else self._door.log(agent.url, agent.host, self.kind, name, 0, offset, limit)

    def usage(self, name: str) -> list[UsageSample]:
        """Return what was sampled of the attempt; nothing while its agent does not answer."""
        try:
            agent = self._asked(name)
            return [] if agent is None else self._door.usage(agent.url, agent.host, name)
        except Unavailable:
            return []

    def remove(self, name: str) -> None:
        """Forget an attempt that has ended. Raises Conflict while it has not."""
        phase = self.observe(name).phase
        if phase in (Phase.STARTING, Phase.RUNNING):
            raise Conflict(f"{name} is {phase}; it can be removed after it has ended.", hint="Stop it first.")
        with self._registry.work() as session:
            _forget(session, name)
        self._changed()

    def _give_up(self, row: AgentProcessRow, agent: AgentRow | None) -> Observation:
        """Write down that an attempt is lost, unless its end was told meanwhile."""
        where = "its agent" if agent is None else f"the agent on {agent.host}"
        reason = f"was lost: {where} was not heard of for {self._registry.timeout_s:g} s"
        lost = Observation(Phase.LOST, reason=reason, finished_at=self._clock.now())
        mine = (AgentProcessRow.name == row.name, AgentProcessRow.ended.is_(False))
        with self._registry.work() as session:
            session.execute(update(AgentProcessRow).where(*mine).values(seen=wire.plain(wire.SEEN, lost), ended=True))
            found = session.get_one(AgentProcessRow, row.name)
        return wire.SEEN.validate_python(found.seen)


class AgentDeployer(_Forwarding):
    """A Deployer whose workloads run where agents are; see `Deployer` for what its methods promise.

    A workload is with one agent, all its replicas on one machine. When that agent was not heard of for too long, another takes
    it.
    """

    kind = wire.WORKLOAD

    def apply(self, spec: WorkloadSpec) -> None:
        """Have its agent move one step towards `spec`."""
        if spec.replicas < 0:
            raise InvalidInput(f"A workload cannot have {spec.replicas} replicas.")
        refuse_scaling(spec)
        Command(spec.argv, spec.env, spec.files, spec.limits).check()
        is_new = True
        document, fixed = wire.WORKLOADS.dump_json(spec), wire.fixed(spec)
        row, agent = self._find(spec.name)
        moved = row is not None and row.agent_id is not None and self._registry.is_gone(agent)
        known = row is not None and row.wanted == wire.RUN and row.fixed_digest == fixed and not moved
        if row is not None and known and row.spec_digest == wire.digest(document) and not _is_short(row, spec.replicas):
            return
        with self._registry.work() as session:
            row = session.get(AgentProcessRow, spec.name, with_for_update=True)
            if row is None:
                self._put(session, spec.name, document, fixed_digest=fixed)
            elif row.wanted != wire.RUN:
                raise Conflict(
                    f"The workload {spec.name} is being ended.", hint="Make it again once nothing is left of it."
                )
            elif row.fixed_digest != fixed:
                raise Conflict(
                    f"The workload {spec.name} exists with another command, environment or limits.",
                    hint="Only replicas and files can change: give the changed workload a name of its own.",
                )
            else:
                # What is only not there yet, its agent finds by itself: waking it for that would never end.
                is_new = moved or row.spec_digest != wire.digest(document)
                row.spec, row.spec_digest = wire.seal(self._box, spec.name, document), wire.digest(document)
                row.asked += 1
                if moved:
                    row.agent_id, row.seen = None, None
        if is_new:
            self._changed()

    def observe(self, name: str) -> list[ReplicaObservation]:
        """Return what its agent saw of the replicas last; nothing where that agent is gone."""
        row, agent = self._find(name)
        if row is None or row.seen is None or self._registry.is_gone(agent):
            return []
        return wire.REPLICAS.validate_python(row.seen)

    def scaled(self, name: str) -> int | None:
        """Return None: nobody else scales processes of machines."""
        return None

    def log(self, name: str, index: int, *, offset: int = 0, limit: int = 65_536) -> bytes:
        """Return a piece of the output of a replica's last incarnation, from the machine where it is."""
        agent = self._asked(name)
        return b"" if agent is None else self._door.log(agent.url, agent.host, self.kind, name, index, offset, limit)

    def remove(self, name: str, *, grace_s: float = 10.0) -> bool:
        """Have its agent end the workload; one that no agent has, or whose agent is gone, is forgotten at once."""
        row, agent = self._find(name)
        if row is None:
            return True
        if row.agent_id is None or self._registry.is_gone(agent):
            with self._registry.work() as session:
                session.execute(delete(AgentProcessRow).where(AgentProcessRow.name == name))
            return True
        if row.wanted != wire.REMOVE or row.grace_s is None or grace_s < row.grace_s:
            mine = AgentProcessRow.name == name
            with self._registry.work() as session:
                session.execute(update(AgentProcessRow).where(mine).values(wanted=wire.REMOVE, grace_s=grace_s))
            self._changed()
        return False

    def names(self) -> list[str]:
        """Return every workload of which something is left, sorted."""
        with self._registry.work(write=False) as session:
            query = select(AgentProcessRow.name).where(AgentProcessRow.kind == self.kind)
            return sorted(session.scalars(query))


def _forget(session: Session, name: str) -> None:
    """Delete what no agent has; have an agent delete what it has."""
    row = session.get(AgentProcessRow, checked_name(name), with_for_update=True)
    if row is None:
        return
    if row.agent_id is None:
        session.delete(row)
    else:
        row.wanted = wire.REMOVE


def _never_started(reason: str) -> Observation:
    return Observation(Phase.EXITED, reason=reason, ended_by=EndedBy.REQUEST)


def _is_short(row: AgentProcessRow, replicas: int) -> bool:
    """Tell whether a workload is not as it should be, by what was seen last."""
    seen = wire.REPLICAS.validate_python(row.seen or [])
    return len(seen) != replicas or any(one.phase is not Phase.RUNNING for one in seen)

"""The agent: does on its machine what is written down for it, and writes down what it sees.

It holds no state that counts: which processes are its own stands in the database, and how they are in their folders. So it may
be killed at any time, and goes on where it was.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import delete, exists, select, update
from sqlalchemy.orm import Session

from modelops.adapters.agents import wire
from modelops.adapters.agents.tables import AgentProcessRow, AgentRow
from modelops.contracts.clock import Clock
from modelops.contracts.errors import InvalidInput, MLOpsError
from modelops.contracts.ids import new_id
from modelops.contracts.ports import Deployer, EndedBy, JobBackend, Observation, Phase
from modelops.kernel.database import Database
from modelops.kernel.secrets import SecretBox

log = logging.getLogger(__name__)

SLOTTED = "job_"
"""What the names of attempts begin with that take a slot each."""

_BEATS = 6
_BUSY_FOR_S = 5.0
_SWEEP_EVERY_S = 5.0
_FORGET_AFTER = timedelta(days=1)
_UNSLOTTED_AT_ONCE = 2
"""How many of what takes no slot one agent takes in a turn, so that others get some, too."""


@dataclass(frozen=True)
class Machine:
    """What an agent offers: its home folder, where it is reached, the address its replicas listen on, and its slots."""

    home: Path
    host: str
    url: str
    slots: int
    bind: str | None = None


@dataclass(frozen=True)
class _Order:
    """A row, read."""

    name: str
    kind: str
    spec: str
    asked: int
    wanted: str
    grace_s: float | None
    stop_reason: str | None
    seen: Any


class Agent:
    """Looks after the processes of one machine. `turn` is called by one thread."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        box: SecretBox,
        jobs: JobBackend,
        deployer: Deployer,
        machine: Machine,
        *,
        timeout_s: float,
        start_within_s: float,
        changed: Callable[[], None],
    ) -> None:
        self.id = agent_id(machine.home)
        self.draining = False
        self._database = database
        self._clock = clock
        self._box = box
        self._jobs = jobs
        self._deployer = deployer
        self._machine = machine
        self._timeout_s = timeout_s
        self._start_within = timedelta(seconds=start_within_s)
        self._changed = changed
        self._beat_at = self._sweep_at = float("-inf")
        self._busy_until = 0.0
        self._names: frozenset[str] = frozenset()
        self._asked: dict[str, int] = {}

    def turn(self) -> bool:
        """Take what is free, move everything one step, and write down what is new; tell whether more of that is near."""
        began = time.monotonic()
        with self._database.work() as session:
            self._beat(session)
            if not self.draining:
                self._take(session)
            orders = [_read(row) for row in session.scalars(self._active())]
        seen = {}
        for order in orders:
            if time.monotonic() - began > self._timeout_s / 2:
                break  # it was frozen: what it read may have been given up meanwhile
            if (found := self._guarded(order)) is not None:
                seen[order.name] = found
        gone = [name for name, found in seen.items() if found == wire.REMOVE]
        self._write({name: found for name, found in seen.items() if found != wire.REMOVE}, gone)
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep()
            self._sweep_at = now + _SWEEP_EVERY_S
        names = frozenset(order.name for order in orders)
        if seen or names != self._names:
            self._names, self._busy_until = names, now + _BUSY_FOR_S
        return now < self._busy_until

    def leave(self) -> None:
        """Say that it takes nothing more."""
        self.draining, self._beat_at = True, float("-inf")
        with self._database.work() as session:
            self._beat(session)

    def alive(self) -> list[str]:
        """Return the jobs and workloads that have not ended here."""
        running = [name for name in self._jobs.names() if not self._jobs.observe(name).ended]
        return running + self._deployer.names()

    def _active(self) -> Any:
        unsettled = AgentProcessRow.ended.is_(False) | (AgentProcessRow.wanted == wire.REMOVE)
        mine = select(AgentProcessRow).where(AgentProcessRow.agent_id == self.id, unsettled)
        return mine.order_by(AgentProcessRow.name)

    def _beat(self, session: Session) -> None:
        now = self._clock.monotonic()
        if now - self._beat_at < self._timeout_s / _BEATS:
            return
        machine, moment = self._machine, self._clock.now()
        row = session.get(AgentRow, self.id) or AgentRow(id=self.id, started_at=moment)
        row.host, row.url, row.slots = machine.host, machine.url, machine.slots
        row.draining, row.heard_at = self.draining, moment
        session.add(row)
        self._beat_at = now

    def _take(self, session: Session) -> None:
        """Take processes that no agent has: jobs while a slot is free for each."""
        mine = (AgentProcessRow.agent_id == self.id, AgentProcessRow.ended.is_(False))
        running = session.scalars(select(AgentProcessRow.name).where(*mine)).all()
        slots = self._machine.slots - sum(name.startswith(SLOTTED) for name in running)
        for slotted, most in ((True, slots), (False, _UNSLOTTED_AT_ONCE)):
            if most > 0:
                self._take_some(session, most, slotted=slotted)

    def _take_some(self, session: Session, most: int, *, slotted: bool) -> None:
        prefix = AgentProcessRow.name.startswith(SLOTTED, autoescape=True)
        # Whoever asked for an attempt has given it up by then, and may have asked for another.
        fresh = (AgentProcessRow.kind == wire.WORKLOAD) | (
            AgentProcessRow.created_at > self._clock.now() - self._start_within
        )
        free = (
            select(AgentProcessRow)
            .where(AgentProcessRow.agent_id.is_(None), AgentProcessRow.wanted == wire.RUN)
            .where(AgentProcessRow.ended.is_(False), prefix if slotted else ~prefix, fresh)
            .order_by(AgentProcessRow.created_at)
            .limit(most)
            .with_for_update(skip_locked=True)
        )
        for row in session.scalars(free):
            row.agent_id = self.id
        session.flush()

    def _guarded(self, order: _Order) -> Any:
        """Move one process a step; one that makes trouble does not keep the others."""
        try:
            return self._job(order) if order.kind == wire.JOB else self._workload(order)
        except InvalidInput as wrong:
            log.warning("'%s' cannot be run here: %s", order.name, wrong)
            lost = Observation(Phase.LOST, reason=f"cannot be run: {wrong}", finished_at=self._clock.now())
            return wire.plain(wire.SEEN, lost) if order.kind == wire.JOB else None
        except MLOpsError as wrong:
            log.warning("'%s' could not be moved: %s", order.name, wrong)
        except Exception:
            log.exception("'%s' could not be moved", order.name)
        return None

    def _job(self, order: _Order) -> Any:
        """Move an attempt one step; return what is new of it, `remove` once nothing is left, None for nothing."""
        seen = self._jobs.observe(order.name)
        if order.wanted == wire.REMOVE:
            if seen.ended or seen.phase is Phase.ABSENT:
                self._jobs.remove(order.name)
                return wire.REMOVE
            self._jobs.stop(order.name, reason="it was given up")
            return None
        if seen.phase is Phase.ABSENT and order.seen is not None:
            seen = Observation(Phase.LOST, reason="was lost: its folder is gone", finished_at=self._clock.now())
        elif order.wanted == wire.STOP:
            if seen.phase is Phase.ABSENT:
                seen = Observation(Phase.EXITED, reason=order.stop_reason, ended_by=EndedBy.REQUEST)
            elif not seen.ended:
                grace_s = 10.0 if order.grace_s is None else order.grace_s
                self._jobs.stop(order.name, grace_s=grace_s, reason=order.stop_reason or "stopped on request")
        elif seen.phase in (Phase.ABSENT, Phase.STARTING):
            spec = wire.JOBS.validate_json(wire.unseal(self._box, order.name, order.spec))
            self._jobs.start(wire.at_home(spec, self._machine.home, None))
            seen = self._jobs.observe(order.name)
        found = wire.plain(wire.SEEN, seen)
        return found if found != order.seen else None

    def _workload(self, order: _Order) -> Any:
        """Move a workload one step when that was asked for; return as `_job`."""
        if order.wanted == wire.REMOVE:
            grace_s = 10.0 if order.grace_s is None else order.grace_s
            return wire.REMOVE if self._deployer.remove(order.name, grace_s=grace_s) else self._look(order)
        if self._asked.get(order.name) != order.asked:
            spec = wire.WORKLOADS.validate_json(wire.unseal(self._box, order.name, order.spec))
            self._deployer.apply(wire.at_home(spec, self._machine.home, self._machine.bind))
            self._asked[order.name] = order.asked
        return self._look(order)

    def _look(self, order: _Order) -> Any:
        found = wire.plain(wire.REPLICAS, self._deployer.observe(order.name))
        return found if found != order.seen else None

    def _sweep(self) -> None:
        """End what runs here for no row, or for one that was given up: while this agent was silent another was asked, or it
        was forgotten. What is listed was there before the rows are read, and nothing is begun here before its row is."""
        jobs, workloads = self._jobs.names(), self._deployer.names()
        query = select(AgentProcessRow.name, AgentProcessRow.ended).where(AgentProcessRow.agent_id == self.id)
        now = self._clock.now()
        with self._database.work() as session:
            forgotten = (
                AgentRow.heard_at < now - _FORGET_AFTER,
                ~exists().where(AgentProcessRow.agent_id == AgentRow.id),
            )
            session.execute(delete(AgentRow).where(*forgotten))
            mine = {row.name: row.ended for row in session.execute(query)}
        for name in (name for name in workloads if name not in mine):
            self._asked.pop(name, None)
            self._deployer.remove(name)
        for name in (name for name in jobs if mine.get(name, True)):
            if not self._jobs.observe(name).ended:
                log.warning("'%s' was given up and is ended", name)
                self._jobs.stop(name, reason="it was given up while its agent was silent")
            elif name not in mine:
                self._jobs.remove(name)

    def _write(self, seen: dict[str, Any], gone: list[str]) -> None:
        if not seen and not gone:
            return
        with self._database.work() as session:
            for name, found in seen.items():
                own = (AgentProcessRow.name == name, AgentProcessRow.agent_id == self.id)
                ended = isinstance(found, dict) and wire.SEEN.validate_python(found).ended
                change = update(AgentProcessRow).where(*own, AgentProcessRow.ended.is_(False))
                session.execute(change.values(seen=found, ended=ended))
            own_gone = (AgentProcessRow.name.in_(gone), AgentProcessRow.agent_id == self.id)
            session.execute(delete(AgentProcessRow).where(*own_gone))
        for name in gone:
            self._asked.pop(name, None)
        self._changed()


def agent_id(home: Path) -> str:
    """Return the id of the agent of a home folder, made when it is first asked for: it goes with the folder's processes."""
    path = home / "agent.id"
    if not path.exists():
        fresh = path.with_name(f"agent.id.{os.getpid()}.{threading.get_ident()}")
        fresh.write_text(new_id("agt"))
        os.replace(fresh, path)
    return path.read_text().strip()


def _read(row: AgentProcessRow) -> _Order:
    return _Order(row.name, row.kind, row.spec, row.asked, row.wanted, row.grace_s, row.stop_reason, row.seen)

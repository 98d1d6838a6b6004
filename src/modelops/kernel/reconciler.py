"""Reconcilers: loops that bring the world to what the database wants, and write back what they saw.

Each step is load (in a reading transaction), act (in none), apply (in a writing one, guarded by the lease's token). Success
is written only by `apply`, of what `act` observed.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from modelops.kernel import leases, outbox
from modelops.kernel.context import Context
from modelops.kernel.leases import Lease, LeaseLost
from modelops.kernel.work import Workplace

log = logging.getLogger(__name__)

_GATHER_S = 0.1
_QUIET_S, _SLOWER = 10.0, 4
"""Where nothing has changed for so long, reconcilers that have nothing to do look that many times less often."""


class Reconciler(Protocol):
    """Drives one kind of resource. Stateless between steps: everything it knows is in the database or the world.

    `load` returns plain values, never rows; None means there is nothing to do. `act` may take long, talks to the world
    through ports, and never to the database; None means nothing was seen that must be written.
    """

    name: str

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return the keys that need attention now."""
        ...

    def load(self, ctx: Context, key: str) -> Any | None:
        """Return what acting on `key` needs."""
        ...

    def act(self, ports: Mapping[type, Any], state: Any) -> Any | None:
        """Move the world one step towards the desired state and return what was observed."""
        ...

    def apply(self, ctx: Context, key: str, seen: Any) -> bool | None:
        """Write back what was observed. True means that the next step is to follow at once, not in the next round."""
        ...


@runtime_checkable
class Unhurried(Protocol):
    """A reconciler whose work may wait: it looks every `rest_s` seconds, and no change wakes it."""

    rest_s: float


@dataclass
class _Failures:
    count: int = 0
    skip: int = 0


class Holdings:
    """All leases of one holder, renewed together: one write to the disk, and not one for each of them. Thread-safe."""

    def __init__(self, place: Workplace, holder: str) -> None:
        self.place = place
        self.holder = holder
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._held: frozenset[str] = frozenset()
        self._renew_at = float("-inf")

    def renew(self, name: str) -> bool:
        """Renew all of them, unless that was done within a third of their time; tell whether one is among them."""
        with self._lock:
            self._names.add(name)
            now, ttl = self.place.clock.monotonic(), self.place.settings.lease_ttl_s
            if now >= self._renew_at:
                with self.place.work() as ctx:
                    self._held = leases.renew(ctx.session, self.place.clock, self._names, self.holder, ttl)
                self._renew_at = now + ttl / 3
            return name in self._held


class Tenure:
    """Holds one lease over many rounds: taken when free, renewed when a third of its time is over."""

    def __init__(self, holdings: Holdings, name: str) -> None:
        self.place = holdings.place
        self.name = name
        self._holdings = holdings
        self._lease: Lease | None = None
        self._renew_at = 0.0

    def hold(self) -> Lease | None:
        """Return the lease, or None while another holds it."""
        now = self.place.clock.monotonic()
        if self._lease is None or now >= self._renew_at:
            ttl = self.place.settings.lease_ttl_s
            if self._lease is None or not self._holdings.renew(self.name):
                with self.place.work() as ctx:
                    self._lease = leases.acquire(ctx.session, self.place.clock, self.name, self._holdings.holder, ttl)
            self._renew_at = now + ttl / 3
        return self._lease

    def lost(self) -> None:
        """Forget a lease that another took."""
        self._lease = None

    def release(self) -> None:
        """Give the lease back."""
        if self._lease is not None:
            leases.release(self.place.database, self.place.clock, self._lease)
            self._lease = None


class Loop:
    """One reconciler's loop: holds the lease and steps through what is pending."""

    def __init__(self, reconciler: Reconciler, holdings: Holdings) -> None:
        self.place = holdings.place
        self.reconciler = reconciler
        self.tenure = Tenure(holdings, f"reconciler:{reconciler.name}")
        self._failures: dict[str, _Failures] = {}

    def turn(self) -> bool:
        """Do one round over everything pending, if the lease can be had; tell whether anything was."""
        lease = self.tenure.hold()
        if lease is None:
            return False
        with self.place.work(write=False) as ctx:
            keys = list(self.reconciler.pending(ctx))
        for key in keys:
            self._guarded_step(lease, key)
        self._failures = {key: failed for key, failed in self._failures.items() if key in keys}
        return bool(keys)

    def _guarded_step(self, lease: Lease, key: str) -> None:
        failed = self._failures.get(key)
        if failed and failed.skip > 0:
            failed.skip -= 1
            return
        try:
            while self.step(lease, key):
                pass
            self._failures.pop(key, None)
        except LeaseLost:
            raise
        except Exception:
            failed = self._failures.setdefault(key, _Failures())
            failed.count += 1
            failed.skip = min(2**failed.count, 60)
            log.exception("reconcile step failed", extra={"reconciler": self.reconciler.name, "key": key})

    def step(self, lease: Lease, key: str) -> bool:
        """Load, act and apply for one key; tell whether another step is to follow at once."""
        with self.place.work(write=False) as ctx:
            state = self.reconciler.load(ctx, key)
        if state is None:
            return False
        seen = self.reconciler.act(self.place.ports, state)
        if seen is None:
            return False
        with self.place.work() as ctx:
            leases.guard(ctx.session, lease)
            return self.reconciler.apply(ctx, key, seen) or False


class Controller:
    """Runs every reconciler and the dispatcher, a thread each, until stopped."""

    def __init__(
        self, place: Workplace, reconcilers: Sequence[Reconciler], handlers: outbox.Handlers, holder: str
    ) -> None:
        self.place = place
        self.holder = holder
        self._handlers = handlers
        holdings = Holdings(place, holder)
        self._loops = [Loop(reconciler, holdings) for reconciler in reconcilers]
        self._dispatcher = Tenure(holdings, "outbox")
        self._stop = threading.Event()
        self._changed_at = time.monotonic()
        self._wakers: list[threading.Event] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads."""
        self._spawn(self._dispatcher, self._dispatch_turn)
        for loop in self._loops:
            rest_s = loop.reconciler.rest_s if isinstance(loop.reconciler, Unhurried) else None
            self._spawn(loop.tenure, loop.turn, rest_s)
        waker = threading.Thread(target=self._spread_wakes, name="controller-waker", daemon=True)
        self._threads.append(waker)
        waker.start()

    def stop(self) -> None:
        """Stop the threads after their present step, and give the leases back."""
        self._stop.set()
        self.place.changed.set()
        for thread in self._threads:
            thread.join(timeout=30)
        for tenure in (self._dispatcher, *(loop.tenure for loop in self._loops)):
            tenure.release()

    def turn(self) -> None:
        """Do one round of everything in the calling thread."""
        self._dispatch_turn()
        for loop in self._loops:
            loop.turn()

    def _spawn(self, tenure: Tenure, turn: Callable[[], bool], rest_s: float | None = None) -> None:
        if rest_s is None:
            waker, rest_s = threading.Event(), self.place.settings.controller_interval_s
            self._wakers.append(waker)
        else:
            waker = self._stop
        name, given = f"controller-{tenure.name}", (tenure, turn, waker, rest_s)
        thread = threading.Thread(target=self._run, args=given, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, tenure: Tenure, turn: Callable[[], bool], waker: threading.Event, rest_s: float) -> None:
        while not self._stop.is_set():
            is_busy = True
            try:
                is_busy = turn()
            except LeaseLost:
                tenure.lost()
            except Exception:
                # The database may be away for a while; the loop outlives it.
                log.exception("controller round failed", extra={"loop": tenure.name})
            if waker is self._stop:
                waker.wait(rest_s)
                continue
            is_quiet = not is_busy and time.monotonic() - self._changed_at > _QUIET_S
            waker.wait(rest_s * _SLOWER if is_quiet else rest_s)
            waker.clear()

    def _dispatch_turn(self) -> bool:
        lease = self._dispatcher.hold()
        while lease and outbox.dispatch(self.place, self._handlers, lease) and not self._stop.is_set():
            pass
        return False

    def _spread_wakes(self) -> None:
        """Wake every loop when something changed: at once, but in a rush of changes once for all that gather meanwhile."""
        rested = float("-inf")
        while not self._stop.is_set():
            self.place.changed.wait()
            self._stop.wait(max(0.0, rested - time.monotonic()))
            self._changed_at = time.monotonic()
            rested = self._changed_at + _GATHER_S
            self.place.changed.clear()
            for waker in self._wakers:
                waker.set()

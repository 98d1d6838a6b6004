"""Swaps in place: from the revision that a process serves to another one, without a request that fails."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import shutil
import weakref
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TypeVar

from modelops.contracts.errors import Conflict, InvalidInput, MLOpsError, Unavailable
from modelops.domains.serving.schemas import ReplicaRevision, RevisionDocument, ServedVariant, VariantDocument
from modelops.runtime.serving.counting.sharing import SHARE_S
from modelops.runtime.serving.replica import Replica
from modelops.runtime.serving.swaps.progress import (
    Progress,
    Wanted,
    keep_as_served,
    read_progress,
    read_wanted,
    write_progress,
    write_wanted,
)
from modelops.runtime.serving.swaps.quietly import quietly
from modelops.runtime.serving.variants.served import Served
from modelops.runtime.serving.variants.variant import Part, Variant

_MOST_TRIES = 2
_LOOK_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Swapper:
    """Takes what the replica is sent, whichever of its processes it was sent to, and brings its own process there.

    One revision after the other: what is sent while another is loaded comes next, and of several only the last. Belongs to
    one event loop.
    """

    def __init__(self, replica: Replica) -> None:
        self._replica, self._workdir = replica, replica.config.workdir
        worker = replica.config.worker
        self._index, self._count = (0, 1) if worker is None else (worker.index, worker.count)
        self._wake = asyncio.Event()
        self._putting = asyncio.Lock()
        self._wanted: Wanted | None = None
        self._seen = (0, 0)
        self._progress = Progress(replica.document.revision, _served(replica.current))
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Go on where an earlier process of this place ended, and look out for what comes."""
        earlier = await _apart(read_progress, self._workdir, self._index)
        if earlier is not None:
            now = self._progress
            now.handled, now.failure = earlier.handled, earlier.failure
            now.trying, now.tries = earlier.trying, earlier.tries
            if earlier.failure is None:
                now.handled = ""  # what it served by then may not be what it was started with again
        await self._tell()
        self._begin(self._run())

    async def put(self, document: RevisionDocument) -> None:
        """Take a document; it is served once it was loaded.

        Raises:
            InvalidInput: it is for another deployment.
            Conflict: it needs another process.
            Unavailable: the replica is ending.
        """
        self._check(document)
        async with self._putting:
            wanted = await _apart(read_wanted, self._workdir)
            if wanted is not None and wanted.document == document:
                told = [progress for progress in await self._told() if progress is not None]
                if not any(progress.failure for progress in told if progress.handled == wanted.mark):
                    return
            elif wanted is None and document == self._replica.document:
                return
            await _apart(write_wanted, self._workdir, document)
        self._wake.set()

    async def status(self) -> ReplicaRevision:
        """Return what is served, and what is on its way."""
        wanted, told = await _apart(read_wanted, self._workdir), await self._told()
        mark = "" if wanted is None else wanted.mark
        behind = [progress for progress in told if progress is None or (mark and progress.handled != mark)]
        failed = [progress for progress in told if progress is not None and progress.failure and not behind]
        slowest = next((progress for progress in (*behind, *failed) if progress is not None), self._progress)
        return ReplicaRevision(
            serving=slowest.revision,
            wanted=self._replica.document.revision if wanted is None else wanted.document.revision,
            loading=bool(behind),
            failure=failed[0].failure if failed else None,
            variants=[ServedVariant.model_validate(one) for one in slowest.served],
        )

    async def close(self) -> None:
        """Stop looking out; what is being loaded is not served any more."""
        for task in self._tasks:
            task.cancel()
        if self._progress.trying:
            self._progress.trying, self._progress.tries = "", 0
            await self._tell()

    async def _run(self) -> None:
        while True:
            try:
                wanted = await self._look()
                if wanted is not None and wanted.mark != self._progress.handled:
                    await self._take(wanted)
                    continue
            except Exception:  # a full disk, say: what serves goes on, and the next look may go well
                _log.exception("the wanted revision could not be looked at")
            await self._rest()

    async def _rest(self) -> None:
        """Wait until this process was sent something; what others were sent has to be looked for."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), _LOOK_S if self._count == 1 else SHARE_S)
        self._wake.clear()

    async def _look(self) -> Wanted | None:
        """Return what the replica was last sent; the file is read only where it has changed."""
        try:
            found = (self._workdir / "wanted.json").stat()
        except FileNotFoundError:
            return None
        seen = found.st_mtime_ns, found.st_ino  # the clock of files is coarse, and each writing makes a new one
        if seen != self._seen:
            self._wanted = await _apart(read_wanted, self._workdir)
            self._seen = seen
        return self._wanted

    async def _take(self, wanted: Wanted) -> None:
        progress, document = self._progress, wanted.document
        if document == self._replica.document:
            await self._handled(wanted, None)
            return
        tries = progress.tries if progress.trying == wanted.mark else 0
        if tries >= _MOST_TRIES:
            await self._handled(wanted, f"Loading revision {document.revision} ended the process {tries} times.")
            return
        progress.trying, progress.tries = wanted.mark, tries + 1
        await self._tell()
        _log.info("loading revision %d", document.revision)
        try:
            loaded = await quietly("load", lambda: _Loaded(self._replica, document))
        except MLOpsError as wrong:
            _log.warning("revision %d is not served: %s", document.revision, wrong)
            await self._handled(wanted, str(wrong))
            return
        except Exception as wrong:
            _log.exception("revision %d is not served", document.revision)
            await self._handled(wanted, f"Loading it failed with {type(wrong).__name__}: {str(wrong)[:300]}.")
            return
        newer = await self._look()
        if self._replica.draining or (newer is not None and newer.mark != wanted.mark):
            self._retire(loaded.fresh)
            return
        self._retire(self._replica.swap(document, loaded.parts))
        gc.freeze()  # as at the start; what loading left behind was collected on its thread
        _log.info("revision %d is served", document.revision)
        await self._handled(wanted, None)

    async def _handled(self, wanted: Wanted, failure: str | None) -> None:
        """Tell that this process is done with what was wanted; the last one to serve it has the replica start with it."""
        replica = self._replica
        done = Progress(replica.document.revision, _served(replica.current), wanted.mark, failure)
        await _apart(write_progress, self._workdir, self._index, done)
        self._progress = done  # nobody is told before it would outlive the process
        told = await self._told()
        if all(one is not None and one.handled == wanted.mark and one.failure is None for one in told):
            await _apart(keep_as_served, self._workdir, wanted.document)

    def _retire(self, variants: Sequence[Variant]) -> None:
        """End variants once nobody waits for them any more, and free what they held."""
        for variant in variants:
            self._replica.retiring.append(variant)
            self._begin(self._end(variant))

    async def _end(self, variant: Variant) -> None:
        pause = _FIRST_PAUSE_S
        while variant.is_busy:
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE_S)
        await quietly("retire", variant.close)
        self._replica.retired(variant)
        await quietly("retire", partial(_free, variant))

    async def _told(self) -> list[Progress | None]:
        others = range(self._count)
        read = [await _apart(read_progress, self._workdir, index) for index in others if index != self._index]
        return [self._progress, *read]

    async def _tell(self) -> None:
        await _apart(write_progress, self._workdir, self._index, self._progress)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _check(self, document: RevisionDocument) -> None:
        if self._replica.draining:
            raise Unavailable("The replica is ending, and takes no other revision.")
        now = self._replica.document
        for name in ("deployment_id", "project_id", "tenant_id", "audience"):
            if getattr(document, name) != getattr(now, name):
                raise InvalidInput(
                    f"The document's {name} is '{getattr(document, name)}', and this replica's is '{getattr(now, name)}'."
                )
        if now.limits.of_processes != document.limits.of_processes:
            raise Conflict(
                "Other `cpus`, `memory_mb` or `grpc` need other processes: a running replica cannot change its own.",
                hint="Start replicas with the new limits beside this one, and end it afterwards.",
            )


class _Loaded:
    """The variants of a document with their parts: packages that are served already stay, others are loaded here."""

    def __init__(self, replica: Replica, document: RevisionDocument) -> None:
        kept = _kept(replica.current, document)
        self.fresh: list[Variant] = []
        self.parts: list[tuple[Variant, Part]] = []
        try:
            for told in document.variants:
                variant = kept.get(told.name)
                if variant is None:
                    variant = replica.load(document, told)
                    self.fresh.append(variant)
                    self.parts.append((variant, variant.part))
                else:
                    self.parts.append((variant, variant.part_in(document, told)))
        except BaseException:
            for variant in self.fresh:
                variant.close()
                _free(variant)
            raise
        finally:
            gc.collect()  # looks only at what came since the last freeze


def _kept(served: Served, document: RevisionDocument) -> dict[str, Variant]:
    """Return which of the variants served stay under which name: those of the same package, first by their own name."""
    free = {id(variant): variant for variant in served.variants}
    kept: dict[str, Variant] = {}
    for same_name in (True, False):
        for told in document.variants:
            if told.name in kept:
                continue
            for variant in list(free.values()):
                part = variant.part.variant
                if (part.name == told.name or not same_name) and _package(part) == _package(told):
                    kept[told.name] = free.pop(id(variant))
                    break
    return kept


def _package(variant: VariantDocument) -> VariantDocument:
    return variant.model_copy(update={"name": "", "share": 0.0, "role": ""})


def _served(served: Served) -> list[dict[str, object]]:
    members = set(ServedVariant.model_fields)
    return [variant.model_dump(mode="json", include=members) for variant in served.document.variants]


def _free(variant: Variant) -> None:
    """Free what a variant that has ended holds."""
    shutil.rmtree(variant.folder, ignore_errors=True)
    model = _weakly(variant.package.predictor.model)
    variant.let_go()
    if model() is not None:  # it is in a circle, and what was frozen is not looked at
        gc.unfreeze()
        gc.collect()
        gc.freeze()
    _give_back()


def _weakly(model: object) -> Callable[[], object]:
    """Return what tells whether a model is still there; of one that cannot be referred to weakly, nothing is known."""
    try:
        return weakref.ref(model)
    except TypeError:
        return lambda: None


def _give_back() -> None:
    """Have the C library give freed memory back to the system, where it is one that keeps it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def _apart(work: Callable[..., T], *given: object) -> T:
    """Run work with files off the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, work, *given)

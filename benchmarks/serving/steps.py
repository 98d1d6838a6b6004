"""The steps of the benchmark, and the figures they give."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import SubprocessError

import httpx

from benchmarks.environments import PeerMissing, environment
from benchmarks.figures import Figure, larger_is_better
from benchmarks.serving import guards, swapping
from benchmarks.serving.cells import Book
from benchmarks.serving.loads import Rows
from benchmarks.serving.models import Model, constant
from benchmarks.serving.ours import LARGE_BATCHES, LIMITS, PER_CORE, NotYet, Platform, platform
from benchmarks.serving.peers import PEERS, RAW, Peer, serving
from benchmarks.serving.servers import Server

CONNECTIONS = (1, 32, 128)
TENSOR_CONNECTIONS = 8
OURS, PLAIN, MANY = "ours", "RandomForest, scikit-learn", "1,024 rows"
PER_CPU = "requests/CPU-s"

Step = Callable[[Book, Path, Model, Model], list[Figure]]


def limits(book: Book, folder: Path, forest: Model, linear: Model) -> list[Figure]:
    """A constant answer by the barest servers, and by ours."""
    for name, peer in RAW.items():
        with serving(peer, Path(sys.prefix) / "bin", folder / name, linear.pickle) as server:
            row = Rows(linear.rows.rows[:1], [1])
            server.await_answer(row.rows)
            for connections in CONNECTIONS:
                book.measure(server, "constant", row, connections)
    with platform(folder / "constant") as running:
        model = constant()
        deployed = running.deploy("constant", running.register("constant", model))
        for connections in CONNECTIONS:
            book.measure(running.replica(deployed), "constant", model.rows, connections)
    found = []
    for peer in RAW.values():
        mine, theirs = book.of("constant", OURS, 128), book.of("constant", peer.label, 128)
        if mine and theirs:
            figure = f"constant reply, HTTP, against {peer.label}"
            found.append(larger_is_better(figure, mine.per_cpu, theirs.per_cpu, peer.label, PER_CPU))
    return found


def rows(book: Book, folder: Path, forest: Model, linear: Model) -> list[Figure]:
    """One row a request: ours, the peers, and ours again."""
    _ours(book, folder / "ours before", forest, linear)
    for name, peer in _chosen().items():
        for model in (forest, linear):
            with_peer(book, folder, name, peer, model, lambda server, model=model: _cells(book, server, model))
    _ours(book, folder / "ours after", forest, linear)
    found = [
        *_best(book, "RandomForest, one row, 128 connections, per CPU-second", forest.name),
        *_best(book, "LogisticRegression, likewise", linear.name),
        *_best(
            book, "RandomForest served by scikit-learn on both sides (no compilation), likewise", forest.name, PLAIN
        ),
    ]
    for model in (forest, linear):
        peers = {server: cell.p99_ms for server, cell in book.others(model.name, 32)}
        mine = book.of(model.name, OURS, 32)
        if mine and peers:
            best = min(peers, key=lambda server: peers[server])
            figure = f"p99 at 32 connections against the best peer's, {model.name}"
            found.append(Figure(figure, mine.p99_ms, peers[best], best, round(peers[best] / mine.p99_ms, 2), "ms"))
    for model in (forest, linear):
        found += _each(book, model.name)
    return found


def tensors(book: Book, folder: Path, forest: Model, linear: Model) -> list[Figure]:
    """1,024 rows a request: ours in binary, the peers in JSON."""
    figure = "1,024-row tensors, binary OIP, against the best peer's JSON"
    try:
        with platform(folder / "tensors") as running:
            deployed = running.deploy("linear", running.register("linear", linear))
            book.measure(running.replica(deployed), MANY, linear.many, TENSOR_CONNECTIONS)
            server = running.tensors(deployed)
            server.name = "ours, binary"
            book.measure(server, MANY, linear.many, TENSOR_CONNECTIONS)
    except NotYet as wrong:
        book.miss(figure, str(wrong))
    for name, peer in _chosen().items():
        with_peer(
            book,
            folder,
            name,
            peer,
            linear,
            lambda server: book.measure(server, MANY, linear.many, TENSOR_CONNECTIONS),
        )
    mine, peers = book.of(MANY, "ours, binary", TENSOR_CONNECTIONS), dict(book.others(MANY, TENSOR_CONNECTIONS))
    if not mine or not peers:
        return []
    best = max(peers, key=lambda server: peers[server].per_cpu)
    return [larger_is_better(figure, mine.per_cpu, peers[best].per_cpu, f"{best}, JSON", PER_CPU)]


def swaps(book: Book, folder: Path, forest: Model, linear: Model) -> list[Figure]:
    """Changes under load."""
    with platform(folder / "swaps") as running:
        failed, asked = swapping.ours(running, linear)
    print(f"ours: {failed} of {asked:,} requests failed", flush=True)
    figure = "failed requests in 20 swaps, 5 scale-ups and a rollback under load"
    return [Figure(figure, failed, 0, "the limit", float(failed == 0), f"of {asked:,}")]


STEPS: dict[str, Step] = {"limits": limits, "rows": rows, "guards": guards.cost, "tensors": tensors, "swaps": swaps}


def with_peer(book: Book, folder: Path, name: str, peer: Peer, model: Model, act: Callable[..., object]) -> None:
    """Run a peer with a model and act on it; note why, where it cannot be."""
    try:
        binaries = environment(name, peer.requirements) / "bin"
        with serving(peer, binaries, _short(folder), model.pickle) as server:
            server.await_answer(model.rows.rows[:1])
            book.settings[peer.label] = peer.settings
            act(server)
    except (PeerMissing, RuntimeError, OSError, ValueError, KeyError, httpx.HTTPError, SubprocessError) as wrong:
        book.miss(f"{peer.label}, {model.name}", str(wrong))


def _short(folder: Path) -> Path:
    """Return a folder that is not there: Ray makes sockets deep below it, whose paths have 107 bytes at most."""
    return folder / f"p{len(list(folder.iterdir()))}"


def _chosen() -> dict[str, Peer]:
    wanted = [name for name in os.environ.get("PEERS", "").split(",") if name] or list(PEERS)
    if unknown := set(wanted) - set(PEERS):
        raise SystemExit(f"There is no peer {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}.")
    return {name: PEERS[name] for name in wanted}


def _cells(book: Book, server: Server, model: Model, what: str | None = None) -> None:
    """Measure a server, thrice where most connections are: that is what figures are made of."""
    for connections in (*CONNECTIONS, CONNECTIONS[-1], CONNECTIONS[-1]):
        book.measure(server, what or model.name, model.rows, connections)


def _ours(book: Book, folder: Path, forest: Model, linear: Model) -> None:
    with platform(folder) as running:
        for model in (forest, linear):
            _one(book, running, model, model.name.lower(), model.name, compiled=True)
        _one(book, running, forest, "plain", PLAIN, compiled=False)
        deployed = running.deploy("cores", running.register("cores", linear), limits=PER_CORE)
        server = replace(running.replica(deployed), name="ours, a process per core")
        book.measure(server, linear.name, linear.rows, CONNECTIONS[-1])


def _one(book: Book, running: Platform, model: Model, name: str, what: str, *, compiled: bool) -> None:
    limits = LIMITS if compiled else LARGE_BATCHES
    deployed = running.deploy(name, running.register(name, model, compiled=compiled), limits=limits)
    _cells(book, running.replica(deployed), model, what)
    running.remove(name)


def _best(book: Book, figure: str, theirs: str, ours: str | None = None) -> list[Figure]:
    mine, peers = book.of(ours or theirs, OURS, 128), dict(book.others(theirs, 128))
    if not mine or not peers:
        return []
    best = max(peers, key=lambda server: peers[server].per_cpu)
    return [larger_is_better(figure, mine.per_cpu, peers[best].per_cpu, best, PER_CPU)]


def _each(book: Book, model: str) -> list[Figure]:
    mine = book.of(model, OURS, 128)
    return [
        larger_is_better(f"{model}, 128 connections, against {peer}", mine.per_cpu, cell.per_cpu, peer, PER_CPU)
        for peer, cell in book.others(model, 128)
        if mine
    ]

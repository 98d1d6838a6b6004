"""What authentication, routing and the monitoring tap cost: a replica with them, against the same one without.

Both are started from the document of one revision, and measured in turn.
"""

import json
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.environments import PeerMissing
from benchmarks.figures import Figure, larger_is_better
from benchmarks.serving.cells import Book
from benchmarks.serving.models import Model
from benchmarks.serving.ours import Platform, platform
from benchmarks.serving.peers import PROGRAMS
from benchmarks.serving.servers import READY_S, Server, last_words, running

FIGURE = "cost of authentication + routing + tap, against the same server without them"
CONNECTIONS, ROUNDS = 128, 5
GUARDED, BARE = "ours, guarded", "ours, bare"
PLAIN = {"content-type": "application/json"}


def cost(book: Book, folder: Path, forest: Model, linear: Model) -> list[Figure]:
    """Compare the two with a logistic regression: the cheaper the model, the more the guards weigh."""
    place = folder / "guards"
    try:
        with platform(place) as up:
            name = up.register("linear", linear)
            asked = up.replica(up.deploy("linear", name))
            document = next((place / "home" / "deployments").rglob("revision.json")).parent
            guarded = [sys.executable, "-m", "modelops.runtime", "serve"]
            bare = [sys.executable, str(PROGRAMS / "bare.py")]
            pairs = []
            with (
                _replica(up, folder / "guarded", guarded, document, replace(asked, name=GUARDED)) as one,
                _replica(up, folder / "bare", bare, document, replace(asked, name=BARE, headers=PLAIN)) as other,
            ):
                for server in (one, other):
                    server.await_answer(linear.rows.rows[:1])
                for _ in range(ROUNDS):
                    cells = [book.measure(server, linear.name, linear.rows, CONNECTIONS) for server in (one, other)]
                    if cells[0] and cells[1]:
                        pairs.append((cells[0].per_cpu, cells[1].per_cpu))
    except (PeerMissing, StopIteration) as wrong:
        book.miss(FIGURE, str(wrong) or "no replica's document was found")
        return []
    with_them, without = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"authentication, routing and tap cost {1 - with_them / without:.1%} of the requests per CPU-second")
    return [larger_is_better(FIGURE, with_them, without, "ours without them", "requests/CPU-s")]


@contextmanager
def _replica(up: Platform, folder: Path, command: list[str], document: Path, asked: Server) -> Iterator[Server]:
    """Run a replica of the platform's outside of its care."""
    folder.mkdir()
    shutil.copy(document / "token", folder)
    shutil.copy(document / "revision.json", folder)
    environment = {
        "MODELOPS_WORKDIR": str(folder),
        "MODELOPS_CACHE": str(up.folder / "home" / "cache"),
        "MODELOPS_SPOOL": str(folder / "spool"),
    }
    endpoint = folder / "endpoint.json"
    with running(command, folder, environment) as pid:
        deadline = time.monotonic() + READY_S
        server = replace(asked, folder=folder, pid=pid)
        while not endpoint.exists():
            if time.monotonic() > deadline or server.ended():
                raise PeerMissing(f"{asked.name} did not start: {last_words(folder)}")
            time.sleep(0.1)
        yield replace(server, url=json.loads(endpoint.read_text())["url"])

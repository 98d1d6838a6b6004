"""What authentication, routing and the monitoring tap cost: ours with them, against the same server without."""

from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.serving.cells import Book
from benchmarks.serving.models import Model


def cost(book: Book, folder: Path, forest: Model, linear: Model) -> list[Figure]:
    """Compare a replica with one whose guards are taken off."""
    book.miss("cost of authentication + routing + tap", "a replica cannot be run without them")
    return []

"""The book of what was measured: a cell for each server, model and number of connections, and why others are missing."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.serving.loads import Cell, Rows, WrongAnswer, measure_cell, median
from benchmarks.serving.servers import Server

HEAD = f"{'model':<28}{'server':<26}{'connections':>11}{'per CPU-s':>11}{'per s':>10}{'p50 ms':>9}{'p99 ms':>9}{'failed':>8}"


@dataclass
class Book:
    """All cells of a run.

    Attributes:
        seconds: How long a cell takes, after a quarter of it for warming up.
        settings: How each peer was set.
        missing: What could not be measured, and why.
    """

    seconds: float
    cells: dict[tuple[str, str, int], Cell] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    _measured: dict[tuple[str, str, int], list[Cell]] = field(default_factory=dict)

    def measure(self, server: Server, what: str, rows: Rows, connections: int) -> Cell | None:
        """Measure a cell, and print it. Of several measurements the median is kept.

        Returns None where the server answered wrongly, which is noted.
        """
        try:
            cell = measure_cell(server, rows, connections, self.seconds, self.seconds / 4)
        except WrongAnswer as wrong:
            self.miss(f"{server.name}, {what}, {connections} connections", str(wrong))
            return None
        at = (what, server.name, connections)
        print(f"{line(at, cell)}   load {os.getloadavg()[0]:.1f}", flush=True)
        self._measured.setdefault(at, []).append(cell)
        self.cells[at] = median(self._measured[at])
        return cell

    def miss(self, what: str, why: str) -> None:
        """Note that something could not be measured."""
        text = f"not measured: {what}: {' '.join(why.split())}"
        print(text, flush=True)
        self.missing.append(text)

    def of(self, what: str, server: str, connections: int) -> Cell | None:
        """Return the cell of a server, where it was measured."""
        return self.cells.get((what, server, connections))

    def others(self, what: str, connections: int) -> Iterator[tuple[str, Cell]]:
        """Yield the peers' cells."""
        for (measured, server, number), cell in self.cells.items():
            if (measured, number) == (what, connections) and server in self.settings:
                yield server, cell

    def print(self) -> None:
        """Print all cells, the settings, and what is missing."""
        print(f"\n{HEAD}")
        for at in sorted(self.cells):
            print(line(at, self.cells[at]))
        print()
        for server, settings in self.settings.items():
            print(f"{server}: {settings}")
        for text in self.missing:
            print(text)


def line(at: tuple[str, str, int], cell: Cell) -> str:
    """Return a cell as a line of the table."""
    what, server, connections = at
    counted = f"{cell.per_cpu:>11,.0f}{cell.per_second:>10,.0f}{cell.p50_ms:>9.2f}{cell.p99_ms:>9.2f}{cell.failed:>8}"
    return f"{what:<28}{server:<26}{connections:>11}{counted}"

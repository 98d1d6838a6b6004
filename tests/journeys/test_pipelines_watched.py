"""`mops pipelines run --watch` on a terminal: the graph is drawn in place while the run goes on, and stays as it ended."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading

import pytest

from modelops.testing.process import platform_process

LINES, COLUMNS = 24, 100

PIPELINE = """
import time

from modelops import pipeline, step

@step
def numbers() -> list:
    time.sleep(1)
    return [1, 2, 3]

@step
def double(number: int) -> int:
    return 2 * number

@step
def total(values: list) -> int:
    time.sleep(1)
    return sum(values)

@step
def breaks(value: int) -> int:
    raise ValueError("it is too much")

@pipeline
def watched():
    breaks(total(double.map(numbers())))
"""

_PIECE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+|\x1b")


class Screen:
    """A terminal: what stands on it after all that was written."""

    def __init__(self):
        self.lines, self.row, self.column, self.up = [""], 0, 0, 0

    def write(self, text):
        for piece in _PIECE.finditer(text):
            written, number, order = piece[0], piece[1], piece[2]
            if order == "A":
                self.row -= int(number or 1)
                self.up += 1
                assert self.row >= 0, "it wrote above its first line"
            elif order == "K":
                assert number == "2"
                self.lines[self.row] = ""
            elif order in ("m", "h", "l"):
                continue  # colours, and whether the cursor is seen
            elif written == "\r":
                self.column = 0
            elif written == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            else:
                assert order is None, f"an order that is not known: {written!r}"
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + written + line[self.column + len(written) :]
                self.column += len(written)

    def text(self):
        return "\n".join(line.rstrip() for line in self.lines)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_picture_on_a_terminal(tmp_path):
    (tmp_path / "watched.py").write_text(PIPELINE)
    with platform_process(tmp_path / "home") as platform:
        facts = {**os.environ, **platform.environment(), "MODELOPS_HOME": str(platform.home), "TERM": "xterm-256color"}
        code, written = on_a_terminal(["pipelines", "run", "watched.py", "--watch"], facts, tmp_path)
    screen = Screen()
    screen.write(written)
    last = screen.text()
    assert code == 1, last
    assert screen.up > 1, "it was drawn in place"
    plain = re.sub(r"\x1b\[[0-9;]*m", "", written)
    assert re.search("▶ +numbers", plain), "it was drawn while a step was under way"
    assert re.sub(r"(\d+ min )?[0-9.]+ m?s\b", "a while", last).startswith(
        "✓ numbers     a while\n"
        "✓ double ×3   3/3 · a while\n"
        "✓ total       a while\n"
        "✗ breaks      failed · a while · ValueError: it is too much\n"
    ), last
    assert last.count("numbers") == 1, "one picture is left"
    assert "is failed: The step 'breaks' failed: ValueError: it is too much" in " ".join(last.split())


def on_a_terminal(arguments, facts, folder):
    """Run `mops` on a terminal of its own, and return its exit code and all that it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    written = bytearray()

    def read():
        try:
            while piece := os.read(ours, 65_536):
                written.extend(piece)
        except OSError:  # the other end was closed
            return

    command = [sys.executable, "-m", "modelops.cli", *arguments]
    process = subprocess.Popen(
        command, cwd=folder, env=facts, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    reading = threading.Thread(target=read)
    reading.start()
    try:
        code = process.wait(300)
    finally:
        process.kill()
        process.wait()
        reading.join()
        os.close(ours)
    return code, written.decode()

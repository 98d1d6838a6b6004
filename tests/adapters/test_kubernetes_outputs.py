"""Output of a cluster as it is kept: once, whole, and the same whichever process is asked."""

import threading

import pytest

from modelops.adapters.kubernetes.logs import Archive
from modelops.adapters.kubernetes.outputs import PIECE_BYTES, Mark, Outputs
from modelops.adapters.kubernetes.tables import ClusterOutputPieceRow


class Node:
    """Answers with all lines, each of a second of its own."""

    def __init__(self, texts):
        self.lines = [f"2026-05-01T12:{at // 60:02d}:{at % 60:02d}.000000000Z {text}" for at, text in enumerate(texts)]

    def log(self, pod, namespace, *, since, limit):
        first = 0 if since is None else since.minute * 60 + since.second
        return "".join(f"{line}\n" for line in self.lines[first:]).encode()[:limit]


@pytest.fixture
def outputs(platform):
    return Outputs(platform.place.database, platform.place.clock)


def test_pieces_are_read_from_anywhere(outputs):
    written, mark = b"", None
    for size in (10, PIECE_BYTES, 5, 3 * PIECE_BYTES, 1):
        piece = bytes(at % 251 for at in range(size))
        after = Mark("pod", f"t{len(written)}", 1, len(written) + size)
        assert outputs.add("a", mark, after, piece)
        written, mark = written + piece, after
    for offset in (0, 5, 10, PIECE_BYTES, PIECE_BYTES + 11, len(written) - 1, len(written), len(written) + 9):
        for limit in (0, 1, 100, 10**7):
            assert outputs.read("a", offset, limit) == written[offset : offset + limit]
    assert outputs.read("b", 0, 10) == b""


def test_a_job_that_says_little_at_a_time_has_few_pieces(outputs, platform):
    mark = None
    for at in range(50):
        after = Mark("pod", str(at), 1, 10 * (at + 1))
        assert outputs.add("a", mark, after, b"0123456789")
        mark = after
    with platform.place.database.work(write=False) as session:
        assert session.query(ClusterOutputPieceRow).count() == 1
    assert outputs.read("a", 495, 10) == b"56789"


def test_of_two_that_go_on_from_the_same_point_one_is_kept(outputs):
    first = Mark("pod", "1", 1, 1)
    assert outputs.add("a", None, first, b"x")
    assert not outputs.add("a", None, first, b"y")
    assert outputs.add("a", first, Mark("pod", "2", 1, 2), b"z")
    assert not outputs.add("a", first, Mark("pod", "2", 1, 2), b"z")
    assert outputs.read("a", 0, 9) == b"xz"


def test_many_processes_follow_one_output(outputs):
    texts = [f"line {at}" for at in range(200)]
    node = Node(texts[:1])

    def follow():
        for shown in range(1, len(texts) + 1, 7):
            node.lines = Node(texts[: max(shown, len(node.lines))]).lines
            Archive(outputs, node).follow("a", "pod", "space")

    threads = [threading.Thread(target=follow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    node.lines = Node(texts).lines
    Archive(outputs, node).follow("a", "pod", "space")
    assert outputs.read("a", 0, 10**6).decode().splitlines() == texts


def test_what_has_begun_is_known_until_it_is_removed(outputs):
    assert outputs.mark("a") is None
    outputs.begin("a", "job_1-1")
    outputs.begin("a", "job_1-1")
    assert outputs.mark("a") == Mark()
    assert outputs.add("b", None, Mark("pod", "1", 1, 1), b"x")
    assert outputs.attempts() == ["job_1-1"]
    outputs.remove("a")
    assert (outputs.mark("a"), outputs.attempts()) == (None, [])

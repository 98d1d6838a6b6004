"""The parts of the benchmark of serving that a wrong figure could come from."""

import json
import sys
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from benchmarks.run import with_new
from benchmarks.serving import tensors
from benchmarks.serving.cells import Book
from benchmarks.serving.loads import Cell, Checks, Rows, WrongAnswer, check, median
from benchmarks.serving.servers import Server, instances, predictions, processes_of, running
from hypothesis import given
from hypothesis import strategies as st

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=5))
def test_a_binary_tensor_holds_the_rows(rows):
    body, head = tensors.prepare(rows), tensors.header_of(len(rows), 3)
    assert body.startswith(head)
    described = json.loads(head)["inputs"][0]
    assert described["parameters"]["binary_data_size"] == len(body) - len(head)
    assert np.array_equal(np.frombuffer(body[len(head) :], "<f8").reshape(described["shape"]), rows)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1), st.sampled_from(["INT32", "INT64"]))
def test_labels_are_read_from_binary_and_from_plain_outputs(labels, datatype):
    content = np.array(labels, tensors.TYPES[datatype]).tobytes()
    output = {"name": "predictions", "datatype": datatype, "shape": [len(labels)]}
    binary = json.dumps({"outputs": [{**output, "parameters": {"binary_data_size": len(content)}}]}).encode()
    assert tensors.labels(binary + content) == labels
    assert tensors.labels(json.dumps({"outputs": [{**output, "data": labels}]}).encode()) == labels


def test_requests_are_cut_to_their_size():
    rows = Rows([[1.0], [2.0], [3.0], [4.0], [5.0]], [1, 2, 3, 4, 5], size=2)
    assert rows.requests() == [([[1.0], [2.0]], [1, 2]), ([[3.0], [4.0]], [3, 4])]


def test_of_several_cells_the_median_counts_and_every_failure():
    one = Cell(32, requests=100, seconds=1, cpu_s=1, p50_ms=5, p99_ms=9, failed=0)
    two = Cell(32, requests=80, seconds=1, cpu_s=1, p50_ms=4, p99_ms=11, failed=2)
    three = Cell(32, requests=90, seconds=1, cpu_s=1, p50_ms=4, p99_ms=10, failed=0)
    assert median([one]) == one
    assert median([one, two, three]) == Cell(32, 90, 1, 1, p50_ms=4, p99_ms=10, failed=2)
    assert median([one, two]).requests == 80, "of two in the middle the worse"


def test_a_wrong_label_strikes_a_cell_out(monkeypatch, capsys):
    def wrong(*_):
        raise WrongAnswer("it answered [0], and [1] is right")

    monkeypatch.setattr("benchmarks.serving.cells.measure_cell", wrong)
    book = Book(seconds=1)
    server = Server("peer", "http://127.0.0.1:1", "/", Path(), instances, predictions, pid=1)
    assert book.measure(server, "model", Rows([], []), 1) is None
    assert book.cells == {}
    assert "[1] is right" in book.missing[0]
    assert book.missing[0] in capsys.readouterr().out


def test_labels_are_compared_with_the_right_ones():
    def answer(request):
        assert json.loads(request.content) == {"instances": [[1.0]]}
        return httpx.Response(200, json={"predictions": [0]})

    server = Server("peer", "http://peer", "/predict", Path(), instances, predictions, pid=1)
    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        check(server, http, [[1.0]], [0])
        with pytest.raises(WrongAnswer):
            check(server, http, [[1.0]], [1])
    assert Checks().right == 0


CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(60)'])"
DAEMON = f"import os, sys; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); exec({CHILD!r})"


def test_a_server_is_weighed_and_ended_with_the_processes_that_left_it(tmp_path):
    starter = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {DAEMON!r}]); time.sleep(60)"
    with running([sys.executable, "-c", starter], tmp_path, {}) as pid:
        while "1" not in (tmp_path / "output").read_text():
            assert psutil.Process(pid).is_running()
        found = processes_of(tmp_path, pid)
        assert len(found) == 3  # the first, the one that left its session, and that one's child
        server = Server("peer", "", "", tmp_path, instances, predictions, pid)
        assert server.cpu() > 0
        assert not server.ended()
    assert server.ended()
    assert not psutil.wait_procs(found, timeout=10)[1]


def test_of_ended_processes_the_time_counts_on(tmp_path):
    busy = "sum(range(10_000_000))"
    child = f"subprocess.run([sys.executable, '-c', {busy!r}])"
    parent = f"import subprocess, sys, time; {child}; print(1, flush=True); time.sleep(60)"
    with running([sys.executable, "-c", parent], tmp_path, {}) as pid:
        while "1" not in (tmp_path / "output").read_text():
            assert psutil.Process(pid).is_running()
        itself = psutil.Process(pid).cpu_times()
        server = Server("peer", "", "", tmp_path, instances, predictions, pid)
        assert server.cpu() > itself.user + itself.system


def test_without_wrk_people_are_told(monkeypatch):
    from benchmarks.serving.loads import require_wrk

    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match="apt-get install wrk"):
        require_wrk()


def test_steps_that_are_run_again_take_the_places_of_their_figures():
    known = [{"figure": "a", "ratio": 1}, {"figure": "b", "ratio": 2}]
    assert with_new(known, [{"figure": "b", "ratio": 3}, {"figure": "c", "ratio": 4}]) == [
        {"figure": "a", "ratio": 1},
        {"figure": "b", "ratio": 3},
        {"figure": "c", "ratio": 4},
    ]

"""The worker's process: what becomes of steps that end well, badly, or not at all."""

import hashlib
import io
import os
import signal
import time

import pyarrow as pa
import pytest
from tests.runtime.steps_plane import RUN, Plane, Worker, packed

from modelops.testing.waiting import wait_for

SOURCE = """
import ctypes, dataclasses, os, signal, subprocess, sys, time
from pathlib import Path

import modelops

@dataclasses.dataclass
class Point:
    x: int
    y: int = 0

def add(a, b=1):
    return a + b

async def later(a):
    return a

def shape(point: Point) -> Point:
    assert isinstance(point, Point)
    return Point(point.x + 1, point.y)

def total(values: list[int]):
    return sum(values)

def fails(text):
    raise ValueError(text)

def exits(code):
    sys.exit(code)

def vanishes(code):
    os._exit(code)

def crashes():
    ctypes.string_at(0)

def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)

def tidy(path):
    try:
        time.sleep(60)
    finally:
        Path(path).write_text("tidied")

def greedy():
    hoard = [bytearray(os.urandom(1) * (1 << 20)) for _ in range(2000)]
    time.sleep(60)

def parent(path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    Path(path).write_text(str(child.pid))
    time.sleep(60)

def forks():
    return os.fork()

def closes():
    os.closerange(0, 256)
    time.sleep(60)

def talks(lines):
    print("from Python")
    os.write(2, b"from C\\n")
    ctypes.CDLL(None).printf(b"from C, kept back\\n")
    subprocess.run(["echo", "from a child"])
    for number in range(lines):
        print("line", number, "é")

def table(rows):
    import pyarrow as pa
    return pa.table({"n": list(range(rows))})

def count(table):
    return table.num_rows

def frame(table: "pandas.DataFrame"):
    return type(table).__name__

def two():
    return {"a": 1, "b": {"c": [2]}}

def file(size):
    Path("out.bin").write_bytes(b"x" * size)
    return Path("out.bin")

def reads(file):
    return [file.name, len(file.read_bytes())]

def facts():
    step = modelops.step_context()
    assert os.getcwd() == str(step.folder)
    return [step.run_id, step.step, step.attempt, step.idempotency_key]

def pid():
    return os.getpid()

def text(characters):
    return "x" * characters

def length(text):
    return len(text)

def waits(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)

def nothing():
    pass

def nan():
    return float("nan")

def sleeps(seconds):
    time.sleep(seconds)

def creates(names):
    client = modelops.step_context().client
    for name in names:
        client.rest.request("POST", "/artifacts-of/" + name + "/beat", json={"worker": "w", "wrote": [], "returned": []})

lazy = object()
"""


@pytest.fixture
def plane():
    plane = Plane()
    yield plane
    plane.close()


@pytest.fixture
def worker(plane, tmp_path):
    worker = Worker(plane, tmp_path / "w", SOURCE)
    yield worker
    worker.close()


def test_steps_run_in_one_process_and_their_values_are_artifacts(plane, worker):
    sums = [plane.add("code:add", {"a": n}) for n in range(40)]
    later, shaped = plane.add("code:later", {"a": [1]}), plane.add("code:shape", {"point": {"x": 4}})
    two = plane.add("code:two", outputs={"a": "json", "b": "json"})
    pids = [plane.add("code:pid") for _ in range(3)]
    assert [plane.value(plane.ended(step)) for step in sums] == [n + 1 for n in range(40)]
    assert plane.value(plane.ended(later)) == [1]
    assert plane.value(plane.ended(shaped)) == {"x": 5, "y": 0}
    report = plane.ended(two)
    assert plane.value(report, "a") == 1
    assert plane.value(report, "b") == {"c": [2]}
    assert report["peak_memory_bytes"] > 1 << 20
    assert report["cpu_seconds"] >= 0
    assert len({plane.value(plane.ended(step)) for step in pids}) == 1
    plane.finish()
    assert worker.wait() == 0
    assert worker.log.read_text() == ""


def test_values_pass_by_reference(plane, worker):
    made = plane.add("code:table", {"rows": 1000}, outputs={"result": "arrow"})
    kept = plane.add("code:file", {"size": 70_000}, outputs={"result": "file"})
    table, file = plane.ended(made)["outputs"]["result"], plane.ended(kept)["outputs"]["result"]
    assert pa.ipc.open_file(io.BytesIO(plane.artifacts[table["digest"]])).read_all().num_rows == 1000
    assert (file["filename"], file["size"]) == ("out.bin", 70_000)
    foreign = plane.put(b"abc")
    steps = [
        plane.add("code:count", references={"table": table}),
        plane.add("code:frame", references={"table": table}),
        plane.add("code:reads", references={"file": file}),
        plane.add("code:reads", references={"file": {"type": "file", "digest": foreign, "filename": "a b.csv"}}),
        plane.add(
            "code:total",
            references={"values": [{"type": "json", "digest": plane.put(str(n).encode())} for n in range(50)]},
        ),
    ]
    assert [plane.value(plane.ended(step)) for step in steps] == [
        1000,
        "DataFrame",
        ["out.bin", 70_000],
        ["a b.csv", 3],
        1225,
    ]


def test_small_values_travel_with_the_messages_and_large_ones_by_themselves(plane, worker):
    small = [plane.add("code:add", {"a": n}) for n in range(100)]
    assert [plane.value(plane.ended(step)) for step in small] == list(range(1, 101))
    many = plane.add("code:total", references={"values": [plane.ended(step)["outputs"]["result"] for step in small]})
    assert plane.value(plane.ended(many)) == 5050
    asked = [path.rsplit("/", 2)[-2] for path, _ in plane.requests]
    assert asked.count("artifacts") == 1, "the code alone is fetched"
    long = plane.add("code:text", {"characters": 16_383})
    assert len(plane.value(plane.ended(long))) == 16_383
    again = plane.add("code:length", references={"text": plane.ended(long)["outputs"]["result"]})
    assert plane.value(plane.ended(again)) == 16_383
    assert [path for path, _ in plane.requests].count("/v1/artifacts") == 1


def test_tiny_steps_are_told_of_together_and_more_comes_with_the_answer(plane, worker):
    plane.value(plane.ended(plane.add("code:add", {"a": 0})))
    with plane.lock:
        plane.told.clear()
        plane.requests.clear()
        steps = [plane.add("code:add", {"a": n}) for n in range(300)]
    assert [plane.value(plane.ended(step)) for step in steps] == list(range(1, 301))
    claims = sum(path.endswith("/claim") for path, _ in plane.requests)
    assert len(plane.told) + claims < 100, (plane.told, claims)


def test_a_step_whose_process_is_killed_is_lost_and_did_not_fail(plane, worker, tmp_path):
    victim = plane.add("code:waits", {"path": str(tmp_path / "pid")})
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    report = plane.ended(victim)
    assert (report["lost"], report["hopeless"]) == (True, False)
    assert "SIGKILL" in report["failure"]
    assert plane.value(plane.ended(plane.add("code:add", {"a": 1}))) == 2


@pytest.mark.parametrize(
    ("function", "facts", "reason", "hopeless"),
    [
        ("code:fails", {"inputs": {"text": "no\0pe"}}, "ValueError: nope", False),
        ("code:exits", {"inputs": {"code": 3}}, "The step ended itself with sys.exit(3).", False),
        ("code:vanishes", {"inputs": {"code": 7}}, "The step ended its process with exit code 7.", False),
        ("code:crashes", {}, "The step's process was ended by SIGSEGV.", False),
        ("code:closes", {}, "The step closed the files of the process that runs it.", False),
        ("code:nan", {}, "The output 'result' is declared as json: Out of range float values", True),
        ("code:two", {"outputs": {"a": "json"}}, "declares the outputs 'a', and returned 'a', 'b'.", True),
        (
            "code:two",
            {"outputs": {"result": "file"}},
            "'result' is declared as file: the function must return a path",
            True,
        ),
        ("code:two", {"outputs": {"result": "model"}}, "must return a registered version or its id", True),
        ("code:add", {}, "'code:add' does not take these inputs: missing a required argument: 'a'.", True),
        ("code:absent", {}, "'code:absent' cannot be imported: AttributeError", True),
        ("nowhere:absent", {}, "'nowhere:absent' cannot be imported: ModuleNotFoundError", True),
        ("code:lazy", {}, "'code:lazy' is no function.", True),
        ("code:shape", {"inputs": {"point": {"x": "no"}}}, "An input does not fit what the function takes", True),
    ],
)
def test_a_step_that_fails_says_why_and_harms_no_other(plane, worker, function, facts, reason, hopeless):
    failing, after = plane.add(function, **facts), plane.add("code:add", {"a": 1})
    report = plane.ended(failing)
    assert reason in report["failure"]
    assert report["hopeless"] is hopeless
    assert report["outputs"] == {}
    assert plane.value(plane.ended(after)) == 2


def test_limits_are_kept(plane, worker, tmp_path):
    tidied, child = tmp_path / "tidied", tmp_path / "child"
    gentle = plane.add("code:tidy", {"path": str(tidied)}, timeout_s=1.0)
    parent = plane.add("code:parent", {"path": str(child)}, timeout_s=1.5)
    greedy = plane.add("code:greedy", resources={"memory_mb": 300})
    deaf = plane.add("code:deaf", timeout_s=0.5)
    after = plane.add("code:add", {"a": 1})
    assert plane.ended(gentle)["failure"] == "The step took longer than its limit of 1 s."
    assert tidied.read_text() == "tidied"
    assert plane.ended(parent)["failure"] == "The step took longer than its limit of 1.5 s."
    assert not _lives(int(child.read_text()))
    assert "more than its limit of 300 MiB" in plane.ended(greedy)["failure"]
    assert plane.ended(greedy)["peak_memory_bytes"] > 300 << 20
    assert plane.ended(deaf)["failure"].endswith("It was killed, 5 s after it was asked to end.")
    assert plane.value(plane.ended(after)) == 2


def test_output_arrives_while_the_step_runs_and_is_bounded(plane, worker):
    talks = plane.add("code:talks", {"lines": 3})
    plane.ended(talks)
    kept_back = "from C, kept back\n"
    assert plane.text[talks, 1].count(kept_back) == 1
    said = "from Python\nfrom C\nfrom a child\nline 0 é\nline 1 é\nline 2 é\n"
    assert plane.text[talks, 1].replace(kept_back, "") == said
    much = plane.add("code:talks", {"lines": 300_000})
    plane.ended(much)
    text = plane.text[much, 1]
    assert len(text) < 2_200_000
    assert text.endswith("[what follows was dropped: an attempt may write 2097152 characters]\n")
    silent = plane.add("code:nothing")
    plane.ended(silent)
    assert (silent, 1) not in plane.text


def test_a_fork_of_the_runner_says_nothing(plane, worker):
    report = plane.ended(plane.add("code:forks"))
    assert plane.value(report) > 0


def test_a_step_knows_itself_and_its_creates_carry_its_keys(plane, worker):
    facts = plane.add("code:facts", key="s[9]", attempt=2, idempotency_key="k9")
    assert plane.value(plane.ended(facts, 2)) == [RUN, "s[9]", 2, "k9"]
    for attempt in (1, 2):
        plane.ended(
            plane.add("code:creates", {"names": ["a", "a", "b"]}, idempotency_key="k", attempt=attempt), attempt
        )
    plane.ended(plane.add("code:creates", {"names": ["a"]}, idempotency_key="other"))
    keys = [key for path, key in plane.requests if path.startswith("/v1/artifacts-of")]
    assert keys[:3] == keys[3:6]
    assert len(set(keys)) == 4


def test_what_is_cancelled_is_stopped(plane, worker):
    running, after = plane.add("code:sleeps", {"seconds": 60}), plane.add("code:add", {"a": 1})
    wait_for(lambda: plane.beats)
    plane.stop.add(running)
    assert plane.ended(running)["failure"] == "The step was told to end."
    assert plane.value(plane.ended(after)) == 2


def test_claimed_ahead_of_a_long_step_is_given_back(plane, worker):
    for step in [plane.add("code:nothing") for _ in range(60)]:
        plane.ended(step)
    long = plane.add("code:sleeps", {"seconds": 60})
    behind = [plane.add("code:nothing") for _ in range(5)]
    wait_for(lambda: sorted(one["id"] for one in plane.queue) == sorted(behind), within_s=20)
    assert (long, 1) not in plane.reports


def test_the_platform_may_be_away(plane, worker):
    plane.ended(plane.add("code:nothing"))
    step = plane.add("code:sleeps", {"seconds": 1.0})
    wait_for(lambda: step in plane.given)
    plane.away = True
    time.sleep(2.5)
    plane.away = False
    assert plane.value(plane.ended(step)) is None
    plane.finish()
    assert worker.wait() == 0


def test_sigterm_ends_the_step_and_gives_it_back(plane, worker, tmp_path):
    tidied = tmp_path / "tidied"
    step = plane.add("code:tidy", {"path": str(tidied)})
    wait_for(lambda: plane.beats)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.wait() == 128 + signal.SIGTERM
    assert tidied.read_text() == "tidied"
    assert plane.beats[-1]["returned"] == [[step, 1]]


def test_the_runner_ends_with_its_keeper(plane, worker, tmp_path):
    step = plane.add("code:parent", {"path": str(tmp_path / "child")})
    wait_for(lambda: plane.beats)
    runner = next(int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _parent(pid) == worker.process.pid)
    worker.process.kill()
    worker.wait()
    wait_for(lambda: not _lives(runner))
    assert (step, 1) not in plane.reports


def test_code_that_was_changed_in_the_cache_is_fetched_again(plane, tmp_path):
    name = plane.put(packed(code=SOURCE)).removeprefix("sha256:")
    archive = tmp_path / "w" / "cache" / "code" / name
    worker = Worker(
        plane, tmp_path / "w", SOURCE, before=lambda: (archive.parent.mkdir(parents=True), archive.write_bytes(b"x"))
    )
    assert plane.value(plane.ended(plane.add("code:add", {"a": 1}))) == 2
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == name
    worker.close()


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"archive": b"junk"}, "is no archive"),
        ({"requirements": b"nonsense=="}, "The environment could not be built of its lock"),
    ],
)
def test_what_keeps_all_steps_from_running_is_told_of_each(plane, tmp_path, facts, reason):
    worker = Worker(plane, tmp_path / "w", SOURCE, **facts)
    for step in [plane.add("code:nothing") for _ in range(2)]:
        report = plane.ended(step)
        assert reason in report["failure"]
        assert report["hopeless"]
    worker.close()


def _parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False

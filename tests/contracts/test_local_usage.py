"""What the supervisor samples of a process, and what is kept and drawn of it."""

import ctypes
import sys
from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.adapters.local import nvml, supervisor
from modelops.contracts.ports import UsageSample
from modelops.domains.training import drawing
from modelops.domains.training.usage import KEPT_SAMPLES, curves, pack, thin, unpack

numbers = st.floats(0, 2**50)


@st.composite
def series(draw):
    """Samples as a supervisor takes them: what counts from the start never falls."""
    count = draw(st.integers(0, 40)) * draw(st.sampled_from([1, 25]))
    step = st.floats(0, 1e4)
    at = cpu = read = written = 0.0
    gpu = draw(st.booleans())
    rise = [draw(step) for _ in range(8)]
    found = []
    for n in range(count):
        at, cpu = at + 0.01 + rise[n % 8], cpu + rise[(n + 1) % 8]
        read, written = read + rise[(n + 2) % 8], written + rise[(n + 3) % 8]
        extra = (rise[n % 5], rise[n % 7]) if gpu else (None, None)
        found.append(UsageSample(at, cpu, rise[n % 3] * 1e6, read, written, *extra))
    return found


@given(series())
def test_what_is_kept_is_small_and_true_where_it_counts(samples):
    kept = unpack(pack(samples))
    assert len(kept) <= KEPT_SAMPLES
    assert kept == thin(samples)
    assert [one.at_s for one in kept] == sorted(one.at_s for one in kept)
    if samples:
        assert (kept[-1].at_s, kept[-1].cpu_seconds) == (samples[-1].at_s, samples[-1].cpu_seconds)
        assert max(one.memory_bytes for one in kept) == max(one.memory_bytes for one in samples)
    assert (len(samples) <= KEPT_SAMPLES) <= (kept == samples)


@given(series())
def test_curves_add_up_to_what_was_used_and_can_be_drawn(samples):
    usage = curves(1, samples, None, None)
    lengths = {len(one) for one in (usage.seconds, usage.cpus, usage.memory_bytes, usage.read_bytes_per_s)}
    assert lengths == {len(samples)}
    assert all(isfinite(value) and value >= 0 for value in usage.cpus)
    assert (usage.gpu_percent is None) == (not samples or samples[0].gpu_percent is None)
    lines = list(drawing.drawn(usage))
    assert len(lines) == (1 if not samples else 6 if usage.gpu_percent is None else 8)


@given(st.lists(numbers, min_size=1, max_size=300))
def test_a_curve_has_no_more_places_than_a_line_and_shows_the_most(values):
    places = drawing.over_time([n + 1.0 for n in range(len(values))], values)
    assert len(places) <= 60
    assert max(places) == max(values)
    assert set(drawing.curve(places)) <= set("▁▂▃▄▅▆▇█")


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.25, "0.2 s"), (42, "42 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_are_said_as_people_say_them(seconds, said):
    assert drawing.duration(seconds) == said


def test_samples_are_taken_ever_more_rarely(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    usage = supervisor.Usage({})
    monkeypatch.setattr(supervisor, "gpu_meter", lambda _env: False)
    at, taken = 0.0, 0
    while at < 30 * 86_400:
        before = usage.next
        usage.take(at, [], 1)
        taken += usage.next != before or at == 0
        at = max(at + 0.2, usage.next)
    usage.finish(at)
    assert 500 < taken < 6_000
    assert (tmp_path / "usage").stat().st_size < 400_000


def test_a_process_the_system_ended_for_want_of_memory_is_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = supervisor.Spec({"argv": [], "env": {}, "memory_bytes": None, "timeout_s": None, "log_bytes": 0})
    guard = supervisor.Guard(1, spec)
    ended = guard.ending(9, ran_out=True)
    assert (ended["ended_by"], ended["reason"]) == ("memory", supervisor.RAN_OUT)
    ended = supervisor.Guard(1, spec).ending(9, ran_out=False)
    assert (ended["ended_by"], ended["exit_code"]) == ("signal", None)
    ended = supervisor.Guard(1, spec).ending(3 << 8, ran_out=True)
    assert (ended["ended_by"], ended["exit_code"]) == (None, 3)
    assert supervisor.oom_kills() >= 0


class Driver:
    """What stands for NVIDIA's library: two GPUs, 60 % and 30 % in use."""

    uuids = ("GPU-a", "GPU-b")

    def nvmlInit_v2(self):  # noqa: N802 - NVIDIA's name
        return 0

    def nvmlDeviceGetCount_v2(self, count):  # noqa: N802
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):  # noqa: N802
        handle._obj.value = index.value + 1
        return 0 if index.value < 2 else 2

    def nvmlDeviceGetHandleByUUID(self, uuid, handle):  # noqa: N802
        if uuid.decode() not in self.uuids:
            return 6
        handle._obj.value = self.uuids.index(uuid.decode()) + 1
        return 0

    def nvmlDeviceGetUtilizationRates(self, handle, rates):  # noqa: N802
        rates._obj.gpu = {1: 60, 2: 30}[handle.value]
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle, memory):  # noqa: N802
        memory._obj.used = handle.value * 2**30
        return 0


@pytest.mark.parametrize(
    ("visible", "told"),
    [
        (None, (90.0, 3 * 2**30)),
        ("0", (60.0, 2**30)),
        ("GPU-b", (30.0, 2 * 2**30)),
        ("0,1", (90.0, 3 * 2**30)),
        ("", None),
        ("-1", None),
        ("GPU-x", None),
    ],
)
def test_the_gpus_that_a_process_can_see_are_measured(monkeypatch, visible, told):
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: Driver())
    meter = nvml.open_meter(visible)
    assert (None if meter is None else meter()) == told


def test_the_supervisor_finds_the_meter_beside_it_and_does_without(monkeypatch):
    monkeypatch.setattr(supervisor.os.path, "exists", lambda _path: True)
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: Driver())
    assert supervisor.gpu_meter({"CUDA_VISIBLE_DEVICES": "1"})() == (30.0, 2 * 2**30)
    sys.modules.pop("nvml", None)
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: (_ for _ in ()).throw(OSError("no driver")))
    assert supervisor.gpu_meter({}) is False
    sys.modules.pop("nvml", None)

"""What a job used, drawn as lines of text: a curve each, and how far the job is."""

import sys
import time
from collections.abc import Iterator, Sequence

from modelops.domains.training.client import Training
from modelops.domains.training.schemas import Job, JobProgress, JobUsage, TrainingRequirements

_WIDTH = 60
_BLOCKS = "▁▂▃▄▅▆▇█"
_EVERY_S = 1.0


def drawn(usage: JobUsage) -> Iterator[str]:
    """Yield the lines that draw an attempt's use: each curve from its start to its end, the most beside it."""
    if not usage.seconds:
        yield "Nothing was measured yet."
        return
    yield f"attempt {usage.attempt}, {duration(usage.seconds[-1])}"
    rows: list[tuple[str, Sequence[float], str]] = [
        ("CPUs in use", usage.cpus, f"{max(usage.cpus):.2f}"),
        ("memory", usage.memory_bytes, size(usage.peak_memory_bytes or max(usage.memory_bytes))),
        ("read", usage.read_bytes_per_s, f"{size(max(usage.read_bytes_per_s))}/s"),
        ("written", usage.written_bytes_per_s, f"{size(max(usage.written_bytes_per_s))}/s"),
    ]
    if usage.gpu_percent is not None and usage.gpu_memory_bytes is not None:
        rows.append(("GPUs in use", usage.gpu_percent, f"{max(usage.gpu_percent):.0f} %"))
        rows.append(("GPU memory", usage.gpu_memory_bytes, size(max(usage.gpu_memory_bytes))))
    for name, values, most in rows:
        yield f"{name:<12}{curve(over_time(usage.seconds, values)):<{_WIDTH}} at most {most}"
    if usage.cpu_seconds is not None:
        yield f"{usage.cpu_seconds:.1f} s of CPU in all"


def curve(values: Sequence[float]) -> str:
    """Return values as a line of blocks; the largest is a whole block, zero the lowest."""
    top = max(values, default=0.0)
    return "".join(
        _BLOCKS[min(len(_BLOCKS) - 1, int(value / top * len(_BLOCKS)))] if top > 0 else "▁" for value in values
    )


def over_time(seconds: Sequence[float], values: Sequence[float], width: int = _WIDTH) -> list[float]:
    """Return values at places that are evenly apart in time: of those that fall into one place, the most."""
    end = max(seconds[-1], 1e-9)
    places = min(width, max(1, len(values)))
    found: list[float | None] = [None] * places
    for moment, value in zip(seconds, values, strict=True):
        place = min(places - 1, int(moment / end * places))
        found[place] = max(value, found[place] or 0.0)
    filled, last = [], 0.0
    for one in reversed(found):  # a value is of the time before its moment
        last = last if one is None else one
        filled.append(last)
    return filled[::-1]


def watch_usage(training: Training, job: str) -> None:
    """Draw a job's use again and again until the job has ended; where there is no terminal, once at its end."""
    live, lines = sys.stdout.isatty(), 0
    while True:
        found = training.get_job(job)
        if live or found.state.final:
            shown = [headline(found), *drawn(training.get_job_usage(job))]
            sys.stdout.write(f"\x1b[{lines}A\x1b[J" if lines else "")
            sys.stdout.write("\n".join(shown) + "\n")
            sys.stdout.flush()
            lines = len(shown)
        if found.state.final:
            return
        time.sleep(_EVERY_S)


def requirements_lines(found: TrainingRequirements) -> Iterator[str]:
    """Yield the lines that tell what a training will take, or why that is not known."""
    if found.seconds is None or found.cpu_seconds is None or found.memory_bytes is None:
        yield f"Not known: {found.reason}"
        return
    shown = (
        ("time", found.seconds, duration),
        ("CPU time", found.cpu_seconds, duration),
        ("memory", found.memory_bytes, size),
    )
    for name, one, say in shown:
        yield f"{name:<12}{say(one.likely)}, between {say(one.low)} and {say(one.high)}"
    yield f"ask for     {found.cpus} CPUs, {found.memory_mb} MiB"
    matters = f"; it depends on {', '.join(found.depends_on)}" if found.depends_on else ""
    yield f"From {found.jobs} jobs, with {found.confidence:.0%} confidence{matters}."
    if found.reason:
        yield f"Mind: {found.reason}"


def headline(job: Job) -> str:
    """Return in a line where a job is."""
    return f"{job.name} ({job.id}) is {job.state}" + (f", {progress(job.progress)}" if job.progress else "")


def progress(reported: JobProgress) -> str:
    """Say how far a job is, and how long it will take."""
    left = f", {duration(reported.eta_s)} left" if reported.eta_s is not None else ""
    message = f" ({reported.message})" if reported.message else ""
    return f"{reported.done:g} of {reported.of:g}, {reported.done / reported.of:.0%}{left}{message}"


def duration(seconds: float) -> str:
    """Return so many seconds as people say them: `42 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Return so many bytes as people say them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"

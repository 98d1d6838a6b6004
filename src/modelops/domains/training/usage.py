"""What attempts used over time: read from where they run while they do, and from their rows after."""

import struct
import zlib
from collections.abc import Sequence
from math import isnan, nan

from sqlalchemy import select

from modelops.contracts.ports import JobBackend, UsageSample
from modelops.domains.training.rows import attempt_name, check_attempt, find_job
from modelops.domains.training.schemas import JobUsage
from modelops.domains.training.tables import JobAttemptRow
from modelops.kernel.scope import Scope

KEPT_SAMPLES = 240
"""How many samples of an attempt are kept after its end, and shown before."""

_SAMPLE = struct.Struct("<7d")


def get_job_usage(scope: Scope, job: str, attempt: int | None) -> JobUsage:
    """Return what an attempt used, by default the last; also while it runs.

    Raises:
        NotFound: there was no such attempt.
    """
    with scope.work(write=False) as ctx:
        ctx.require("jobs.read")
        row = find_job(ctx, job)
        number = check_attempt(row, attempt)
        columns = (JobAttemptRow.samples, JobAttemptRow.peak_memory_bytes, JobAttemptRow.cpu_seconds)
        query = select(*columns).where(JobAttemptRow.job_id == row.id, JobAttemptRow.number == number)
        kept, peak, cpu_seconds = ctx.session.execute(query).one_or_none() or (None, None, None)
    if kept is not None:
        samples: Sequence[UsageSample] = unpack(kept)
    else:
        samples = thin(scope.place.ports[JobBackend].usage(attempt_name(job, number))) if number else []
    return curves(number, samples, peak, cpu_seconds)


def thin(samples: Sequence[UsageSample], most: int = KEPT_SAMPLES) -> list[UsageSample]:
    """Return at most so many samples, evenly in number; what was the most between them is kept for each."""
    step = -(-len(samples) // most) if samples else 1
    if step <= 1:
        return list(samples)
    # From the end, so that the last one stays.
    ends = range(len(samples), 0, -step)
    return [_merged(samples[max(0, end - step) : end]) for end in reversed(ends)]


def pack(samples: Sequence[UsageSample]) -> bytes:
    """Return the samples that are kept of an attempt as bytes."""
    return zlib.compress(b"".join(_SAMPLE.pack(*_values(sample)) for sample in thin(samples)))


def unpack(kept: bytes) -> list[UsageSample]:
    """Return the samples that `pack` made bytes of."""
    rows = _SAMPLE.iter_unpack(zlib.decompress(kept))
    return [UsageSample(*row[:5], *(None if isnan(value) else value for value in row[5:])) for row in rows]


def curves(
    attempt: int, samples: Sequence[UsageSample], peak_memory_bytes: int | None, cpu_seconds: float | None
) -> JobUsage:
    """Return samples, which count from the start, as what was used between each and the one before."""
    before = UsageSample(0.0, 0.0, 0.0, 0.0, 0.0)
    cpus, read, written = [], [], []
    for sample in samples:
        took = max(sample.at_s - before.at_s, 1e-3)
        cpus.append(max(0.0, sample.cpu_seconds - before.cpu_seconds) / took)
        read.append(max(0.0, sample.read_bytes - before.read_bytes) / took)
        written.append(max(0.0, sample.written_bytes - before.written_bytes) / took)
        before = sample
    with_gpu = any(sample.gpu_percent is not None for sample in samples)
    memory = [int(sample.memory_bytes) for sample in samples]
    return JobUsage(
        attempt=attempt,
        seconds=[round(sample.at_s, 3) for sample in samples],
        cpus=[round(value, 3) for value in cpus],
        memory_bytes=memory,
        read_bytes_per_s=[round(value, 1) for value in read],
        written_bytes_per_s=[round(value, 1) for value in written],
        gpu_percent=[sample.gpu_percent or 0.0 for sample in samples] if with_gpu else None,
        gpu_memory_bytes=[int(sample.gpu_memory_bytes or 0) for sample in samples] if with_gpu else None,
        peak_memory_bytes=peak_memory_bytes if peak_memory_bytes is not None else max(memory, default=None),
        cpu_seconds=cpu_seconds if cpu_seconds is not None else (samples[-1].cpu_seconds if samples else None),
    )


def _merged(samples: Sequence[UsageSample]) -> UsageSample:
    """Return one sample for several: what counts from the start as in the last, of the others the most."""
    last = samples[-1]
    percents = [sample.gpu_percent for sample in samples if sample.gpu_percent is not None]
    gpu_memory = [sample.gpu_memory_bytes for sample in samples if sample.gpu_memory_bytes is not None]
    return UsageSample(
        last.at_s,
        last.cpu_seconds,
        max(sample.memory_bytes for sample in samples),
        last.read_bytes,
        last.written_bytes,
        max(percents, default=None),
        max(gpu_memory, default=None),
    )


def _values(sample: UsageSample) -> tuple[float, ...]:
    gpu = (nan if value is None else value for value in (sample.gpu_percent, sample.gpu_memory_bytes))
    return (sample.at_s, sample.cpu_seconds, sample.memory_bytes, sample.read_bytes, sample.written_bytes, *gpu)

"""Functions for jobs of the recipe `torch-function`, as a test needs them: ones that agree, fail, die, hang and go on."""

import os
import time
from typing import Any


def agree(job: Any) -> dict[str, Any]:
    """Add up over all processes; tell where each found its inputs, and what it restored."""
    import torch
    import torch.distributed as group

    total = torch.tensor([float(job.rank + 1)])
    group.all_reduce(total)
    rows = job.table().num_rows
    found: list[Any] = [None] * job.world_size
    last = job.restore()
    group.all_gather_object(found, (str(job.file("dataset")), rows, last and last.step))
    job.log(f"process {job.rank} of {job.world_size}")
    with job.start_run("agree", {"processes": job.world_size}) as run:
        run.log_metrics({"total": float(total)})
    job.progress(1, 1)
    job.checkpoint(b"all", 1)
    job.barrier()
    after = job.restore()
    threads = float(torch.get_num_threads())
    return {
        "run_id": run.id or None,
        "metrics": {"total": float(total), "rows": rows, "threads": threads},
        "summary": {"same": found[1:] == found[:-1], "restored": after.step, "backend": group.get_backend()},
    }


def fail(job: Any, *, rank: int = 1, how: str = "raise", code: int = 3) -> None:
    """Let one process fail while the others wait for it."""
    with job.start_run("fail", {}):
        job.barrier()
        if job.rank == rank:
            job.log("about to fail")
            if how == "raise":
                raise ValueError("the data smelled")
            if how == "memory":
                raise MemoryError("no more")
            if how == "register":
                job.register_model("m", None)
            if how == "exit":
                os._exit(code)
        job.barrier()


def wait(job: Any) -> None:
    """Tell one's process, and wait for ever."""
    with job.start_run("wait", {}):
        job.log(f"pid {os.getpid()}")
        while True:
            time.sleep(60)


def miss(job: Any) -> None:
    """Let a process never come to where the others wait."""
    if job.rank == 1:
        time.sleep(600)
    job.barrier()


def hold(job: Any, *, mebibytes: int = 300) -> None:
    """Hold memory in each process at the same time."""
    held = bytearray(os.urandom(1024)) * (1024 * mebibytes)
    job.barrier()
    time.sleep(60)
    job.log(str(len(held)))

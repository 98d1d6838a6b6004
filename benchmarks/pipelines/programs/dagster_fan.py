"""Dagster's fan-out: `python dagster_fan.py <multiprocess|in_process> <rounds>` prints the seconds of each run, a line each.

`DAGSTER_HOME` names the folder of its instance, which keeps runs and events in SQLite as a standalone installation does.
"""

import sys
import time

from dagster import (
    DagsterInstance,
    DynamicOut,
    DynamicOutput,
    execute_job,
    in_process_executor,
    job,
    op,
    reconstructable,
)

WIDTH = 100


@op(out=DynamicOut(int))
def numbers():
    for number in range(WIDTH):
        yield DynamicOutput(number, mapping_key=str(number))


@op
def nothing(number: int) -> int:
    return number


@op
def total(numbers: list[int]) -> int:
    return sum(numbers)


@job
def multiprocess():
    total(numbers().map(nothing).collect())


@job(executor_def=in_process_executor)
def in_process():
    total(numbers().map(nothing).collect())


def main() -> None:
    chosen = {"multiprocess": multiprocess, "in_process": in_process}[sys.argv[1]]
    with DagsterInstance.get() as instance:
        for _ in range(int(sys.argv[2])):
            began = time.perf_counter()
            with execute_job(reconstructable(chosen), instance=instance) as result:
                if not result.success or result.output_for_node("total") != sum(range(WIDTH)):
                    raise SystemExit("the run failed")
            print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()

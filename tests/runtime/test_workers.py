"""A replica of several processes: they count together, who dies is replaced, and all end together."""

import os
import re
import signal
from contextlib import suppress

import httpx
import psutil
import pytest

from modelops.domains.models.flavours import callable as functions
from modelops.domains.models.schemas import Feature, ModelSignature
from modelops.domains.serving.schemas import ServingLimits

ONE_NUMBER = ModelSignature(inputs=[Feature(name="x")])
TWO = ServingLimits(cpus=2)


def _pid(rows):
    import os

    if rows[0, 0] == 13:
        os._exit(3)
    return [os.getpid()] * len(rows)


@pytest.fixture
def replica(bench):
    files = bench.package(functions.flavour, _pid)
    return bench.serve(bench.document(files, ONE_NUMBER, "callable", limits=TWO))


def workers(replica):
    return [child.pid for child in psutil.Process(replica.process.pid).children()]


def ask(replica, value=1.0):
    """Ask on a connection of its own, which any worker may take."""
    with httpx.Client(base_url=replica.url, headers=replica.client.headers, timeout=30) as client:
        return client.post("/predict", json={"instances": [[value]]})


def from_all(replica, wait_until):
    """Ask until every worker has answered, and return how often that took."""
    pids, asked = set(), [0]

    def seen():
        asked[0] += 1
        pids.add(ask(replica).json()["predictions"][0])
        return len(pids) == 2

    wait_until(seen)
    assert pids == set(workers(replica))
    return asked[0]


def counted(replica):
    text = replica.client.get("/metrics").text
    found = re.search(r'serving_http_requests_total\{.*path="/predict".*status="200".*\} (\S+)', text)
    return float(found[1]) if found else 0.0


def test_all_workers_answer_count_together_and_end_together(bench, replica, wait_until):
    asked = from_all(replica, wait_until)
    children = [psutil.Process(pid) for pid in workers(replica)]
    wait_until(lambda: counted(replica) == asked)

    assert replica.terminate() == 0, replica.log
    assert bench.platform.rows == asked
    assert not any(child.is_running() for child in children)


def test_a_model_that_ends_its_process_ends_one_worker_which_is_replaced(replica, wait_until):
    from_all(replica, wait_until)
    before = set(workers(replica))

    with pytest.raises(httpx.HTTPError):
        ask(replica, 13.0)
    assert ask(replica).status_code == 200
    wait_until(lambda: len(workers(replica)) == 2 and set(workers(replica)) != before)
    from_all(replica, wait_until)
    assert len(before & set(workers(replica))) == 1
    assert "ended with 3; starting it again" in replica.log


def test_counts_outlive_a_worker(replica, wait_until):
    asked = from_all(replica, wait_until)
    wait_until(lambda: counted(replica) == asked)
    counts = list(replica.workdir.glob("counts-*.json"))
    assert len(counts) == 2
    told = [path.stat().st_mtime for path in counts]
    wait_until(lambda: all(path.stat().st_mtime > then for path, then in zip(counts, told, strict=True)))

    os.kill(workers(replica)[0], signal.SIGKILL)
    wait_until(lambda: "starting it again" in replica.log)
    replica.client.close()
    replica.client = httpx.Client(base_url=replica.url, headers=replica.client.headers)
    asked += from_all(replica, wait_until)
    wait_until(lambda: counted(replica) == asked)


def test_workers_end_when_their_parent_is_killed(replica, wait_until):
    children = [psutil.Process(pid) for pid in workers(replica)]
    replica.process.kill()
    replica.process.wait()

    def gone():
        with suppress(psutil.NoSuchProcess):
            return all(not child.is_running() for child in children)
        return True

    wait_until(gone)


def test_a_package_that_cannot_be_served_is_told_once_and_for_all(bench):
    files = bench.package(functions.flavour, _pid)
    said = bench.refused(bench.document(files, ONE_NUMBER, "nonesuch", limits=TWO))

    assert "no plug-in 'nonesuch'" in said


@pytest.mark.parametrize("value", ["0", "many", "10001"])
def test_a_number_of_requests_that_is_none_is_refused(bench, value):
    document = bench.document(bench.package(functions.flavour, _pid), ONE_NUMBER, "callable")

    assert "SERVING_MAX_CONCURRENCY" in bench.refused(document, SERVING_MAX_CONCURRENCY=value)

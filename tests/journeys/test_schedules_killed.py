"""`kill -9` of the platform while schedules and triggers begin runs: each moment and each event leads to one, and no more."""

import random
import time
from collections import Counter
from itertools import pairwise

import pytest
from tests.api.world import NIGHTLY

from modelops.contracts.errors import MLOpsError
from modelops.domains.pipelines.checking import read_document
from modelops.testing.process import platform_process
from modelops.testing.waiting import wait_for

KILLS = 4


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_no_moment_and_no_event_is_lost_or_doubled(tmp_path, database, request):
    settings = {"controller_interval_s": "0.1", "lease_ttl_s": "2"}
    if database == "postgres":
        settings["database"] = request.getfixturevalue("postgres_database")
    luck = random.Random(20261121)
    with platform_process(tmp_path / "home", **settings) as platform:
        with platform.client() as client:
            client.pipelines.register_pipeline(read_document(NIGHTLY))
            client.data.create_dataset("numbers")
            quick = {"pipeline": "nightly", "parameters": {"n": 0}}
            made = client.pipelines.create_schedule("s", "every 1s", overlap="allow", catch_up="all", **quick)
            client.pipelines.create_trigger("t", events=["modelops.data.dataset_updated"], **quick)
            began = client.pipelines.get_schedule("s").created_at
        told = 0
        for _ in range(KILLS):
            time.sleep(luck.uniform(0.2, 1.5))
            told += tell(platform, luck.randint(1, 4))
            platform.kill()
            platform.start()
        with platform.client() as client:
            paused = client.pipelines.update_schedule("s", paused=True)
            assert paused.state == "paused"
            wait_for(lambda: len(every(client.pipelines.list_trigger_history, "t")) >= told)
            moments = every(client.pipelines.list_schedule_history, "s")
            events = every(client.pipelines.list_trigger_history, "t")
            runs = Counter(run.cause for run in every(client.pipelines.list_runs))
        assert {one.state for one in [*moments, *events]} == {"begun"}
        due = sorted(one.moment for one in moments)
        steps = {round((later - earlier).total_seconds(), 3) for earlier, later in pairwise(due)}
        assert steps == {1.0}, "each second once, also those when nobody was there"
        assert (due[0] - began).total_seconds() <= 1
        assert len({one.run_id for one in moments}) == len(moments) == runs["schedule:s"]
        assert len({one.run_id for one in events}) == len(events) == runs["trigger:t"]
        assert made.next_at == due[0]


def tell(platform, times):
    """Let events happen, and count those that were acknowledged."""
    done = 0
    with platform.client() as client:
        for n in range(times):
            try:
                client.data.update_dataset("numbers", description=f"{n} {time.time_ns()}")
                done += 1
            except MLOpsError:
                break
    return done


def every(listing, *arguments):
    """Return what all pages of a listing hold."""
    found, cursor = [], None
    while True:
        page = listing(*arguments, cursor=cursor)
        found += page.items
        if (cursor := page.next_cursor) is None:
            return found

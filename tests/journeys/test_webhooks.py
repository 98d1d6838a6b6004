"""`kill -9` of the platform between a commit and the delivery of its event: it is delivered after the restart."""

import json
import threading

import pytest
from tests.domains.webhooks.receiver import Receiver

from modelops.testing.process import platform_process
from modelops.testing.waiting import wait_for

SETTINGS = {"webhook_networks": '["127.0.0.0/8"]', "lease_ttl_s": "2", "controller_interval_s": "0.1"}
KILLS = 3


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_what_was_committed_is_delivered_whoever_is_killed(tmp_path, database, request):
    settings = dict(SETTINGS)
    if database == "postgres":
        settings["database"] = request.getfixturevalue("postgres_database")
    receiver = Receiver()
    try:
        with platform_process(tmp_path / "home", **settings) as platform:
            with platform.client() as client:
                webhook = client.webhooks.create_webhook(receiver.url, ["modelops.models.*"]).id
            for number in range(KILLS):
                receiver.hold = threading.Event() if number % 2 else None  # killed while it waits for the answer, too
                with platform.client() as client:
                    client.models.create_model(f"before-{number}")
                    if receiver.hold is not None:
                        wait_for(lambda name=f"before-{number}": name in names(receiver))
                    client.models.create_model(f"at-the-kill-{number}")
                platform.kill()
                if receiver.hold is not None:
                    receiver.hold.set()
                platform.start()
            expected = {f"{when}-{number}" for number in range(KILLS) for when in ("before", "at-the-kill")}
            wait_for(lambda: set(names(receiver)) == expected)
            with platform.client() as client:
                wait_for(
                    lambda: client.webhooks.list_deliveries(webhook, filter='state = "delivered"').total == 2 * KILLS
                )
        by_id = {}
        for _, headers, body in receiver.got:
            by_id.setdefault(headers["webhook-id"], set()).add(json.loads(body)["data"]["name"])
        assert all(len(told) == 1 for told in by_id.values())
        assert len(by_id) == 2 * KILLS
    finally:
        if receiver.hold is not None:
            receiver.hold.set()
        receiver.close()


def names(receiver):
    return [json.loads(body)["data"]["name"] for _, _, body in receiver.got]

"""The event stream: in order, resumable, followed live, and of one's own project alone."""

import threading

import pytest

from modelops.testing.process import platform_process


def types(client, **options):
    return [event.type for event in client.platform.stream_events(follow=False, **options)]


def test_events_resume_behind_a_position(platform):
    client = platform.client()
    client.data.create_dataset("a")
    client.data.create_dataset("b")
    platform.controller.turn()
    events = list(client.platform.stream_events(follow=False))
    assert [event.data["name"] for event in events] == ["a", "b"]
    assert types(client, after=events[0].sequence) == ["modelops.data.dataset_created"]
    http = platform.http(authorization=f"Bearer {platform.admin_key}", last_event_id=str(events[0].sequence))
    text = http.get("/v1/events", params={"follow": False}).text
    assert '"name":"b"' in text
    assert '"name":"a"' not in text
    assert f"id: {events[1].sequence}" in text


def test_a_stranger_sees_nothing_of_it(platform):
    platform.client().data.create_dataset("secret")
    stranger = platform.stranger()
    stranger.data.create_dataset("own")
    platform.controller.turn()
    assert "secret" not in str(list(stranger.platform.stream_events(follow=False)))


@pytest.mark.parametrize("wrong", ["x", "-1", "1e3", str(2**63)])
def test_a_wrong_position_is_refused(sqlite_platform, wrong):
    http = sqlite_platform.http(authorization=f"Bearer {sqlite_platform.admin_key}", last_event_id=wrong)
    assert http.get("/v1/events", params={"follow": False}).status_code == 422


def test_what_happens_is_followed_live_and_the_end_ends_it(tmp_path):
    seen, begun = [], threading.Event()
    platform_seen = threading.Event()

    def follow(platform):
        with platform.client() as client:
            begun.set()
            for event in client.platform.stream_events(follow=True):
                seen.append(event.data["name"])
                platform_seen.set()

    with platform_process(tmp_path / "home") as platform:
        thread = threading.Thread(target=follow, args=(platform,))
        thread.start()
        begun.wait(timeout=30)
        with platform.client() as client:
            client.data.create_dataset("live")
        assert platform_seen.wait(timeout=30)
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert seen == ["live"]


def test_the_older_addresses_are_the_same_operations(platform):
    """Row E3: `/api/v1/models/…` and `/api/v1/deployments/…`."""
    http = platform.http(authorization=f"Bearer {platform.admin_key}")
    version = {"name": "m", "flavour": "sklearn", "files": [], "signature": {"inputs": [{"name": "a"}]}}
    assert http.post("/api/v1/models/register", json=version).status_code == 422
    assert http.get("/api/v1/models/nope/versions").status_code == 404
    assert http.post("/api/v1/models/nope/stage", json={"stage": "Staging"}).status_code == 404
    assert http.get("/api/v1/models/metrics").json()["items"] == []
    assert http.post("/api/v1/deployments/create", json={"name": "d", "model": "nope"}).status_code == 404
    assert http.get("/api/v1/deployments/dep_nope").status_code == 404

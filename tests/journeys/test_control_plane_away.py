"""The platform is killed for some time while a deployment is asked all the while: no request fails, and what happened
meanwhile is told afterwards, exactly once."""

import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from modelops.domains.serving.schemas import DeploymentState
from modelops.sdk.registry import ModelRegistry
from modelops.testing.process import platform_process
from modelops.testing.waiting import wait_for

ROWS = np.array([[n, n % 3] for n in range(60)], dtype=float)
AWAY_S = 15.0


class Caller(threading.Thread):
    """Asks a replica all the time, at its own address, and counts the answers."""

    def __init__(self, endpoint, token):
        super().__init__(daemon=True)
        self.statuses, self.rows = [], 0
        self._client = httpx.Client(base_url=endpoint, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        self._end = threading.Event()

    def run(self):
        with self._client:
            while not self._end.is_set():
                count = 1 + len(self.statuses) % 7
                self.statuses.append(self.ask(count))
                self.rows += count
                time.sleep(0.005)

    def ask(self, count):
        try:
            return self._client.post("/predict", json={"instances": ROWS[:count].tolist()}).status_code
        except httpx.TransportError as wrong:
            return repr(wrong)

    def stop(self):
        self._end.set()
        self.join(timeout=60)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_serving_goes_on_and_nothing_is_counted_twice_or_lost(tmp_path):
    settings = {"controller_interval_s": "0.1", "lease_ttl_s": "2"}
    with platform_process(tmp_path / "home", **settings) as platform:
        with platform.client() as client:
            model = LogisticRegression(max_iter=1000).fit(ROWS, ROWS[:, 0] > 30)
            ModelRegistry(client).register_model("m", model, sample=ROWS)
            client.serving.create_deployment("live", "m:1", replicas=1)
            wait_for(lambda: client.serving.get_deployment("live").state is DeploymentState.READY)
            (before,) = client.serving.get_deployment("live").replica_status
            token = client.identity.issue_token(permissions=["deployments.predict"]).access_token
        began = datetime.now(UTC) - timedelta(seconds=5)
        caller = Caller(before.endpoint, token)
        caller.start()
        wait_for(lambda: len(caller.statuses) > 20)

        platform.kill()
        asked = len(caller.statuses)
        time.sleep(AWAY_S)
        assert len(caller.statuses) > asked + 100
        platform.start()
        asked = len(caller.statuses)
        wait_for(lambda: len(caller.statuses) > asked + 100)
        platform.kill()  # perhaps between taking what was kept for it and saying so
        platform.start()
        caller.stop()
        assert set(caller.statuses) == {200}

        def traffic():
            with platform.client() as client:
                end = datetime.now(UTC) + timedelta(seconds=1)
                return client.monitoring.get_traffic("live", since=began, until=end)

        wait_for(lambda: traffic().requests >= len(caller.statuses), within_s=60)
        time.sleep(3)  # in which what came twice would be counted twice
        told = traffic()
        assert (told.requests, told.rows) == (len(caller.statuses), caller.rows)
        assert (told.errors, told.dropped_rows) == (0, 0)
        with platform.client() as client:
            (after,) = client.serving.get_deployment("live").replica_status
        assert (after.pid, after.restarts) == (before.pid, before.restarts)

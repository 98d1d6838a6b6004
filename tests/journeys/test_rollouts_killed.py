"""`kill -9` of the platform amid a canary: it goes on where it was, and callers of the replicas see nothing of it."""

import re
import shlex
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from modelops.cli.root import app
from modelops.domains.serving.courses.courses import RolloutState
from modelops.domains.serving.courses.strategies import Canary, CanaryStep
from modelops.domains.serving.schemas import DeploymentState
from modelops.sdk.registry import ModelRegistry
from modelops.testing.process import platform_process
from modelops.testing.waiting import wait_for

ROWS = np.array([[n, n % 3] for n in range(60)], dtype=float)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_canary_outlives_the_platform(tmp_path):
    """Killed at every stage: while the document is sent, amid each step, and at the promotion."""
    steps = [CanaryStep(share=20, pause_s=3), CanaryStep(share=60, pause_s=3)]
    with platform_process(tmp_path / "home", controller_interval_s="0.1", lease_ttl_s="2") as platform:
        with platform.client() as client:
            for strength in (1.0, 0.5):
                model = LogisticRegression(C=strength, max_iter=1000).fit(ROWS, ROWS[:, 0] > 30)
                ModelRegistry(client).register_model("m", model, sample=ROWS)
            client.serving.create_deployment("live", "m:1", replicas=2, strategy=Canary(steps=steps, analysis=None))
            before = client.serving.wait_until_settled("live")
            client.serving.update_deployment("live", model="m:2")
        seen = []
        for pause_s in (0.3, 2.0, 2.0, 1.0):
            time.sleep(pause_s)
            platform.kill()
            platform.start()
            with platform.client() as client:
                rollout = client.serving.get_rollout("live")
                seen.append((rollout.step or 3, rollout.state))
                assert len(client.serving.predict("live", ROWS[:2].tolist()).predictions) == 2
        with platform.client() as client:
            wait_for(lambda: client.serving.get_deployment("live").state is DeploymentState.READY)
            after, rollout = client.serving.get_deployment("live"), client.serving.get_rollout("live")
            assert (after.active_revision, after.model_version) == (2, 2)
            assert rollout.state is RolloutState.SUCCEEDED
            assert [one.event for one in rollout.history] == ["started", "step", "promoted", "succeeded"]
            assert {one.pid for one in after.replica_status} == {one.pid for one in before.replica_status}
            client.serving.delete_deployment("live")
            client.serving.wait_until_gone("live")
    assert [step for step, _ in seen] == sorted(step for step, _ in seen)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_commands_of_the_page_work(tmp_path):
    """Those of `docs/rollouts.md`, in order."""
    page = (Path(__file__).parents[2] / "docs" / "rollouts.md").read_text()
    blocks = re.findall(r"^```\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.strip().splitlines()]
    with platform_process(tmp_path / "home", controller_interval_s="0.1") as platform:
        with platform.client() as client:
            for strength in (1.0, 0.5):
                model = LogisticRegression(C=strength, max_iter=1000).fit(ROWS, ROWS[:, 0] > 30)
                ModelRegistry(client).register_model("iris", model, sample=ROWS)
        for line in lines:
            result = CliRunner().invoke(
                app, ["--home", str(platform.home), "--url", platform.url, *shlex.split(line)[1:]]
            )
            assert result.exit_code == 0, (line, result.output)
        with platform.client() as client:
            assert client.serving.get_deployment("shop").model_version == 1
            client.serving.delete_deployment("shop")
            client.serving.wait_until_gone("shop")
    assert len(lines) == 11

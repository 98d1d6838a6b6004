"""`DeploymentPipeline` and `PipelineOrchestrator` on a platform that listens, their steps in real workers."""

import asyncio
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from tests.sdk.live import live_client

from modelops import DeploymentPipeline, ModelRegistry, PipelineOrchestrator
from modelops.contracts.errors import DeploymentError, InvalidInput
from modelops.domains.pipelines.files import load_pipeline
from modelops.domains.pipelines.rules import PipelineError
from modelops.sdk.client import Client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with live_client(tmp_path_factory.mktemp("delivery")) as client:
        yield client


def registered(client: Client, name: str) -> None:
    features = np.array([[0.0], [1.0], [2.0], [3.0]])
    model = LogisticRegression().fit(features, [0, 0, 1, 1])
    ModelRegistry(client).register_model(name, model, sample=features, metrics={"accuracy": 0.8})


@pytest.mark.slow
def test_a_version_is_checked_deployed_and_asked(client: Client) -> None:
    registered(client, "steps")
    config = {"model": "steps", "sample": [[0.0], [3.0]], "minimum": {"accuracy": 0.7}, "replicas": 1}
    delivery = DeploymentPipeline("steps", config=config, backend=client)
    result = asyncio.run(delivery.run(within_s=240))
    assert (result.deployment, result.model, result.predictions) == ("steps", "steps:1", [0, 1])
    states = {one.key: one.state for one in client.pipelines.all_steps(result.run_id)}
    assert states["roll_back"] == "skipped"
    registered(client, "steps")
    broken = DeploymentPipeline("steps", config={**config, "sample": [["no number"]]}, backend=client)
    run = client.pipelines.wait_for_run(broken.start(model="steps:2").id, within_s=240)
    states = {one.key: one.state for one in client.pipelines.all_steps(run.id)}
    assert (run.state, states["deploy"], states["verify"], states["roll_back"]) == (
        "failed",
        "succeeded",
        "failed",
        "succeeded",
    )
    assert client.serving.wait_until_settled("steps", 120).model_version == 1
    client.serving.delete_deployment("steps")


@pytest.mark.slow
def test_a_version_that_is_not_good_enough_is_not_deployed(client: Client) -> None:
    registered(client, "poor")
    delivery = DeploymentPipeline("poor", config={"model": "poor", "minimum": {"accuracy": 0.9}}, backend=client)
    with pytest.raises(DeploymentError, match=r"check: .*accuracy is 0\.8, and must be 0\.9"):
        delivery.run_sync(within_s=120)
    assert not client.serving.list_deployments(filter='name = "poor"').items


def test_approval_comes_before_the_deployment() -> None:
    document = DeploymentPipeline("x", config={"model": "m", "approval": True}).template.document
    assert document.steps["approval"].after == ["check"]
    assert document.steps["deploy"].after == ["approval"]
    assert "approval" not in DeploymentPipeline("x", config={"model": "m"}).template.document.steps


@pytest.mark.parametrize("config", [{}, {"model": "m", "replica": 2}, {"model": "m", "replicas": -1}, {"model": 3}])
def test_a_config_that_cannot_be_carried_out_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="config's"):
        DeploymentPipeline("x", config=config)


CODE = """
from modelops import pipeline, step


@step
def say(word: str) -> str:
    if word == "fail":
        raise ValueError("no word")
    return word


@pipeline
def words(word: str = "hello"):
    say(word)
"""


@pytest.mark.slow
def test_pipelines_run_in_the_order_of_what_they_need(client: Client, tmp_path: Path) -> None:
    (tmp_path / "words_pipeline.py").write_text(textwrap.dedent(CODE))
    words = load_pipeline(tmp_path / "words_pipeline.py")
    orchestrator = PipelineOrchestrator("evening", backend=client)
    orchestrator.add_pipeline("first", words, parameters={"word": "one"})
    orchestrator.add_pipeline("beside", "words")
    orchestrator.add_pipeline("last", "words", depends_on=["first", "beside"])
    result = orchestrator.run_sync(within_s=240)
    assert list(result.runs) == ["first", "beside", "last"]
    runs = {name: client.pipelines.get_run(run) for name, run in result.runs.items()}
    assert {run.state for run in runs.values()} == {"succeeded"}
    assert runs["first"].ended_at <= runs["last"].created_at
    assert client.pipelines.read_output(result.runs["first"], "say") == "one"
    assert orchestrator.status() == {"first": "succeeded", "beside": "succeeded", "last": "succeeded"}
    failing = PipelineOrchestrator("failing", backend=client)
    failing.add_pipeline("first", "words", parameters={"word": "fail"})
    failing.add_pipeline("last", "words", depends_on=["first"])
    with pytest.raises(PipelineError, match="first: "):
        failing.run_sync(within_s=240)
    assert failing.status() == {"first": "failed", "last": "skipped"}


def test_an_order_that_makes_no_sense_is_refused() -> None:
    orchestrator = PipelineOrchestrator("x")
    with pytest.raises(InvalidInput, match="no pipelines"):
        _ = orchestrator.template
    orchestrator.add_pipeline("first")
    with pytest.raises(InvalidInput, match="already"):
        orchestrator.add_pipeline("first")
    with pytest.raises(InvalidInput, match="Did you mean 'first'"):
        orchestrator.add_pipeline("last", depends_on=["frist"])
    with pytest.raises(InvalidInput, match="cannot name"):
        orchestrator.add_pipeline("not a name")

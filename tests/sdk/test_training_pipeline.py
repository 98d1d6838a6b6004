"""`TrainingPipeline` on a platform that listens, its steps in real workers."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from tests.sdk.live import live_client

from modelops import TrainingPipeline
from modelops.contracts.errors import InvalidInput, TrainingError
from modelops.domains.pipelines.document import FromItem, FromParameter
from modelops.sdk.client import Client
from modelops.sdk.training import anomalies


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with live_client(tmp_path_factory.mktemp("training")) as client:
        yield client


def sensors(rows: int = 300, labelled: bool = False) -> pd.DataFrame:
    chance = np.random.default_rng(1)
    count = rows // 20
    normal = chance.normal(0, 1, (rows - count, 3)) @ np.array([[1, 0.8, 0], [0, 0.6, 0], [0, 0, 1]])
    odd = chance.uniform(-6, 6, (count, 3))
    frame = pd.DataFrame(np.vstack([normal, odd]), columns=["heat", "load", "noise"])
    frame.loc[5, "heat"] = np.nan
    if labelled:
        frame["odd"] = [0] * (rows - count) + [1] * count
    return frame


@pytest.mark.slow
def test_finders_without_labels_are_scored_by_how_tightly_they_enclose_the_data(client: Client) -> None:
    config = {"data_source": sensors(), "algorithms": ["isolation_forest", "lof"], "validation_split": 0.25, "folds": 3}
    training = TrainingPipeline("sensors", config=config, backend=client)
    result = asyncio.run(training.run(within_s=120))
    best = result.best_model
    assert best.score_name == "mass_volume"
    assert 0.7 < best.score <= 1
    assert result.candidates[0].algorithm == best.algorithm
    assert {one.algorithm for one in result.candidates} == {"isolation_forest", "lof"}
    version = client.models.get_version(best.model, best.version)
    assert version.metrics["mass_volume"] == best.score
    assert version.dataset_version_id == result.dataset_version_id
    states = {one.key: one.state for one in client.pipelines.all_steps(result.run_id)}
    assert set(states) - {"evaluate"} == {"load", "evaluate[0]", "evaluate[1]", "choose", "register"}
    run = client.experiments.get_run(best.run_id)
    assert run.metrics["mass_volume"] == best.score
    assert run.status == "finished"


@pytest.mark.slow
def test_classifiers_are_chosen_by_folds_and_scored_on_rows_set_aside(client: Client, tmp_path: Path) -> None:
    iris = load_iris(as_frame=True).frame
    iris.to_csv(tmp_path / "iris.csv", index=False)
    config = {
        "data_source": str(tmp_path / "iris.csv"),
        "algorithms": ["logistic_regression", "nearest_neighbours"],
        "target": "target",
        "cross_validation_folds": 4,
        "model": "flowers",
    }
    training = TrainingPipeline("iris", "0 2 * * *", config, backend=client)
    result = training.run_sync(within_s=120)
    assert result.best_model.model == "flowers"
    assert result.best_model.score > 0.85
    assert result.best_model.cv_score == max(one.cv_score for one in result.candidates)
    with pytest.raises(TrainingError, match=r"load: .*no-such-data"):
        training.run_sync(within_s=120, data_source="no-such-data")


def test_the_document_has_parameters_and_a_step_for_each_algorithm() -> None:
    template = TrainingPipeline("sums", config={"data_source": "sums:3"}).template
    document = template.document
    assert document.parameters["data_source"].default == "sums:3"
    assert document.parameters["algorithms"].default == ["isolation_forest", "lof", "one_class_svm"]
    assert document.steps["evaluate"].foreach == FromParameter(parameter="algorithms")
    assert document.steps["evaluate"].inputs["algorithm"] == FromItem(item=True)
    assert template.packed().document.code is not None


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "data_source"),
        ({"data_source": "a", "algorithms": ["lov"]}, "no algorithm 'lov'"),
        ({"data_source": "a", "algorithms": []}, "no algorithm to train"),
        ({"data_source": "a", "algorithms": ["lof", "svm"], "target": "x"}, "do not compare"),
        ({"data_source": "a", "algorithms": ["svm"]}, "need a `target`"),
        ({"data_source": "a", "fold": 3}, "'fold'"),
        ({"data_source": "a", "folds": 1}, "'folds'"),
        ({"data_source": "a", "contamination": 0.9}, "'contamination'"),
    ],
)
def test_a_config_that_cannot_be_carried_out_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        TrainingPipeline("x", config=config)


@pytest.mark.parametrize("algorithm", anomalies.FINDERS)
def test_a_finder_that_follows_the_data_scores_above_chance_with_and_without_labels(algorithm: str) -> None:
    frame = sensors(400, labelled=True).sample(frac=1, random_state=1)
    rows, held_out = frame.iloc[:300], frame.iloc[300:]
    names, facts = ["heat", "load", "noise"], {"seed": 0, "contamination": None}
    labels = held_out["odd"].to_numpy().astype(bool)
    assert anomalies.score(algorithm, rows[names], held_out[names], labels, **facts) > 0.8
    assert anomalies.score(algorithm, rows[names], held_out[names], None, **facts) > 0.7


def test_evenly_spread_data_cannot_be_enclosed() -> None:
    chance = np.random.default_rng(3)
    even = pd.DataFrame(chance.uniform(0, 1, (600, 2)), columns=["a", "b"])
    found = anomalies.score("isolation_forest", even.iloc[:400], even.iloc[400:], None, seed=0, contamination=None)
    assert 0.4 < found < 0.6


def test_many_columns_are_scored_by_sets_of_five() -> None:
    chance = np.random.default_rng(3)
    wide = pd.DataFrame(chance.normal(0, 1, (200, 12)), columns=[f"c{at}" for at in range(12)])
    wide["same"] = 1.0
    found = anomalies.score("lof", wide.iloc[:150], wide.iloc[150:], None, seed=0, contamination=None)
    assert 0.5 < found < 1

"""Ensembles and chains in a replica: what they say offline, also where a member fails."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelops.sdk.chains import ModelChain
from modelops.sdk.ensembles import ModelEnsemble
from modelops.sdk.registry import ModelRegistry

FRAME, TARGET = load_iris(return_X_y=True, as_frame=True)
X = FRAME.to_numpy()


@pytest.fixture
def registry(sqlite_platform):
    with ModelRegistry(sqlite_platform.client()) as opened:
        opened.register_model("forest", RandomForestClassifier(20, random_state=0).fit(FRAME, TARGET), sample=FRAME)
        line = make_pipeline(StandardScaler(), LogisticRegression()).fit(FRAME, TARGET)
        opened.register_model("line", line, sample=FRAME)
        yield opened


@pytest.fixture
def served(registry, bench, tmp_path):
    def all_the_way(version):
        folder = tmp_path / "downloaded"
        registry.download_model(version.id, folder)
        (folder / "model.sig").unlink()
        return bench.serve(bench.document(bench.upload(folder), version.signature, version.flavour))

    return all_the_way


def answers(process, rows=X):
    answer = process.predict(rows.tolist())
    assert answer.status_code == 200, answer.text
    return answer.json()


def infer(process, rows=X):
    """Ask by the Open Inference Protocol; return each output as an array."""
    tensor = {"name": "input", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    answer = process.client.post("/v2/models/tumours/infer", json={"inputs": [tensor]})
    assert answer.status_code == 200, answer.text
    return {
        output["name"]: np.reshape(output["data"], output["shape"]) for output in json.loads(answer.content)["outputs"]
    }


def test_an_average_of_versions_is_served_explained_and_watched(registry, served, bench):
    ensemble = ModelEnsemble(["forest", "line"], weights=[2, 1], backend=registry)
    process = served(ensemble.register("both"))
    said, by_protocol = answers(process), infer(process)
    np.testing.assert_array_equal(said["predictions"], ensemble.predict(FRAME))
    np.testing.assert_allclose(said["probabilities"], ensemble.predict_proba(FRAME), rtol=1e-9)
    np.testing.assert_array_equal(by_protocol["predictions"], ensemble.predict(FRAME))
    np.testing.assert_allclose(by_protocol["probabilities"], ensemble.predict_proba(FRAME), rtol=1e-9)
    explained = process.explain(X[:2].tolist())
    added = np.add(explained["base_values"], np.sum(explained["attributions"], axis=2))
    np.testing.assert_allclose(added, ensemble.predict_proba(FRAME)[:2], atol=1e-6)
    bench.platform.wait(lambda platform: platform.rows >= 2 * len(X))
    assert {sketch["name"] for batch in bench.platform.batches.values() for sketch in batch["inputs"]} == set(
        FRAME.columns
    )


def test_a_vote_is_served(registry, served):
    vote = ModelEnsemble(["forest", "line"], method="vote", weights=[1, 2], backend=registry)
    said = answers(served(vote.register("vote")))
    np.testing.assert_array_equal(said["predictions"], vote.predict(FRAME))
    assert said["probabilities"] is None


def test_a_stack_is_served(registry, served):
    stack = ModelEnsemble(["forest", "line"], method="stack", backend=registry).fit(FRAME, TARGET)
    said = answers(served(stack.register("stack", sample=FRAME)))
    np.testing.assert_array_equal(said["predictions"], stack.predict(FRAME))
    np.testing.assert_allclose(said["probabilities"], stack.predict_proba(FRAME), rtol=1e-9)


def test_a_chain_is_served(registry, served):
    def at_least(shares):
        return np.where(shares.max(axis=1) > 0.9, shares.argmax(axis=1), -1)

    chain = ModelChain(["line", at_least], pass_on="probabilities", backend=registry)
    process = served(chain.register("chain", sample=FRAME))
    assert answers(process)["predictions"] == chain.predict(FRAME).tolist()
    np.testing.assert_array_equal(infer(process)["predictions"], chain.predict(FRAME))


def test_a_member_that_fails_is_named_and_the_others_requests_go_on(registry, served):
    def picky(rows):
        if (rows[:, 0] > 7.5).any():
            raise ValueError("too long a petal")
        return rows[:, 0]

    process = served(ModelEnsemble([picky, lambda rows: rows[:, 1]], backend=registry).register("m", sample=FRAME[:50]))
    good, bad = X[:2], X[X[:, 0] > 7.5][:1]
    answer = process.predict(bad.tolist())
    assert answer.status_code == 500
    assert "the member 0 (picky) raised ValueError: too long a petal" in answer.json()["detail"]
    np.testing.assert_allclose(answers(process, good)["predictions"], (good[:, 0] + good[:, 1]) / 2)


def test_members_that_do_not_mix_are_refused_when_they_are_loaded(registry, bench, tmp_path):
    registry.register_model("value", lambda rows: rows[:, 0], sample=FRAME)
    version = registry.client.models.register_ensemble("both", ["line", "value"])
    folder = tmp_path / "downloaded"
    registry.download_model(version.id, folder)
    (folder / "model.sig").unlink()
    said = bench.refused(bench.document(bench.upload(folder), version.signature, version.flavour))
    assert "the member line:1 gives probabilities, and the member value:1 gives none" in said

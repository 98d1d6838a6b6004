"""Compiled forms in packages: what is written is what is opened, and what does not hold is not asked."""

import json
import logging

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from modelops.domains.models.compiling import compiler, open_compiled, write_compiled, write_plain
from modelops.domains.models.flavours.sklearn import SklearnPredictor, flavour
from modelops.domains.models.rules import COMPILED_GRAPH, COMPILED_RECORD
from modelops.domains.models.schemas import CompiledForm, Feature, ModelSignature, ServingForm, ServingSpeed

ROWS = np.random.default_rng(0).normal(size=(50, 3))
LABELS = (ROWS[:, 0] > 0).astype(int)
SAMPLE = ROWS.tolist()
SIGNATURE = ModelSignature(inputs=[Feature(name=name) for name in "abc"])
FOREST = RandomForestClassifier(5, random_state=0).fit(ROWS, LABELS)
LINEAR = LogisticRegression().fit(ROWS, LABELS)


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(compiler, "measure", lambda *_: [ServingSpeed(rows=1, plain_us=9.0, compiled_us=1.0)])


def opened(folder, model, sample=SAMPLE):
    return open_compiled(folder, SklearnPredictor(model), SIGNATURE, sample)


@pytest.mark.parametrize(
    ("model", "form"), [(FOREST, CompiledForm.ONNX), (LINEAR, CompiledForm.LINEAR)], ids=["forest", "linear"]
)
@pytest.mark.parametrize("sample", [SAMPLE, None], ids=["sample", "none"])
def test_what_is_written_is_what_is_opened(tmp_path, model, form, sample):
    record = write_compiled(tmp_path, SklearnPredictor(model), SIGNATURE, sample)
    assert (record.runs, (tmp_path / COMPILED_GRAPH).exists()) == (form, form is CompiledForm.ONNX)
    assert ServingForm.model_validate_json((tmp_path / COMPILED_RECORD).read_bytes()) == record
    found = opened(tmp_path, model, sample)
    assert found.record == record
    assert found.predictor.predict(ROWS).tolist() == model.predict(ROWS).tolist()
    assert found.predictor is not None


def test_a_package_without_a_record_is_compiled_where_it_is_opened(tmp_path):
    assert opened(tmp_path, FOREST).record.runs is CompiledForm.ONNX
    assert not list(tmp_path.iterdir())


def test_a_package_that_says_plain_runs_plain(tmp_path):
    write_plain(tmp_path, "It was registered with compile=False.")
    found = opened(tmp_path, FOREST)
    assert (found.record.runs, found.record.why) == (CompiledForm.PLAIN, "It was registered with compile=False.")
    assert found.predictor.model is FOREST
    assert isinstance(found.predictor, SklearnPredictor)


def test_a_graph_that_is_not_the_model_s_is_not_asked_whatever_the_record_claims(tmp_path, caplog):
    other = RandomForestClassifier(5, random_state=0).fit(ROWS, 1 - LABELS)
    write_compiled(tmp_path, SklearnPredictor(other), SIGNATURE, SAMPLE)
    with caplog.at_level(logging.WARNING):
        found = opened(tmp_path, FOREST)
    assert found.record.runs is CompiledForm.PLAIN
    assert "'onnx-float64' does not hold here. On the sample, row 0" in found.record.why
    assert found.predictor.predict(ROWS).tolist() == FOREST.predict(ROWS).tolist()
    assert "is not taken" in caplog.text


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda folder: (folder / COMPILED_GRAPH).write_bytes(b"no graph"), "does not hold here"),
        (lambda folder: (folder / COMPILED_GRAPH).unlink(), "does not hold here. FileNotFoundError"),
        (lambda folder: (folder / COMPILED_RECORD).write_text("{"), "is no record"),
        (lambda folder: (folder / COMPILED_RECORD).write_text('{"runs": "magic", "why": ""}'), "is no record"),
        (
            lambda folder: (folder / COMPILED_RECORD).write_text(json.dumps({"runs": "linear", "why": ""})),
            "not of the form 'linear'",
        ),
    ],
    ids=["no graph", "graph gone", "no json", "no form", "another form"],
)
def test_what_cannot_be_opened_runs_plain_and_says_why(tmp_path, change, why):
    write_compiled(tmp_path, SklearnPredictor(FOREST), SIGNATURE, SAMPLE)
    change(tmp_path)
    found = opened(tmp_path, FOREST)
    assert found.record.runs is CompiledForm.PLAIN
    assert why in found.record.why
    assert found.predictor.predict(ROWS).tolist() == FOREST.predict(ROWS).tolist()


def test_a_served_model_keeps_to_one_thread(tmp_path):
    model = RandomForestClassifier(3, n_jobs=-1, random_state=0).fit(ROWS, LABELS)
    flavour.save(model, tmp_path)
    write_plain(tmp_path, "So.")
    found = open_compiled(tmp_path, flavour.load(tmp_path), SIGNATURE, SAMPLE)
    assert found.predictor.model.n_jobs == 1
    assert model.n_jobs == -1

"""A compiled model in a serving process: it is asked in its form, and not at all where the form was tampered with."""

import shutil

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from modelops.domains.models.rules import COMPILED_GRAPH, COMPILED_RECORD
from modelops.runtime.serving.packages.compiled import _digest as digest_of_form
from modelops.sdk.packaging import write_package

ROWS = np.random.default_rng(0).normal(size=(60, 3))
LABELS = np.where(ROWS[:, 0] > 0, "yes", "no")
FOREST = RandomForestClassifier(20, random_state=0).fit(ROWS, LABELS)


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    return folder, write_package(folder, FOREST, sample=ROWS, compiled=True).signature


def held(process):
    said = process.predict(ROWS.tolist()).json()
    assert said["predictions"] == FOREST.predict(ROWS).tolist()
    np.testing.assert_array_equal(said["probabilities"], FOREST.predict_proba(ROWS))
    assert said["classes"] == ["no", "yes"]


def test_it_is_asked_in_its_form(bench, package):
    folder, signature = package
    process = bench.serve(bench.document(bench.upload(folder), signature))
    held(process)
    assert "the model runs as onnx-float64: It says what the model says" in process.log


def test_without_a_record_it_is_compiled_there(bench, package):
    folder, signature = package
    shutil.rmtree(folder / "compiled")
    process = bench.serve(bench.document(bench.upload(folder), signature))
    held(process)
    assert "the model runs as onnx-float64" in process.log


def test_what_was_compiled_there_is_kept_and_not_taken_once_it_has_changed(bench, package):
    folder, signature = package
    shutil.rmtree(folder / "compiled")
    document = bench.document(bench.upload(folder), signature)
    held(bench.serve(document))
    (place,) = (bench.folder / "cache" / "forms").iterdir()
    kept = (place / COMPILED_GRAPH).read_bytes()

    record = (place / COMPILED_RECORD).stat()
    again = bench.serve(document)
    held(again)
    assert "the model runs as onnx-float64" in again.log
    assert (place / COMPILED_RECORD).stat() == record, "it was not compiled again"

    (place / COMPILED_GRAPH).write_bytes(kept[:-1] + b"x")
    held(bench.serve(document))
    assert (place / COMPILED_RECORD).stat().st_ino != record.st_ino, "what has changed is compiled anew"


def test_a_kept_form_of_another_model_is_compiled_anew(bench, package, tmp_path):
    folder, signature = package
    shutil.rmtree(folder / "compiled")
    document = bench.document(bench.upload(folder), signature)
    held(bench.serve(document))
    (place,) = (bench.folder / "cache" / "forms").iterdir()
    other = tmp_path / "other"
    other.mkdir()
    turned = RandomForestClassifier(20, random_state=0).fit(ROWS, np.where(LABELS == "yes", "no", "yes"))
    write_package(other, turned, sample=ROWS, compiled=True)
    for path in (COMPILED_GRAPH, COMPILED_RECORD):
        shutil.copy(other / path, place / path)
    (place / "digest").write_text(digest_of_form(place))

    process = bench.serve(document)
    held(process)
    assert "does not hold any more" in process.log
    assert "the model runs as onnx-float64" in process.log


def test_a_graph_with_other_bytes_is_refused(bench, package):
    folder, signature = package
    files = bench.upload(folder)
    graph = next(file for file in files if file.path == COMPILED_GRAPH)
    bench.platform.artifacts[graph.digest] = bytes(graph.size)
    assert f"'{COMPILED_GRAPH}'" in bench.refused(bench.document(files, signature))


def test_a_signed_graph_that_is_another_model_s_is_not_asked(bench, package, tmp_path):
    folder, signature = package
    other = tmp_path / "other"
    other.mkdir()
    turned = RandomForestClassifier(20, random_state=0).fit(ROWS, np.where(LABELS == "yes", "no", "yes"))
    write_package(other, turned, sample=ROWS, compiled=True)
    for path in (COMPILED_GRAPH, COMPILED_RECORD):
        shutil.copy(other / path, folder / path)
    process = bench.serve(bench.document(bench.upload(folder), signature))
    held(process)
    assert "the model runs as plain: The package's form 'onnx-float64' does not hold here" in process.log

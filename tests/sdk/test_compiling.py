"""Compiled at registration: recorded on the version, signed with it, and to be switched off."""

import json

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sqlalchemy import update

from modelops.contracts.errors import ArtifactCorrupted, InvalidInput, SignatureInvalid
from modelops.contracts.ports import BlobStore
from modelops.domains.models.rules import COMPILED_GRAPH, COMPILED_RECORD
from modelops.domains.models.schemas import CompiledForm, PackageFile, VersionCreate
from modelops.domains.models.tables import ModelVersionRow
from modelops.sdk.registry import ModelRegistry

ROWS = np.random.default_rng(0).normal(size=(60, 3))
LABELS = (ROWS[:, 0] > 0).astype(int)
FOREST = RandomForestClassifier(20, random_state=0).fit(ROWS, LABELS)


@pytest.fixture
def registry(sqlite_platform):
    return ModelRegistry(sqlite_platform.client())


def paths(version):
    return {file.path for file in version.files}


def create(version, **changes):
    """Return the body that would register a version's files again."""
    same = version.model_dump(include={"name", "flavour", "signature", "requirements"})
    return VersionCreate(**same, runs_code=True, **{"files": version.files, **changes})


def test_what_runs_and_why_stands_on_the_version(platform):
    registry = ModelRegistry(platform.client())
    version = registry.register_model("m", FOREST, sample=ROWS)
    form = registry.client.models.get_version("m").serving
    assert form == version.serving
    assert form.runs is CompiledForm.ONNX
    assert form.rows_compared > 500
    assert [one.rows for one in form.speed] == [1, 8, 32, 128]
    assert form.speed[0].compiled_us < form.speed[0].plain_us
    assert {"onnxruntime", "scikit-learn"} <= form.libraries.keys()
    assert paths(version) >= {COMPILED_GRAPH, COMPILED_RECORD}
    assert registry.client.models.list_versions("m").items[0].serving == form
    linear = registry.register_model("l", LogisticRegression().fit(ROWS, LABELS), sample=ROWS)
    assert linear.serving.runs is CompiledForm.LINEAR
    assert COMPILED_GRAPH not in paths(linear)
    function = registry.register_model("f", lambda rows: rows[:, 0], sample=ROWS)
    assert (function.serving.runs, "no faster form" in function.serving.why) == (CompiledForm.PLAIN, True)


def test_it_can_be_switched_off(registry):
    version = registry.register_model("m", FOREST, sample=ROWS, compile=False)
    assert (version.serving.runs, version.serving.why) == (CompiledForm.PLAIN, "It was registered with compile=False.")
    assert COMPILED_GRAPH not in paths(version)


def test_files_from_elsewhere_stay_closed_where_no_sample_asks_to_open_them(registry, tmp_path):
    (tmp_path / "MLmodel").write_text("flavors:\n  sklearn: {pickled_model: model.pkl}\n")
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04N.")
    version = registry.register_model("m", tmp_path, feature_names=["a"])
    assert (version.serving, COMPILED_RECORD in paths(version)) == (None, False)


def test_another_graph_is_refused_by_the_signature(registry, sqlite_platform):
    version = registry.register_model("m", FOREST, sample=ROWS)
    other = registry.client.data.upload_artifact(b"another graph")
    files = [file.model_dump() for file in version.files]
    for file in files:
        if file["path"] == COMPILED_GRAPH:
            file.update(digest=other.digest, size=other.size)
    with sqlite_platform.place.work() as ctx:
        ctx.session.execute(update(ModelVersionRow).where(ModelVersionRow.id == version.id).values(files=files))
    with pytest.raises(SignatureInvalid):
        registry.load_model("m")


def test_a_damaged_graph_is_told_of(registry, sqlite_platform):
    version = registry.register_model("m", FOREST, sample=ROWS)
    graph = next(file for file in version.files if file.path == COMPILED_GRAPH)
    sqlite_platform.place.ports[BlobStore].delete(graph.digest)
    with pytest.raises(ArtifactCorrupted):
        registry.client.models.verify_version("m")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "does not say how the model is served"),
        (json.dumps({"runs": "magic", "why": ""}).encode(), "does not say how the model is served"),
        (json.dumps({"runs": "onnx-float64", "why": ""}).encode(), "says otherwise"),
        (b'{"runs": "plain", "why": "' + b"x" * 300_000 + b'"}', "more than"),
    ],
    ids=["no json", "no form", "no graph", "too long"],
)
def test_a_record_that_is_none_is_refused(registry, content, why):
    version = registry.register_model("m", FOREST, compile=False)
    held = registry.client.data.upload_artifact(content)
    model = [file for file in version.files if file.path == "model.pkl"]
    record = PackageFile(path=COMPILED_RECORD, digest=held.digest, size=held.size)
    with pytest.raises(InvalidInput, match=why):
        registry.client.models.register_version(create(version, files=[*model, record]))
    assert registry.client.models.register_version(create(version, files=model)).serving is None

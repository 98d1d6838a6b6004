"""`ModelRegistry`: a model object goes in with what is known of its inputs, and comes out only as it was signed."""

import json

import cloudpickle
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sqlalchemy import update

import modelops
from modelops.contracts.errors import ArtifactCorrupted, InvalidInput, NotFound, SignatureInvalid
from modelops.contracts.ports import BlobStore
from modelops.domains.models.instances import check_instances
from modelops.domains.models.rules import ApprovalRequired, StageTransitionRefused
from modelops.domains.models.tables import ModelVersionRow
from modelops.domains.monitoring.schemas import Reference
from modelops.sdk.packaging import write_package
from modelops.sdk.registry import ModelRegistry
from modelops.sdk.samples import Sample, one_column

ROWS = np.array([[n, n % 3] for n in range(250)], dtype=float)
LABELS = ROWS[:, 0] > 20
MODEL = LogisticRegression(max_iter=1000).fit(ROWS, LABELS)
COLUMNS = {"size": [1, 2, 3, 4] * 5, "kind": ["a", "b", None, "a"] * 5, "new": [True, False] * 10}
MIXED = pd.DataFrame(COLUMNS)


@pytest.fixture
def registry(sqlite_platform):
    return ModelRegistry(sqlite_platform.client())


def mixed_model():
    encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["kind"]), remainder="passthrough")
    return make_pipeline(encode, LogisticRegression()).fit(MIXED, [0, 1] * 10)


def content(registry, version, path):
    file = next(file for file in version.files if file.path == path)
    return registry.client.data.download_artifact(file.digest)


def paths(version):
    return {file.path for file in version.files}


def test_a_model_goes_in_and_comes_out(platform):
    registry = ModelRegistry(platform.client())
    version = registry.register_model(
        "m",
        MODEL,
        sample=ROWS,
        feature_names=["size", "kind"],
        metrics={"accuracy": np.float32(0.5)},
        parameters={"max_iter": 1000},
        code="print('train')",
        tags={"team": "a"},
    )
    assert [(feature.name, feature.type) for feature in version.signature.inputs] == [
        ("size", "number"),
        ("kind", "number"),
    ]
    assert [feature.type for feature in version.signature.outputs] == ["boolean"]
    assert (version.metrics, version.parameters, version.stage) == (
        {"accuracy": 0.5},
        {"max_iter": 1000},
        "Development",
    )
    assert version.code_digest.startswith("sha256:")
    assert any(line.startswith("scikit-learn==") for line in version.requirements)
    for ref in ("m", "m:1", version.id):
        assert registry.load_model(ref).predict(ROWS).tolist() == MODEL.predict(ROWS).tolist()
    assert platform.client().models.verify_version("m").files_checked == 4


def test_what_lies_beside_the_model_fits_its_signature(registry):
    version = registry.register_model("m", mixed_model(), sample=MIXED)
    sample = json.loads(content(registry, version, "sample.json"))
    reference = Reference.model_validate_json(content(registry, version, "reference.json"))
    names = [feature.name for feature in version.signature.inputs]
    assert sample["columns"] == names == [column.name for column in reference.inputs] == ["size", "kind", "new"]
    assert sample["rows"][:3] == [[1, "a", True], [2, "b", False], [3, None, True]]
    check_instances(version.signature, sample["rows"])
    assert [column.kind for column in reference.inputs] == ["numeric", "categorical", "categorical"]
    assert reference.inputs[1].missing == 5
    assert reference.rows == 20
    assert [feature.required for feature in version.signature.inputs] == [True, False, True]


def test_a_sample_is_spread_over_the_data(registry):
    version = registry.register_model("m", MODEL, sample=ROWS)
    rows = json.loads(content(registry, version, "sample.json"))["rows"]
    assert len(rows) == 100
    assert (rows[0], rows[-1]) == ([0, 0], [249, 0])
    assert Reference.model_validate_json(content(registry, version, "reference.json")).rows == 250


def tables():
    records = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]
    return {
        "frame": MIXED,
        "nullable frame": MIXED.convert_dtypes(),
        "categories": MIXED.astype({"kind": "category"}),
        "arrow": pa.table(COLUMNS),
        "records": records,
        "lists": [list(record.values()) for record in records],
        "objects": np.array([list(record.values()) for record in records], dtype=object),
    }


@pytest.mark.parametrize("kind", list(tables()))
def test_every_kind_of_table_means_the_same(kind):
    sample = Sample(tables()[kind], ["size", "kind", "new"])
    assert [str(feature.type) for feature in sample.features] == ["integer", "string", "boolean"]
    assert [feature.required for feature in sample.features] == [True, False, True]
    rows = sample.some(100)
    assert rows[:3] == [[1, "a", True], [2, "b", False], [3, None, True]]
    assert [type(value) for value in rows[0]] == [int, str, bool]
    taken = sample.for_predictor(False)
    assert {name: column.dtype.kind for name, column in taken.items()} == {"size": "i", "kind": "O", "new": "b"}
    assert sample.for_reference().shape == (20, 3)


@given(
    st.lists(
        st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=False)), min_size=3, max_size=3),
        min_size=1,
        max_size=150,
    )
)
def test_a_sample_reads_as_a_callers_rows_would(rows):
    sample = Sample(rows)
    shown = sample.some(1_000)
    from modelops.domains.models.schemas import ModelSignature

    signature = ModelSignature(inputs=sample.features)
    np.testing.assert_array_equal(sample.for_predictor(False), check_instances(signature, shown))
    assert len(sample.some(10)) == min(10, len(rows))


def test_outputs_of_several_values_are_no_column():
    assert one_column(np.zeros((3, 2))) is None
    assert one_column([[1], [2, 3]]) is None
    assert one_column(np.zeros((3, 1))).shape == (3,)
    assert one_column(["a", "b"]).tolist() == ["a", "b"]


def test_a_model_of_several_outputs_is_registered(registry):
    model = LinearRegression().fit(ROWS, ROWS)
    version = registry.register_model("m", model, sample=ROWS)
    assert [feature.name for feature in version.signature.outputs] == ["prediction_0", "prediction_1"]
    assert Reference.model_validate_json(content(registry, version, "reference.json")).outputs == []


def test_functions_get_what_they_ask_for(registry):
    def by_name(rows: list[dict[str, float]]) -> list[float]:
        return [row["a"] + row["b"] for row in rows]

    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    version = registry.register_model("named", by_name, sample=frame)
    assert (version.flavour, [feature.name for feature in version.signature.outputs]) == ("callable", ["prediction"])
    assert registry.register_model("plain", lambda rows: rows.sum(axis=1), sample=frame).version == 1
    texts = pd.DataFrame({"t": ["x", "yy"]})
    assert registry.register_model("texts", lambda rows: [len(row["t"]) for row in rows], sample=texts).version == 1


def test_without_a_sample_the_model_itself_tells_how_many_numbers_it_takes(registry):
    version = registry.register_model("m", MODEL)
    assert [feature.name for feature in version.signature.inputs] == ["x0", "x1"]
    assert paths(version) == {"model.pkl", "compiled/record.json"}
    assert registry.load_model("m").predict(ROWS[:1]).tolist() == [False]
    fitted = LinearRegression().fit(pd.DataFrame(ROWS, columns=["size", "kind"]), ROWS[:, 0])
    assert [feature.name for feature in registry.register_model("n", fitted).signature.inputs] == ["size", "kind"]
    named = registry.register_model("f", lambda rows: rows[:, 0], feature_names=["a", "b"])
    assert [feature.name for feature in named.signature.inputs] == ["a", "b"]
    with pytest.raises(InvalidInput, match="cannot be told") as refused:
        registry.register_model("g", lambda rows: rows)
    assert "sample" in refused.value.hint


def test_an_array_gets_the_names_the_model_was_fitted_with(registry):
    model = LinearRegression().fit(pd.DataFrame(ROWS, columns=["size", "kind"]), ROWS[:, 0])
    version = registry.register_model("m", model, sample=ROWS)
    assert [feature.name for feature in version.signature.inputs] == ["size", "kind"]


@pytest.mark.parametrize(
    ("sample", "facts", "match"),
    [
        (ROWS[:0], {}, "no rows"),
        (ROWS[:, 0], {}, "shape"),
        (ROWS[:, :1], {}, "fitted on 2 features"),
        (np.where(ROWS == 0, np.inf, ROWS), {"outputs": LABELS}, "not finite"),
        (ROWS, {"outputs": LABELS[:5]}, "250 rows, and there are 5 outputs"),
        (ROWS, {"outputs": 3}, "single int"),
        (ROWS, {"feature_names": ["a"]}, "2 columns but 1 feature names"),
        (ROWS, {"feature_names": ["a", "a"]}, "more than once"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_before_anything_is_stored(registry, sample, facts, match):
    with pytest.raises(InvalidInput, match=match):
        registry.register_model("m", MODEL, sample=sample, **facts)
    assert registry.client.data.list_artifacts().total == 0
    assert registry.client.models.list_models().total == 0


def test_columns_in_another_order_than_fitted_are_refused(registry):
    frame = pd.DataFrame(ROWS, columns=["size", "kind"])
    model = LinearRegression().fit(frame, ROWS[:, 0])
    with pytest.raises(InvalidInput, match="another order"):
        registry.register_model("m", model, sample=frame[["kind", "size"]], outputs=ROWS[:, 0])


def test_a_model_that_fails_on_its_own_sample_is_refused(registry):
    def broken(rows):
        raise RuntimeError("no")

    with pytest.raises(InvalidInput, match="fails on the sample: RuntimeError: no"):
        registry.register_model("m", broken, sample=ROWS)
    assert registry.register_model("m", broken, sample=ROWS, outputs=LABELS).version == 1


def test_no_flavour_no_package(tmp_path):
    with pytest.raises(InvalidInput, match="No installed flavour"):
        write_package(tmp_path, object(), sample=ROWS)


def test_the_run_that_made_it_is_named_by_itself_or_by_its_experiment(registry):
    experiments = registry.client.experiments
    experiments.create_experiment("e")
    with pytest.raises(NotFound, match="no runs yet"):
        registry.register_model("m", MODEL, "e")
    first, second = experiments.create_run("e"), experiments.create_run("e")
    assert registry.register_model("m", MODEL, first.id).run_id == first.id
    assert registry.register_model("m", MODEL, "e", "Registration").run_id == second.id
    assert registry.register_model("m", MODEL, second.experiment_id).run_id == second.id
    for missing in ("other", "run_" + "0" * 32):
        with pytest.raises(NotFound):
            registry.register_model("m", MODEL, missing)
    assert registry.get_model("m").version == 3


def test_versions_are_found_by_stage_number_and_alias(registry):
    for _ in range(3):
        registry.register_model("m", MODEL)
    registry.promote_model("m", "Registration", version=1)
    registry.promote_model("m", "Registration", version=2)
    registry.client.models.set_alias("m", "challenger", 1)
    assert registry.get_model("m").version == 3
    assert registry.get_model("m", version=1).version == 1
    assert registry.get_model("m", stage="Registration").version == 2
    assert registry.get_model("m", alias="challenger").version == 1
    assert registry.load_model("m@challenger").classes == [False, True]
    with pytest.raises(NotFound, match="no version in Staging"):
        registry.get_model("m", stage="Staging")
    with pytest.raises(InvalidInput, match="one of"):
        registry.get_model("m", stage="Staging", version=1)
    with pytest.raises(InvalidInput):
        registry.get_model("m", version=0)


def test_a_model_reaches_production_through_another_members_approval(platform):
    registry, reviewer = ModelRegistry(platform.client()), ModelRegistry(platform.member("ml_engineer"))
    registry.register_model("m", MODEL)
    with pytest.raises(StageTransitionRefused):
        registry.promote_model("m")
    for stage in ("Registration", "Staging"):
        registry.promote_model("m", stage)
    with pytest.raises(ApprovalRequired):
        registry.promote_model("m")
    approval = reviewer.approve(registry.request_approval("m", comment="best of three").id, comment="looked at it")
    assert (approval.state, approval.decision_comment) == ("approved", "looked at it")
    assert registry.promote_model("m", comment="first release").aliases == ["champion"]
    assert registry.get_model("m", stage="Production").version == 1


def test_nothing_is_opened_that_is_not_as_signed(platform, tmp_path):
    client, marker = platform.client(), tmp_path / "sprung"
    registry = ModelRegistry(client)
    version = registry.register_model("m", MODEL)
    trap = client.data.upload_artifact(cloudpickle.dumps(Trap(marker)))
    edits = [
        {"files": [{"path": "model.pkl", "digest": trap.digest, "size": trap.size}]},
        {"flavour": "callable"},
        {"digest": "sha256:" + "0" * 64},
        {"platform_signature": {**version.platform_signature.model_dump(), "key_id": "0" * 16}},
    ]
    for edit in edits:
        registry.register_model("m", MODEL)
        with platform.place.work() as ctx:
            latest = client.models.get_version("m").id
            ctx.session.execute(update(ModelVersionRow).where(ModelVersionRow.id == latest).values(**edit))
        with pytest.raises(SignatureInvalid):
            registry.load_model("m")
    assert not marker.exists()


def test_a_blob_that_is_gone_or_damaged_is_not_opened(registry, sqlite_platform):
    version = registry.register_model("m", MODEL)
    sqlite_platform.place.ports[BlobStore].delete(version.files[0].digest)
    with pytest.raises(ArtifactCorrupted):
        registry.load_model("m")


class Trap:
    """What must never be unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return exec, (f"open({str(self.marker)!r}, 'w').close()",)


def test_a_registry_closes_only_what_it_opened(sqlite_platform, tmp_path, monkeypatch):
    client = sqlite_platform.client()
    with ModelRegistry(client):
        pass
    assert client.models.list_models().total == 0
    monkeypatch.setenv("MODELOPS_HOME", str(tmp_path / "own"))
    with ModelRegistry() as own:
        assert own.client.models.list_models().total == 0
    assert own.client.rest.http.is_closed


def test_the_functions_use_the_registry_of_the_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELOPS_HOME", str(tmp_path / "own"))
    assert modelops.register_model("m", MODEL, metrics={"accuracy": 1}).version == 1
    assert modelops.promote_model("m", "Registration").stage == "Registration"
    with ModelRegistry() as own:
        assert own.get_model("m").metrics == {"accuracy": 1.0}

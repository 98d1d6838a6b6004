"""`InferencePipeline`: every row of a table answered as the model itself answers, once, whatever stops it on the way."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from modelops import InferencePipeline
from modelops.contracts.errors import Conflict, DeploymentError, InvalidInput
from modelops.sdk.inference.parts import Parts
from modelops.sdk.registry import ModelRegistry
from modelops.testing.process import platform_process
from modelops.testing.waiting import wait_for

FRAME = pd.DataFrame({"size": np.arange(250.0), "width": np.arange(250.0) % 3})
MODEL = LogisticRegression(max_iter=1000).fit(FRAME, np.where(FRAME["size"] > 20, "big", "small"))


@pytest.fixture
def client(sqlite_platform):
    client = sqlite_platform.client()
    ModelRegistry(client).register_model("m", MODEL, sample=FRAME)
    return client


def table(rows, seed=0):
    random = np.random.default_rng(seed)
    return pd.DataFrame({"id": np.arange(rows), "width": random.random(rows) * 3, "size": random.random(rows) * 50})


def written(frame, path):
    found = pa.Table.from_pandas(frame, preserve_index=False)
    if path.suffix == ".csv":
        pa_csv.write_csv(found, path)
    elif path.suffix == ".arrow":
        with pa.ipc.new_file(path, found.schema) as writer:
            writer.write_table(found)
    else:
        pq.write_table(found, path)
    return path


def read(path):
    if path.suffix == ".csv":
        return pa_csv.read_csv(path).to_pandas()
    if path.suffix == ".arrow":
        return pa.ipc.open_file(path).read_all().to_pandas()
    return pq.read_table(path).to_pandas()


@pytest.mark.parametrize("kind", ["parquet", "csv", "arrow"])
def test_every_row_is_answered_as_the_model_itself_answers(client, tmp_path, kind):
    given = table(100_000)
    source, output = written(given, tmp_path / f"in.{kind}"), tmp_path / f"out.{kind}"
    told = []
    result = InferencePipeline("m", client, keep=["id"]).run(
        source, output, progress=lambda done, total: told.append((done, total))
    )
    found = read(output)
    assert list(found.columns) == ["id", "prediction", "probability_big", "probability_small"] == result.columns
    assert (found["id"] == given["id"]).all()
    assert (found["prediction"] == MODEL.predict(given[["size", "width"]])).all()
    np.testing.assert_allclose(
        found[["probability_big", "probability_small"]], MODEL.predict_proba(given[["size", "width"]])
    )
    assert (result.rows, result.resumed_rows, result.version) == (100_000, 0, 1)
    assert told[-1] == (100_000, None if kind == "arrow" else 100_000)
    assert not list(tmp_path.glob(".*"))
    if kind == "parquet":
        assert pq.read_schema(output).metadata[b"modelops.model"] == b"m"


def test_columns_of_any_kind_and_missing_values(client, tmp_path):
    frame = pd.DataFrame({"size": [1, 2, 3, 4] * 5, "kind": ["a", "b", None, "a"] * 5, "new": [True, False] * 10})
    encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["kind"]), remainder="passthrough")
    model = make_pipeline(encode, LinearRegression()).fit(frame, np.arange(20.0))
    ModelRegistry(client).register_model("mixed", model, sample=frame)
    for name in ("in.parquet", "in.csv"):
        source = written(frame, tmp_path / name)
        result = InferencePipeline("mixed:1", client, keep="*").run(source, tmp_path / "out.parquet")
        found = read(tmp_path / "out.parquet")
        assert result.columns == ["size", "kind", "new", "prediction"]
        np.testing.assert_allclose(found["prediction"], model.predict(frame))


def test_a_dataset_version_is_a_table_too(client, tmp_path):
    given = table(50)
    client.data.create_dataset("rows")
    client.data.create_dataset_version("rows", written(given, tmp_path / "rows.csv"))
    for ref in ("rows", "rows:1"):
        InferencePipeline("m", client).run(ref, tmp_path / "out.parquet")
        assert (read(tmp_path / "out.parquet")["prediction"] == MODEL.predict(given[["size", "width"]])).all()


@pytest.mark.parametrize(
    ("name", "frame", "why"),
    [
        ("in.parquet", pd.DataFrame({"size": [1.0]}), "no column 'width'"),
        ("in.parquet", pd.DataFrame({"size": [1.0, None], "width": [1.0, 1.0]}), "Row 1, feature 'size': is required"),
        ("in.parquet", pd.DataFrame({"size": ["a"], "width": [1.0]}), "'size' holds what is no number"),
        (
            "in.csv",
            pd.DataFrame({"size": [1, "a"], "width": [1.0, 1.0]}).astype(str),
            "'size' of 'in.csv' holds what .* invalid value 'a'",
        ),
        ("in.parquet", pd.DataFrame({"size": [], "width": []}, dtype=float), "has no rows"),
        ("in.txt", pd.DataFrame({"size": [1.0]}), "Which format 'in.txt' has"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_by_name(client, tmp_path, name, frame, why):
    source = written(frame, tmp_path / name)
    with pytest.raises(InvalidInput, match=why):
        InferencePipeline("m", client).run(source, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_other_wrong_things_are_told(client, tmp_path):
    source = written(table(5), tmp_path / "in.parquet")
    with pytest.raises(InvalidInput, match="no file"):
        InferencePipeline("m", client).run(tmp_path / "none.parquet", tmp_path / "out.parquet")
    with pytest.raises(InvalidInput, match="no folder"):
        InferencePipeline("m", client).run(source, tmp_path / "none" / "out.parquet")
    with pytest.raises(InvalidInput, match="Which format"):
        InferencePipeline("m", client).run(source, tmp_path / "out")
    with pytest.raises(InvalidInput, match="no column 'colour'"):
        InferencePipeline("m", client, keep=["colour"]).run(source, tmp_path / "out.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 nothing of it")
    with pytest.raises(InvalidInput, match="cannot be read as parquet"):
        InferencePipeline("m", client).run(tmp_path / "torn.parquet", tmp_path / "out.parquet")
    named = written(table(5).rename(columns={"id": "prediction"}), tmp_path / "named.parquet")
    with pytest.raises(InvalidInput, match="an answer has its name"):
        InferencePipeline("m", client, keep="*").run(named, tmp_path / "out.parquet")


def test_a_fraction_is_no_integer(client, tmp_path):
    model = LinearRegression().fit(pd.DataFrame({"n": [1, 2, 3]}), [1.0, 2.0, 3.0])
    ModelRegistry(client).register_model("whole", model, sample=pd.DataFrame({"n": [1, 2, 3]}))
    source = written(pd.DataFrame({"n": [1.0, 2.5]}), tmp_path / "in.parquet")
    with pytest.raises(InvalidInput, match=r"Row 1, feature 'n': must be an integer; it is 2.5"):
        InferencePipeline("whole", client).run(source, tmp_path / "out.parquet")


def test_a_run_that_stopped_goes_on_where_it_was(client, tmp_path, monkeypatch):
    given = table(300_000)
    source, output = written(given, tmp_path / "in.parquet"), tmp_path / "out.parquet"
    add, asked = Parts.add, []

    def stopping(self, number, batch):
        asked.append(number)
        if asked == [0, 1, 2]:
            raise KeyboardInterrupt
        add(self, number, batch)

    monkeypatch.setattr(Parts, "add", stopping)
    with pytest.raises(KeyboardInterrupt):
        InferencePipeline("m", client).run(source, output)
    assert not output.exists()
    result = InferencePipeline("m", client).run(source, output)
    assert asked == [0, 1, 2, 2, 3, 4]
    assert (result.rows, result.resumed_rows) == (300_000, 2 * 64 * 1024)
    assert (read(output)["prediction"] == MODEL.predict(given[["size", "width"]])).all()


def test_parts_of_another_table_or_version_are_not_used(client, tmp_path, monkeypatch):
    source, output = written(table(10), tmp_path / "in.parquet"), tmp_path / "out.parquet"
    monkeypatch.setattr(Parts, "join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        InferencePipeline("m", client).run(source, output)
    monkeypatch.undo()
    other = written(table(10, seed=1), tmp_path / "other.parquet")
    with pytest.raises(Conflict, match="another table"):
        InferencePipeline("m", client).run(other, output)
    ModelRegistry(client).register_model("m", MODEL, sample=FRAME)
    with pytest.raises(Conflict, match="of another version"):
        InferencePipeline("m", client).run(source, output)
    result = InferencePipeline("m", client).run(source, output, resume=False)
    assert (result.version, result.resumed_rows) == (2, 0)


def test_two_at_once_do_not_write_one_file(client, tmp_path):
    source, output = written(table(10), tmp_path / "in.parquet"), tmp_path / "out.parquet"
    with Parts(output).opened(), pytest.raises(Conflict, match="Another process"):
        InferencePipeline("m", client).run(source, output)


def test_a_model_that_raises_is_told_with_its_rows(client, tmp_path, monkeypatch):
    class Broken:
        classes, wants_columns = None, False

        def predict(self, rows):
            raise ValueError("no such thing")

    import modelops.domains.models.loading as loading

    monkeypatch.setattr(loading, "load_version", lambda *_: Broken())
    source = written(table(10), tmp_path / "in.parquet")
    with pytest.raises(DeploymentError, match="raised ValueError for rows 0 to 9: no such thing"):
        InferencePipeline("m", client).run(source, tmp_path / "out.parquet")


@pytest.mark.slow
def test_killed_again_and_again_every_row_is_answered_once(tmp_path):
    given = table(4_000_000)
    source, output = written(given, tmp_path / "in.parquet"), tmp_path / "out.parquet"
    with platform_process(tmp_path / "home") as platform:
        with platform.client() as client:
            ModelRegistry(client).register_model("m", MODEL, sample=FRAME)
        command = [
            str(Path(sys.executable).with_name("mops")),
            "--home",
            str(tmp_path / "home"),
            "predict",
            str(source),
        ]
        command += ["--model", "m", "--output", str(output), "--keep", "id"]
        parts = tmp_path / ".out.parquet.parts"
        for least in (3, 9, 20):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            wait_for(lambda least=least: len(list(parts.glob("0*.arrow"))) >= least)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        assert subprocess.run(command, capture_output=True, timeout=120, check=True).returncode == 0
    found = read(output)
    assert (found["id"] == given["id"]).all()
    assert (found["prediction"] == MODEL.predict(given[["size", "width"]])).all()

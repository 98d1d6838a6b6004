"""Registration and the scan: what is refused leaves nothing behind, and what is taken on somebody's word says so."""

import pickle

import cloudpickle
import pytest
from sqlalchemy import func, select, update

from modelops.contracts.errors import NotFound, PermissionDenied
from modelops.domains.models import scans
from modelops.domains.models.rules import ScanRefused
from modelops.domains.models.scanning import SCANNER
from modelops.domains.models.schemas import ModelSignature, PackageFile, VersionCreate
from modelops.domains.models.tables import FileScanRow, ModelVersionRow
from modelops.kernel.tables import AuditRow, EventRow

MLMODEL = b"""
flavors:
  python_function: {loader_module: mlflow.sklearn, model_path: weights}
  sklearn: {pickled_model: weights, serialization_format: pickle}
"""


class Calls:
    def __init__(self, called, *arguments):
        self.called, self.arguments = called, arguments

    def __reduce__(self):
        return self.called, self.arguments


ATTACK = pickle.dumps(Calls(eval, "1 + 1"))
HONEST = pickle.dumps({"weights": [1.0, 2.0]})


def body(client, content=HONEST, path="model.pkl", flavour="sklearn", **more):
    files = {path: content, **more.pop("files", {})}
    held = {name: client.data.upload_artifact(one) for name, one in files.items()}
    return VersionCreate(
        name="m",
        flavour=flavour,
        files=[PackageFile(path=name, digest=one.digest, size=one.size) for name, one in held.items()],
        signature=ModelSignature(inputs=[{"name": "a"}]),
        **more,
    )


def rows(platform, kind, *where):
    with platform.place.work(write=False) as ctx:
        return list(ctx.session.scalars(select(kind).where(*where)))


def test_a_refused_version_leaves_nothing_behind(platform):
    client = platform.client()
    with pytest.raises(ScanRefused, match="builtins:eval") as refusal:
        client.models.register_version(body(client, ATTACK))
    assert refusal.value.extra["unsafe"] == ["imports builtins:eval"]
    with pytest.raises(NotFound):
        client.models.get_model("m")
    assert client.models.register_version(body(client)).version == 1


def test_the_permission_and_the_word_are_both_needed(platform):
    admin, scientist = platform.client(), platform.member("data_scientist")
    with pytest.raises(PermissionDenied, match=r"models\.unsafe"):
        scientist.models.register_version(body(scientist, ATTACK, allow_unsafe=True))
    with pytest.raises(ScanRefused):
        admin.models.register_version(body(admin, ATTACK))
    version = admin.models.register_version(body(admin, ATTACK, allow_unsafe=True))

    assert version.scan.unsafe == ["imports builtins:eval"]
    assert version.scan.accepted_by == admin.identity.get_me().id
    (record,) = rows(platform, AuditRow, AuditRow.operation == "models.allow_unsafe")
    assert (record.actor, record.resource) == (version.scan.accepted_by, "m:1: imports builtins:eval")
    (event,) = rows(platform, EventRow, EventRow.type == "modelops.models.version_registered")
    assert event.data["unsafe"] is True
    assert admin.models.get_version("m").scan == version.scan


def test_nobody_s_word_helps_with_what_cannot_be_read(platform):
    client = platform.client()
    with pytest.raises(ScanRefused, match="cannot be judged"):
        client.models.register_version(body(client, HONEST[:-3], allow_unsafe=True))


def test_code_by_value_needs_its_author_s_word_and_is_marked(platform):
    scientist = platform.member("data_scientist")
    code = cloudpickle.dumps(lambda rows: rows)
    with pytest.raises(ScanRefused, match="runs_code"):
        scientist.models.register_version(body(scientist, code))
    declared = scientist.models.register_version(body(scientist, code, runs_code=True))
    assert (declared.runs_code, declared.scan.code) == (True, ["model.pkl: Python code by value"])
    function = scientist.models.register_version(body(scientist, code, flavour="callable"))
    assert (function.runs_code, function.scan.unsafe, function.scan.accepted_by) == (True, [], None)
    assert scientist.models.register_version(body(scientist)).runs_code is False


def test_what_an_mlmodel_names_is_read_as_it_says(platform):
    client = platform.client()
    hidden = pickle.dumps(Calls(eval, "1"), protocol=0)
    for path in ("weights", "weights.txt"):
        mlmodel = MLMODEL.replace(b"weights", path.encode())
        with pytest.raises(ScanRefused, match="builtins:eval"):
            client.models.register_version(body(client, hidden, path, "mlflow", files={"MLmodel": mlmodel}))
    loader = MLMODEL.replace(b"mlflow.sklearn", b"antigravity")
    with pytest.raises(ScanRefused, match="antigravity"):
        client.models.register_version(body(client, HONEST, "weights", "mlflow", files={"MLmodel": loader}))
    taken = client.models.register_version(body(client, HONEST, "weights", "mlflow", files={"MLmodel": MLMODEL}))
    assert taken.scan.imports == ["mlflow.sklearn:"]


def test_an_operator_can_allow_modules(tmp_path):
    from modelops.testing.platform import running_platform

    content = pickle.dumps(Calls(divmod, 1, 1))
    with running_platform(tmp_path / "home", model_imports=["builtins"]) as platform:
        client = platform.client()
        assert client.models.register_version(body(client, content)).scan.unsafe == []


def test_a_content_is_scanned_once(platform, monkeypatch):
    client, read = platform.client(), []
    scan = scans.scan_file
    monkeypatch.setattr(scans, "scan_file", lambda *given: read.append(given[1]) or scan(*given))
    for _ in range(3):
        client.models.register_version(body(client))
    client.models.register_version(body(client, path="model.joblib"))
    client.models.register_version(body(client, path="other.pkl"))
    assert [reading.value for reading in read] == ["pickle", "joblib"]
    with platform.place.work() as ctx:
        ctx.session.execute(update(FileScanRow).values(scanner=SCANNER - 1))
    client.models.register_version(body(client))
    assert len(read) == 3


def test_no_transaction_is_open_while_a_file_is_read(platform, monkeypatch):
    client, scan = platform.client(), scans.scan_file

    def look(*given):
        with platform.place.work() as ctx:  # would wait for ever behind a writer
            assert ctx.session.scalar(select(func.count()).select_from(ModelVersionRow)) == 0
        return scan(*given)

    monkeypatch.setattr(scans, "scan_file", look)
    assert client.models.register_version(body(client)).version == 1

"""The registry: versions without gaps, stages by the rules, approvals that cannot be forged, packages that cannot be swapped."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sqlalchemy import update

from modelops.contracts.errors import (
    AlreadyExists,
    ArtifactCorrupted,
    InvalidInput,
    MLOpsError,
    ModelRegistryError,
    NotFound,
    PermissionDenied,
    SignatureInvalid,
)
from modelops.domains.models.rules import (
    NEEDS_APPROVAL,
    NEXT,
    ApprovalRefused,
    ApprovalRequired,
    StageTransitionRefused,
    check_transition,
    parse_ref,
)
from modelops.domains.models.schemas import ModelSignature, PackageFile, Stage, VersionCreate
from modelops.domains.models.tables import ApprovalRow, ModelVersionRow
from modelops.sdk.registry import ModelRegistry

ROWS = np.array([[n, n % 3] for n in range(40)], dtype=float)


def body(client, name="m", content=b"x", **facts):
    artifact = client.data.upload_artifact(content)
    file = PackageFile(path="model.bin", digest=artifact.digest, size=artifact.size)
    signature = ModelSignature(inputs=[{"name": "a"}])
    return VersionCreate(name=name, flavour="sklearn", files=[file], signature=signature, **facts)


def promote(client, reviewer, name="m"):
    for stage in ("Registration", "Staging"):
        client.models.set_stage(name, stage)
    asked = client.models.request_approval(name)
    reviewer.models.decide_approval(asked.id, approve=True)
    return client.models.set_stage(name, "Production")


@given(st.lists(st.sampled_from(Stage), max_size=12))
def test_no_path_skips_staging_and_retirement_is_the_end(wanted):
    present, history = Stage.DEVELOPMENT, [Stage.DEVELOPMENT]
    for stage in wanted:
        try:
            check_transition("m", 1, present, stage)
        except StageTransitionRefused:
            assert stage not in NEXT[present]
            continue
        if stage is Stage.PRODUCTION:
            assert present is Stage.STAGING
        assert present is not Stage.RETIREMENT
        present = stage
        history.append(stage)
    assert frozenset({Stage.PRODUCTION}) == NEEDS_APPROVAL


@given(st.text(max_size=30))
def test_any_reference_is_read_or_refused(ref):
    try:
        name, version, alias = parse_ref(ref)
    except MLOpsError:
        return
    assert isinstance(name, str)
    assert version is None or version >= 1
    assert alias is None or version is None


def test_a_version_is_registered_signed_and_verified(platform):
    client = platform.client()
    version = client.models.register_version(body(client, metrics={"accuracy": 0.9}, tags={"a": "b"}))
    assert (version.version, version.stage, version.metrics) == (1, "Development", {"accuracy": 0.9})
    assert client.models.verify_version("m").files_checked == 1
    assert client.models.get_model("m").latest_version == 1
    assert client.models.list_metrics().items[0].metrics == {"accuracy": 0.9}


def test_versions_count_up_without_gaps_when_many_come_at_once(platform):
    prepared = body(platform.client())

    def register():
        platform.client().models.register_version(prepared)

    threads = [threading.Thread(target=register) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = platform.client().models.list_versions("m").items
    assert [version.version for version in versions] == list(range(8, 0, -1))


def test_what_does_not_fit_is_refused(platform):
    client = platform.client()
    good = body(client)
    with pytest.raises(StageTransitionRefused):
        client.models.register_version(good.model_copy(update={"stage": Stage.PRODUCTION}))
    missing = PackageFile(path="a", digest="sha256:" + "0" * 64, size=1)
    with pytest.raises(NotFound, match="holds no artifact"):
        client.models.register_version(good.model_copy(update={"files": [missing]}))
    for change in ({"size": 99}, {"path": "../evil"}, {"path": "a/../../evil"}):
        wrong = good.files[0].model_copy(update=change)
        with pytest.raises(InvalidInput):
            client.models.register_version(good.model_copy(update={"files": [wrong]}))
    with pytest.raises(NotFound, match="run"):
        client.models.register_version(good.model_copy(update={"run_id": "run_nope"}))
    assert client.models.list_models().total == 0
    client.models.create_model("m")
    with pytest.raises(AlreadyExists):
        client.models.create_model("m")


def test_production_needs_an_approval_by_another(platform):
    client, reviewer = platform.client(), platform.member("ml_engineer")
    client.models.register_version(body(client))
    with pytest.raises(StageTransitionRefused, match="cannot go to Production"):
        client.models.set_stage("m", "Production")
    for stage in ("Registration", "Staging"):
        client.models.set_stage("m", stage)
    with pytest.raises(ApprovalRequired):
        client.models.set_stage("m", "Production")
    asked = client.models.request_approval("m", comment="please")
    with pytest.raises(PermissionDenied, match="asks for an approval"):
        client.models.decide_approval(asked.id, approve=True)
    with pytest.raises(PermissionDenied):
        platform.member("data_scientist").models.decide_approval(asked.id, approve=True)
    assert reviewer.models.decide_approval(asked.id, approve=False).state == "rejected"
    with pytest.raises(ApprovalRequired):
        client.models.set_stage("m", "Production")
    with pytest.raises(ApprovalRefused, match="rejected before"):
        reviewer.models.decide_approval(asked.id, approve=True)
    again = client.models.request_approval("m")
    reviewer.models.decide_approval(again.id, approve=True)
    assert client.models.set_stage("m", "Production").aliases == ["champion"]
    assert client.models.list_stage_history("m").items[0].approval_id == again.id


def test_an_approval_is_of_one_version_alone(platform):
    client, reviewer = platform.client(), platform.member("ml_engineer")
    client.models.register_version(body(client))
    promote(client, reviewer)
    client.models.register_version(body(client, content=b"y"))
    for stage in ("Registration", "Staging"):
        client.models.set_stage("m", stage, version=2)
    with pytest.raises(ApprovalRequired):
        client.models.set_stage("m", "Production", version=2)


def test_an_approval_written_into_the_database_is_none(platform):
    client = platform.client()
    client.models.register_version(body(client))
    for stage in ("Registration", "Staging"):
        client.models.set_stage("m", stage)
    asked = client.models.request_approval("m")
    forged = {"state": "approved", "decided_by": "usr_other", "decided_at": platform.place.clock.now()}
    with platform.place.work() as ctx:
        ctx.session.execute(update(ApprovalRow).values(**forged))
    with pytest.raises(SignatureInvalid):
        client.models.set_stage("m", "Production")
    other = client.models.request_approval("m")
    platform.member("ml_engineer").models.decide_approval(other.id, approve=False)
    with platform.place.work() as ctx:
        ctx.session.execute(update(ApprovalRow).where(ApprovalRow.id == other.id).values(state="approved"))
        ctx.session.execute(update(ApprovalRow).where(ApprovalRow.id == asked.id).values(state="pending"))
    with pytest.raises(SignatureInvalid):
        client.models.set_stage("m", "Production")


def test_a_version_changed_in_the_database_does_not_verify(platform):
    client = platform.client()
    client.models.register_version(body(client))
    evil = client.data.upload_artifact(b"evil")
    files = [{"path": "model.pkl", "digest": evil.digest, "size": evil.size}]
    with platform.place.work() as ctx:
        ctx.session.execute(update(ModelVersionRow).values(files=files))
    with pytest.raises(SignatureInvalid):
        client.models.verify_version("m")


def test_a_damaged_blob_is_found(sqlite_platform):
    client = sqlite_platform.client()
    client.models.register_version(body(client, content=b"weights" * 5000))
    for file in (sqlite_platform.platform.settings.home / "blobs").rglob("*"):
        if file.is_file() and file.stat().st_size > 20:
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)
    with pytest.raises(ArtifactCorrupted):
        client.models.verify_version("m")


def test_aliases_follow_the_rules(platform):
    client, reviewer = platform.client(), platform.member("ml_engineer")
    client.models.register_version(body(client))
    client.models.set_alias("m", "challenger", 1)
    assert client.models.get_version("m", "@challenger").version == 1
    with pytest.raises(ModelRegistryError, match="champion"):
        client.models.set_alias("m", "champion", 1)
    with pytest.raises(NotFound):
        client.models.set_alias("m", "x", 9)
    client.models.delete_alias("m", "challenger")
    with pytest.raises(NotFound, match="no alias"):
        client.models.get_version("m", "@challenger")
    promote(client, reviewer)
    client.models.set_stage("m", "Retirement")
    assert client.models.get_model("m").aliases == {}
    with pytest.raises(ModelRegistryError, match="retired"):
        client.models.set_alias("m", "challenger", 1)
    with pytest.raises(StageTransitionRefused, match="cannot go"):
        client.models.set_stage("m", "Staging")


def test_rights_and_isolation(platform):
    client, viewer, stranger = platform.client(), platform.member("viewer"), platform.stranger()
    prepared = body(client)
    client.models.register_version(prepared)
    assert viewer.models.get_version("m").version == 1
    for attempt in (
        lambda: viewer.models.register_version(prepared),
        lambda: viewer.models.set_stage("m", "Registration"),
        lambda: platform.member("data_scientist").models.set_stage("m", "Registration"),
    ):
        with pytest.raises(PermissionDenied):
            attempt()
    for attempt in (
        lambda: stranger.models.get_version("m"),
        lambda: stranger.models.set_stage("m", "Registration"),
        lambda: stranger.models.register_version(prepared),
    ):
        with pytest.raises(NotFound):
            attempt()


def test_a_model_object_goes_in_and_comes_out(platform, tmp_path):
    client = platform.client()
    model = LogisticRegression(max_iter=1000).fit(ROWS, ROWS[:, 0] > 20)
    registry = ModelRegistry(client)
    version = registry.register_model(
        "real", model, sample=ROWS, feature_names=["size", "kind"], metrics={"accuracy": 1}
    )
    assert [feature.name for feature in version.signature.inputs] == ["size", "kind"]
    assert {file.path for file in version.files} >= {"model.pkl", "sample.json", "reference.json"}
    loaded = registry.load_model("real")
    assert loaded.predict(ROWS).tolist() == model.predict(ROWS).tolist()
    assert registry.register_model("real", lambda rows: [sum(row) for row in rows], sample=ROWS).flavour == "callable"
    with pytest.raises(InvalidInput):
        registry.register_model("real", model, sample=ROWS[:0])


class Trap:
    """What must never be unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __call__(self, rows):
        return [0 for _ in rows]

    def __reduce__(self):
        return exec, (f"open({str(self.marker)!r}, 'w').close()",)


def test_nothing_is_unpickled_that_the_platform_did_not_sign(platform, tmp_path):
    client, marker = platform.client(), tmp_path / "sprung"
    registry = ModelRegistry(client)
    registry.register_model("m", LogisticRegression(max_iter=1000).fit(ROWS, ROWS[:, 0] > 20), sample=ROWS)
    import cloudpickle

    trap = client.data.upload_artifact(cloudpickle.dumps(Trap(marker)))
    files = [{"path": "model.pkl", "digest": trap.digest, "size": trap.size}]
    with platform.place.work() as ctx:
        ctx.session.execute(update(ModelVersionRow).values(files=files))
    with pytest.raises(SignatureInvalid):
        registry.load_model("m")
    assert not marker.exists()

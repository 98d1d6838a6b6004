"""Validations from the toolkit to the gate: run here, kept with the version, asked for before a stage."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sqlalchemy import update

import modelops
from modelops.contracts.errors import InvalidInput, NotFound, PermissionDenied, PreconditionFailed, SignatureInvalid
from modelops.domains.models.rules import ValidationRequired
from modelops.domains.models.schemas import Stage
from modelops.domains.models.tables import ValidationRow
from modelops.domains.models.validation.pipeline import ValidationPipeline
from modelops.domains.models.validation.schemas import CheckResult, StageRule, ValidationCreate
from modelops.sdk.registry import ModelRegistry
from modelops.sdk.validation import ModelValidation

LUCK = np.random.default_rng(3)
FRAME = pd.DataFrame({"x": LUCK.normal(size=300), "z": LUCK.normal(size=300)})
FRAME["y"] = (FRAME["x"] > 0).astype(int)
FRAME["region"] = LUCK.choice(["north", "south"], 300)
GOOD = LogisticRegression().fit(FRAME[["x", "z"]], FRAME["y"])
BAD = LogisticRegression().fit(FRAME[["x", "z"]], FRAME["z"] > 0)
QUICK = ["metrics", "significance", "slices:by=region", "noise"]


def register(client, model=GOOD, **facts):
    return ModelRegistry(client).register_model("churn", model, sample=FRAME[["x", "z"]], stage="Registration", **facts)


def body(version, *checks, **facts):
    made = checks or (CheckResult(name="metrics", passed=True, reason="fine", figures={"accuracy": 1.0}),)
    facts = {"data_digest": "sha256:" + "1" * 64, "rows": 10, "target": "y", **facts}
    return ValidationCreate(digest=version.digest, checks=list(made), **facts)


def promote(client, platform, version):
    client.models.set_stage("churn", "Staging", version=version)
    asked = client.models.request_approval("churn", version)
    platform.member("ml_engineer").models.decide_approval(asked.id, approve=True)
    return client.models.set_stage("churn", "Production", version=version)


def test_a_version_is_validated_against_the_champion_and_the_result_is_kept(platform):
    client = platform.client()
    register(client)
    promote(client, platform, 1)
    candidate = register(client, BAD)
    data = FRAME.to_csv(index=False).encode()
    client.data.create_dataset("holdout")
    held = client.data.create_dataset_version("holdout", data, format="csv")
    validation = ModelValidation(client, pipeline=ValidationPipeline(QUICK))
    found = validation.validate("churn:2", "holdout:1", "y", comment="before staging")
    assert not found.passed
    assert (found.champion, found.rows, found.dataset_version_id) == ("churn:1", 300, held.id)
    assert (found.digest, found.data_digest) == (candidate.digest, held.table_digest)
    failed = {check.name for check in found.checks if not check.passed}
    assert failed >= {"metrics", "significance"}
    assert "FAILED  metrics" in str(found)
    assert client.models.get_validation(found.id) == found
    assert client.models.list_validations("churn", 2).items == [found]
    assert found.created_by == client.identity.get_me().id
    again = validation.validate("churn:1", "holdout:1", "y")
    assert again.champion is None
    assert again.passed


def test_a_file_and_a_frame_are_data_too(sqlite_platform, tmp_path):
    client = sqlite_platform.client()
    register(client)
    FRAME.to_csv(tmp_path / "holdout.csv", index=False)
    FRAME.to_parquet(tmp_path / "holdout.parquet")
    validation = ModelValidation(client, pipeline=ValidationPipeline(["metrics"]))
    digests = set()
    for data in (tmp_path / "holdout.csv", str(tmp_path / "holdout.parquet"), FRAME):
        found = validation.validate("churn", data, "y")
        assert found.passed
        assert found.checks[0].figures["accuracy"] > 0.95
        digests.add(found.data_digest)
    assert len(digests) == 3
    assert validation.check("churn:1", FRAME, "y").passed
    assert client.models.list_validations("churn", 1).total == 3
    with pytest.raises(NotFound):
        validation.validate("churn", "nowhere:1", "y")
    with pytest.raises(InvalidInput, match="no column"):
        validation.validate("churn", FRAME, "nope")
    (tmp_path / "holdout.txt").write_text("x")
    with pytest.raises(InvalidInput, match="cannot be told"):
        validation.validate("churn", tmp_path / "holdout.txt", "y")


def test_model_objects_are_checked_without_a_platform():
    validation = modelops.ModelValidation(pipeline=modelops.ValidationPipeline(["metrics", "significance"]))
    assert not validation.check(BAD, FRAME, "y", champion=GOOD).passed
    assert validation.check(GOOD, FRAME, "y", champion=BAD).passed
    numbers = LinearRegression().fit(FRAME[["x"]], FRAME["x"] * 3)
    result = validation.check(numbers, pd.DataFrame({"x": FRAME["x"], "t": FRAME["x"] * 3}), "t")
    assert result.passed
    assert result.checks[0].figures["r2"] == pytest.approx(1.0)
    assert "all 2 checks passed" in str(result)
    with pytest.raises(InvalidInput, match="lacks what the candidate"):
        validation.check(GOOD, FRAME[["x", "y"]], "y")


def test_the_gate_lets_nothing_pass_that_was_not_shown(platform):
    client = platform.client()
    version = register(client)
    client.models.set_policy("churn", {Stage.STAGING: ["metrics", "latency"]})
    with pytest.raises(ValidationRequired, match="'metrics' has not been run; 'latency' has not been run") as refused:
        client.models.set_stage("churn", "Staging")
    assert "mops models validate churn 1" in refused.value.hint
    passed = CheckResult(name="metrics", passed=True, reason="fine")
    slow = CheckResult(name="latency", passed=False, reason="slow")
    client.models.record_validation("churn", 1, body(version, passed, slow))
    with pytest.raises(ValidationRequired, match="'latency' failed"):
        client.models.set_stage("churn", "Staging")
    client.models.record_validation("churn", 1, body(version, slow.model_copy(update={"passed": True})))
    assert client.models.set_stage("churn", "Staging").stage == "Staging"
    assert client.models.set_stage("churn", "Registration").stage == "Registration"
    client.models.record_validation("churn", 1, body(version, passed, passed.model_copy(update={"passed": False})))
    with pytest.raises(ValidationRequired, match="'metrics' failed"):  # of two runs at once, one failed
        client.models.set_stage("churn", "Staging")


def test_a_result_is_of_one_version_and_of_no_other(platform):
    client = platform.client()
    first = register(client)
    register(client, BAD)
    client.models.set_policy("churn", {"Staging": ["metrics"]})
    client.models.record_validation("churn", 1, body(first))
    with pytest.raises(ValidationRequired):
        client.models.set_stage("churn", "Staging", version=2)
    with pytest.raises(InvalidInput, match=r"not that of churn:2"):
        client.models.record_validation("churn", 2, body(first))


def test_a_result_that_was_edited_in_the_database_does_not_count(platform):
    client = platform.client()
    version = register(client)
    client.models.set_policy("churn", {"Staging": ["metrics"]})
    failed = CheckResult(name="metrics", passed=False, reason="bad", figures={"a": -0.0, "b": 1e300, "c": float("nan")})
    kept = client.models.record_validation("churn", 1, body(version, failed))
    assert kept.checks[0].figures["b"] == 1e300
    with pytest.raises(ValidationRequired):
        client.models.set_stage("churn", "Staging")
    with platform.place.work() as ctx:
        text = json.dumps([{**failed.model_dump(exclude={"figures"}), "passed": True}])
        ctx.session.execute(update(ValidationRow).values(checks=text, passed=True))
    with pytest.raises(SignatureInvalid, match="no longer says"):
        client.models.set_stage("churn", "Staging")


def test_a_rule_may_ask_for_another_than_who_registered(platform):
    client = platform.client()
    version = register(client)
    client.models.set_policy("churn", {"Staging": StageRule(checks=["metrics"], independent=True)})
    client.models.record_validation("churn", 1, body(version))
    with pytest.raises(ValidationRequired) as refused:
        client.models.set_stage("churn", "Staging")
    assert "Another than who registered it" in refused.value.hint
    platform.member("data_scientist").models.record_validation("churn", 1, body(version))
    assert client.models.set_stage("churn", "Staging").stage == "Staging"


def test_data_must_be_what_it_is_said_to_be(sqlite_platform):
    client = sqlite_platform.client()
    version = register(client)
    client.data.create_dataset("holdout")
    held = client.data.create_dataset_version("holdout", FRAME.to_csv(index=False).encode(), format="csv")
    with pytest.raises(InvalidInput, match="is not holdout:1"):
        client.models.record_validation("churn", 1, body(version, dataset_version_id="holdout:1"))
    true = {"dataset_version_id": "holdout:1", "data_digest": held.table_digest, "rows": 300}
    assert client.models.record_validation("churn", 1, body(version, **true)).dataset_version_id == held.id
    with pytest.raises(NotFound):
        client.models.record_validation("churn", 1, body(version, champion="churn:9"))


def test_policies_are_set_by_administrators_and_guarded_by_their_revision(platform):
    client = platform.client()
    register(client)
    nothing = client.models.get_policy("churn")
    assert (nothing.rules, nothing.revision) == ({}, 0)
    made = client.models.set_policy("churn", {"Production": ["metrics"]}, revision=0)
    assert made.revision == 1
    with pytest.raises(PreconditionFailed):
        client.models.set_policy("churn", {}, revision=0)
    with pytest.raises(PermissionDenied):
        platform.member("ml_engineer").models.set_policy("churn", {})
    with pytest.raises(PermissionDenied):
        platform.member("viewer").models.record_validation("churn", 1, body(client.models.get_version("churn")))
    with pytest.raises(InvalidInput, match="before Registration"):
        client.models.set_policy("churn", {"Registration": ["metrics"]})
    assert client.models.set_policy("churn", {}).rules == {}
    with pytest.raises(NotFound):
        platform.stranger().models.get_policy("churn")


def test_a_validation_is_in_the_stream(sqlite_platform):
    client = sqlite_platform.client()
    client.models.record_validation("churn", 1, body(register(client)))
    sqlite_platform.controller.turn()
    kinds = [event.type for event in client.platform.stream_events(follow=False)]
    assert "modelops.models.validation_recorded" in kinds

"""The registry on real databases: provenance that holds, approvals that are one's own word, aliases that follow."""

import contextlib
import threading

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select, update

from modelops.contracts.errors import (
    ArtifactCorrupted,
    InvalidInput,
    ModelRegistryError,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    SignatureInvalid,
)
from modelops.contracts.ports import BlobStore
from modelops.domains.identity import service as identity
from modelops.domains.models import service
from modelops.domains.models.rules import NEXT, AliasRefused, ApprovalRefused, ApprovalRequired
from modelops.domains.models.schemas import ModelSignature, PackageFile, Stage, VersionCreate
from modelops.domains.models.tables import ApprovalRow, ModelVersionRow
from modelops.kernel.tables import EventRow
from modelops.testing.platform import running_platform


def body(client, name="m", content=b"x", **facts):
    artifact = client.data.upload_artifact(content)
    file = PackageFile(path="model.bin", digest=artifact.digest, size=artifact.size)
    given = {"flavour": "sklearn", "files": [file], "signature": ModelSignature(inputs=[{"name": "a"}])}
    return VersionCreate(name=name, **{**given, **facts})


def staged(client, name="m", **facts):
    version = client.models.register_version(body(client, name, **facts))
    for stage in ("Registration", "Staging"):
        client.models.set_stage(name, stage, version=version.version)
    return version


def promote(client, reviewer, version, name="m"):
    asked = client.models.request_approval(name, version)
    reviewer.models.decide_approval(asked.id, approve=True)
    return client.models.set_stage(name, "Production", version=version)


def events(platform, kind):
    query = select(EventRow).where(EventRow.type == f"modelops.models.{kind}").order_by(EventRow.number)
    with platform.place.work(write=False) as ctx:
        return list(ctx.session.scalars(query))


def in_project(platform, client):
    """Return a system context of the client's project, for what the domains above call."""
    me = client.identity.get_me()
    return lambda ctx: ctx.within(me.project_id, me.tenant_id)


# Versions


def test_a_version_knows_what_it_came_from(platform):
    client = platform.client()
    client.experiments.create_experiment("e")
    run = client.experiments.create_run("e")
    client.data.create_dataset("d")
    dataset = client.data.create_dataset_version("d", b"a\n1\n", format="csv")
    version = client.models.register_version(body(client, run_id=run.id, dataset_version_id="d:1"))
    assert (version.run_id, version.job_id, version.dataset_version_id) == (run.id, None, dataset.id)
    event = events(platform, "version_registered")[0]
    assert (event.data["run_id"], event.data["dataset_version_id"]) == (run.id, dataset.id)
    for missing in ({"run_id": "run_nope"}, {"dataset_version_id": "d:9"}, {"dataset_version_id": "other"}):
        with pytest.raises(NotFound):
            client.models.register_version(body(client, **missing))


def test_nothing_of_another_tenant_goes_into_a_version(platform):
    client, stranger = platform.client(), platform.stranger()
    stranger.experiments.create_experiment("e")
    run = stranger.experiments.create_run("e")
    with pytest.raises(NotFound):
        client.models.register_version(body(client, run_id=run.id))
    stranger.data.create_dataset("d")
    dataset = stranger.data.create_dataset_version("d", b"a\n1\n", format="csv")
    with pytest.raises(NotFound):
        client.models.register_version(body(client, dataset_version_id=dataset.id))
    with pytest.raises(NotFound, match="holds no artifact"):
        client.models.register_version(body(stranger, content=b"theirs"))
    assert client.models.list_models().total == 0


def job_client(platform, client, job):
    with platform.place.work() as ctx:
        inside = in_project(platform, client)(ctx)
        token = identity.grant_token(inside, job, ["models.write", "runs.write", "artifacts.write"], ttl_s=600)
    return platform.client(token)


def test_a_job_registers_from_its_own_runs_alone(platform):
    client = platform.client()
    client.experiments.create_experiment("e")
    job = job_client(platform, client, "job_1")
    own, foreign = job.experiments.create_run("e"), client.experiments.create_run("e")
    version = job.models.register_version(body(job, run_id=own.id))
    assert (version.run_id, version.job_id) == (own.id, "job_1")
    assert job.models.register_version(body(job)).job_id == "job_1"
    with pytest.raises(PermissionDenied, match="not this job's"):
        job.models.register_version(body(job, run_id=foreign.id))
    assert client.models.get_model("m").latest_version == 2


def test_a_model_whose_name_is_another_models_id_is_refused(platform):
    client = platform.client()
    version = client.models.register_version(body(client))
    for name in (version.model_id, version.id, "metrics"):
        with pytest.raises(InvalidInput):
            client.models.register_version(body(client, name))
        with pytest.raises(InvalidInput):
            client.models.create_model(name)
    assert client.models.get_model("m").latest_version == 1


def test_new_models_registered_at_once_are_one_model(platform):
    prepared, failures = [body(platform.client(), f"m{n % 3}") for n in range(12)], []

    def register(wanted):
        try:
            platform.client().models.register_version(wanted)
        except Exception as wrong:
            failures.append(wrong)

    threads = [threading.Thread(target=register, args=(wanted,)) for wanted in prepared]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client = platform.client()
    assert not failures
    assert client.models.list_models().total == 3
    for name in ("m0", "m1", "m2"):
        assert [version.version for version in client.models.list_versions(name).items] == [4, 3, 2, 1]
        assert client.models.get_model(name).latest_version == 4


def test_every_way_to_name_a_version_means_the_same(platform):
    client = platform.client()
    first = client.models.register_version(body(client))
    client.models.register_version(body(client, content=b"y"))
    client.models.set_alias("m", "challenger", 1)
    for version in (1, "1", "@challenger", first.id):
        assert client.models.get_version("m", version).id == first.id
    assert client.models.get_version("-", first.id).id == first.id
    assert client.models.get_version(first.model_id, "latest").version == 2
    with pytest.raises(NotFound):
        client.models.get_version("other", first.id)
    with platform.place.work(write=False) as ctx:
        inside = in_project(platform, client)(ctx)
        for ref in ("m:1", "m@challenger", first.id, f"{first.model_id}:1"):
            assert service.resolve_version(inside, ref).id == first.id
        assert service.resolve_version(inside, "m").version == 2
        assert service.get_version_by_id(inside, first.id).aliases == ["challenger"]
        assert first.platform_signature.key_id in service.trusted_keys(inside)
        for ref in ("m:9", "m@", "m@none", "none", "m:x"):
            with pytest.raises((NotFound, InvalidInput)):
                service.resolve_version(inside, ref)


def test_versions_are_found_by_what_is_known_of_them(platform):
    client = platform.client()
    odd = 'a "b" \\ .ü'
    for number, accuracy in enumerate([0.5, 0.9, float("nan"), float("inf"), 0.7], start=1):
        facts = {"metrics": {"accuracy": accuracy, odd: number}, "tags": {"team": f"t{number % 2}", odd: "x"}}
        client.models.register_version(body(client, **facts))
    client.models.register_version(body(client))

    def found(**page):
        return [version.version for version in client.models.list_versions("m", **page).items]

    assert found(filter="metrics.accuracy >= 0.7") == [5, 2]
    assert found(order_by="metrics.accuracy desc")[:3] == [2, 5, 1]
    assert found(filter='tags.team = "t1"') == [5, 3, 1]
    assert found(filter=f'tags.`{odd}` = "x" and metrics.`{odd}` < 3') == [2, 1]
    assert found(filter='stage = "Staging"') == []
    assert found(filter="metrics.none > 0") == []
    assert [one.version for one in client.models.list_metrics(filter="metrics.accuracy > 0.8").items] == [2]
    assert client.models.list_metrics(filter="version = 3").items[0].metrics["accuracy"] != 0
    client.models.update_model("m", tags={"team": "a"})
    assert client.models.list_models(filter='tags.team = "a"').total == 1


def test_pages_of_versions_by_a_metric_miss_none(platform):
    client = platform.client()
    for number in range(7):
        metrics = {"loss": number % 3} if number else {}
        client.models.register_version(body(client, metrics=metrics))
    seen, cursor = [], None
    while True:
        page = client.models.list_versions("m", order_by="metrics.loss desc", limit=2, cursor=cursor)
        seen += [version.version for version in page.items]
        if not (cursor := page.next_cursor):
            break
    assert sorted(seen) == list(range(1, 8))
    assert seen[-1] == 1


# Approvals


def test_the_newest_decision_counts(platform):
    client, reviewer = platform.client(), platform.member("ml_engineer")
    staged(client)
    first, second = client.models.request_approval("m"), client.models.request_approval("m")
    reviewer.models.decide_approval(second.id, approve=True)
    reviewer.models.decide_approval(first.id, approve=False, comment="found a leak")
    with pytest.raises(ApprovalRequired, match="refused") as refused:
        client.models.set_stage("m", "Production")
    assert (refused.value.status, refused.value.code) == (409, "models.approval_required")
    assert "mops models request-approval m 1" in refused.value.hint
    third = client.models.request_approval("m")
    reviewer.models.decide_approval(third.id, approve=True)
    assert client.models.set_stage("m", "Production").stage == "Production"
    assert client.models.list_stage_history("m").items[0].approval_id == third.id


@pytest.mark.parametrize(
    "edit",
    [
        {"requested_by": "usr_other"},
        {"stage": "Staging"},
        {"digest": "sha256:" + "0" * 64},
        {"version": 2},
        {"request_comment": "harmless"},
        {"platform_signature": None},
        {"platform_signature": {"key_id": "k", "algorithm": "ed25519", "value": "AA"}},
        {"platform_signature": {}},
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_a_request_edited_in_the_database_cannot_be_approved(platform, edit):
    client, reviewer = platform.client(), platform.member("ml_engineer")
    staged(client)
    asked = client.models.request_approval("m", comment="please")
    with platform.place.work() as ctx:
        ctx.session.execute(update(ApprovalRow).where(ApprovalRow.id == asked.id).values(**edit))
    with pytest.raises(SignatureInvalid):
        reviewer.models.decide_approval(asked.id, approve=True)
    with pytest.raises(ApprovalRequired):
        client.models.set_stage("m", "Production")


@pytest.mark.parametrize(
    "edit",
    [
        {"decided_by": "usr_other"},
        {"decision_comment": "looked at it"},
        {"requested_by": "usr_other"},
        {"platform_signature": None},
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_an_approval_edited_in_the_database_lets_nothing_pass(platform, edit):
    client, reviewer = platform.client(), platform.member("ml_engineer")
    staged(client)
    asked = client.models.request_approval("m")
    reviewer.models.decide_approval(asked.id, approve=True)
    with platform.place.work() as ctx:
        ctx.session.execute(update(ApprovalRow).where(ApprovalRow.id == asked.id).values(**edit))
    with pytest.raises(SignatureInvalid):
        client.models.set_stage("m", "Production")
    assert client.models.get_version("m").stage == "Staging"
    assert client.models.get_model("m").aliases == {}


def test_an_approval_copied_to_another_version_lets_nothing_pass(platform):
    client, reviewer = platform.client(), platform.member("ml_engineer")
    staged(client)
    other = staged(client, content=b"y")
    asked = client.models.request_approval("m", 1)
    reviewer.models.decide_approval(asked.id, approve=True)
    moved = {"model_version_id": other.id, "version": 2, "digest": other.digest}
    with platform.place.work() as ctx:
        ctx.session.execute(update(ApprovalRow).values(**moved))
    with pytest.raises(SignatureInvalid):
        client.models.set_stage("m", "Production", version=2)


def test_a_version_edited_after_its_approval_does_not_enter_production(platform):
    client, reviewer = platform.client(), platform.member("ml_engineer")
    staged(client)
    asked = client.models.request_approval("m")
    reviewer.models.decide_approval(asked.id, approve=True)
    evil = client.data.upload_artifact(b"evil")
    files = [{"path": "model.pkl", "digest": evil.digest, "size": evil.size}]
    with platform.place.work() as ctx:
        ctx.session.execute(update(ModelVersionRow).values(files=files))
    with pytest.raises(SignatureInvalid):
        client.models.set_stage("m", "Production")


def test_an_approval_is_of_one_digest_alone(platform):
    client, reviewer = platform.client(), platform.member("ml_engineer")
    staged(client)
    asked = client.models.request_approval("m")
    reviewer.models.decide_approval(asked.id, approve=True)
    with platform.place.work() as ctx:
        ctx.session.execute(update(ModelVersionRow).values(digest="sha256:" + "0" * 64))
    with pytest.raises(ApprovalRequired, match="is not approved"):
        client.models.set_stage("m", "Production")


def test_an_approval_outlives_a_rotation_of_keys(platform):
    client, reviewer = platform.client(), platform.member("ml_engineer")
    staged(client)
    asked = client.models.request_approval("m")
    client.identity.rotate_signing_keys("models")
    reviewer.models.decide_approval(asked.id, approve=True)
    client.identity.rotate_signing_keys("models")
    assert client.models.set_stage("m", "Production").stage == "Production"
    assert client.models.verify_version("m").files_checked == 1


def test_a_rolled_back_version_may_return_on_its_approval(platform):
    client, reviewer = platform.client(), platform.member("ml_engineer")
    staged(client)
    promote(client, reviewer, 1)
    client.models.set_stage("m", "Staging", comment="rolled back")
    assert client.models.set_stage("m", "Production").aliases == ["champion"]


def test_approvals_are_asked_for_and_decided_by_the_rules(platform):
    client, reviewer = platform.client(), platform.member("ml_engineer")
    staged(client)
    with pytest.raises(ApprovalRefused, match="needs no approval"):
        client.models.request_approval("m", stage="Staging")
    with pytest.raises(PermissionDenied):
        platform.member("viewer").models.request_approval("m")
    asked = platform.member("data_scientist").models.request_approval("m")
    with pytest.raises(NotFound):
        platform.stranger("ml_engineer").models.decide_approval(asked.id, approve=True)
    assert platform.stranger().models.list_approvals().total == 0
    decided = reviewer.models.decide_approval(asked.id, approve=False, comment="no")
    assert (decided.state, decided.decision_comment) == ("rejected", "no")
    for approve in (True, False):
        with pytest.raises(ApprovalRefused, match="rejected before"):
            reviewer.models.decide_approval(asked.id, approve=approve)
    assert client.models.list_approvals(filter='state = "rejected" and model = "m"').total == 1
    assert client.models.list_approvals(filter='state = "pending"').total == 0
    client.models.set_stage("m", "Retirement")
    with pytest.raises(ApprovalRefused, match="retired"):
        client.models.request_approval("m")


def test_of_two_who_decide_at_once_one_is_heard(platform):
    client = platform.client()
    staged(client)
    asked, outcomes = client.models.request_approval("m"), []

    def decide(reviewer, approve):
        try:
            outcomes.append(reviewer.models.decide_approval(asked.id, approve=approve).state)
        except ApprovalRefused:
            outcomes.append("refused")

    reviewers = [platform.member("ml_engineer") for _ in range(4)]
    threads = [threading.Thread(target=decide, args=(who, n % 2 == 0)) for n, who in enumerate(reviewers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("refused") == 3
    assert client.models.list_approvals().items[0].state in outcomes


# Stages and aliases


def test_champion_goes_back_to_who_is_still_in_production(platform):
    client, reviewer = platform.client(), platform.member("ml_engineer")
    for number in (1, 2, 3):
        staged(client, content=b"%d" % number)
        promote(client, reviewer, number)
    stages = {version.version: version.stage for version in client.models.list_versions("m").items}
    assert set(stages.values()) == {"Production"}
    assert client.models.get_model("m").aliases == {"champion": 3}
    client.models.set_stage("m", "Staging", version=2)
    assert client.models.get_model("m").aliases == {"champion": 3}
    client.models.set_stage("m", "Staging", version=3)
    assert client.models.get_model("m").aliases == {"champion": 1}
    client.models.set_stage("m", "Retraining", version=1)
    assert client.models.get_model("m").aliases == {}
    moved = [(event.type.rpartition(".")[2], event.data["version"]) for event in events(platform, "alias_set")]
    assert moved == [("alias_set", number) for number in (1, 2, 3, 1)]
    assert len(events(platform, "alias_deleted")) == 1


def test_a_champion_that_retires_hands_over_and_takes_its_other_aliases_along(platform):
    client, reviewer = platform.client(), platform.member("ml_engineer")
    for number in (1, 2):
        staged(client, content=b"%d" % number)
        promote(client, reviewer, number)
        client.models.set_alias("m", f"canary{number}", number)
    client.models.set_stage("m", "Retirement", version=2)
    assert client.models.get_model("m").aliases == {"champion": 1, "canary1": 1}
    assert [event.data["alias"] for event in events(platform, "alias_deleted")] == ["canary2"]


def test_aliases_refuse_and_count_changes(platform):
    client = platform.client()
    client.models.register_version(body(client))
    with pytest.raises(AliasRefused, match="newest version by itself"):
        client.models.set_alias("m", "latest", 1)
    with pytest.raises(NotFound, match="no version 2"):
        client.models.set_alias("m", "a", 2)
    before = client.models.get_model("m").revision
    after = client.models.set_alias("m", "a", 1, revision=before)
    assert after.revision == before + 1
    with pytest.raises(PreconditionFailed):
        client.models.set_alias("m", "b", 1, revision=before)
    with pytest.raises(PreconditionFailed):
        client.models.update_model("m", description="x", revision=before)
    client.models.delete_alias("m", "a")
    with pytest.raises(NotFound):
        client.models.delete_alias("m", "a")
    for attempt in (
        lambda who: who.models.set_alias("m", "a", 1),
        lambda who: who.models.delete_alias("m", "a"),
        lambda who: who.models.set_stage("m", "Registration"),
    ):
        with pytest.raises(PermissionDenied):
            attempt(platform.member("data_scientist"))


def test_of_two_who_move_a_version_the_second_learns_of_the_first(platform):
    client = platform.client()
    version = client.models.register_version(body(client))
    client.models.set_stage("m", "Registration", revision=version.revision)
    with pytest.raises(PreconditionFailed):
        client.models.set_stage("m", "Staging", revision=version.revision)
    again = client.models.set_stage("m", "Registration")
    assert client.models.list_stage_history("m").total == 1
    assert again.revision == version.revision + 1


def test_the_history_tells_who_moved_what(platform):
    client = platform.client()
    staged(client)
    client.models.set_stage("m", "Registration", comment="not yet")
    moves = [(move.from_stage, move.to_stage, move.comment) for move in client.models.list_stage_history("m").items]
    assert moves[0] == ("Staging", "Registration", "not yet")
    assert len(moves) == 3
    assert {move.changed_by for move in client.models.list_stage_history("m").items} == {client.identity.get_me().id}
    assert client.models.list_stage_history("m", filter='to_stage = "Staging"').total == 1
    facts = events(platform, "stage_changed")[-1].data
    assert (facts["version"], facts["from_stage"], facts["to_stage"]) == (1, "Staging", "Registration")


class Registry(RuleBasedStateMachine):
    """Whatever is tried, in whatever order: the registry agrees with a model of its rules."""

    platform = None
    number = 0

    @initialize()
    def begin(self):
        type(self).number += 1
        self.name, self.client = f"m{self.number}", self.platform.client()
        self.reviewer = self.platform.reviewer
        self.stages, self.approved = {}, set()

    @rule()
    @precondition(lambda self: len(self.stages) < 3)
    def register(self):
        version = self.client.models.register_version(body(self.client, self.name))
        assert version.version == len(self.stages) + 1
        self.stages[version.version] = Stage.DEVELOPMENT

    @rule(data=st.data(), stage=st.sampled_from(Stage))
    @precondition(lambda self: self.stages)
    def move(self, data, stage):
        version = data.draw(st.sampled_from(sorted(self.stages)))
        present = self.stages[version]
        allowed = stage in NEXT[present] and (stage is not Stage.PRODUCTION or version in self.approved)
        if stage is present or allowed:
            assert self.client.models.set_stage(self.name, stage, version=version).stage is stage
            self.stages[version] = stage
        else:
            with pytest.raises(ModelRegistryError):
                self.client.models.set_stage(self.name, stage, version=version)

    @rule(data=st.data(), approve=st.booleans())
    @precondition(lambda self: self.stages)
    def decide(self, data, approve):
        version = data.draw(st.sampled_from(sorted(self.stages)))
        if self.stages[version] is Stage.RETIREMENT:
            with pytest.raises(ApprovalRefused):
                self.client.models.request_approval(self.name, version)
            return
        asked = self.client.models.request_approval(self.name, version)
        with pytest.raises(PermissionDenied):
            self.client.models.decide_approval(asked.id, approve=approve)
        self.reviewer.models.decide_approval(asked.id, approve=approve)
        (self.approved.add if approve else self.approved.discard)(version)

    @rule(data=st.data(), alias=st.sampled_from(["champion", "challenger"]))
    @precondition(lambda self: self.stages)
    def alias(self, data, alias):
        version = data.draw(st.sampled_from(sorted(self.stages)))
        with contextlib.suppress(AliasRefused):
            self.client.models.set_alias(self.name, alias, version)

    @invariant()
    def stages_are_as_moved_and_aliases_name_what_lives(self):
        if not self.stages:
            return
        versions = {version.version: version for version in self.client.models.list_versions(self.name).items}
        assert {number: version.stage for number, version in versions.items()} == self.stages
        aliases = self.client.models.get_model(self.name).aliases
        assert all(self.stages[number] is not Stage.RETIREMENT for number in aliases.values())
        in_production = {number for number, stage in self.stages.items() if stage is Stage.PRODUCTION}
        assert aliases.get("champion") in in_production if in_production else "champion" not in aliases
        for move in self.client.models.list_stage_history(self.name).items:
            assert (move.approval_id is not None) == (move.to_stage is Stage.PRODUCTION)


def test_the_registry_keeps_its_rules_whatever_is_tried(tmp_path):
    with running_platform(tmp_path / "home") as platform:
        platform.reviewer = platform.member("ml_engineer")
        Registry.platform, Registry.number = platform, 0
        wanted = settings(
            max_examples=8,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        run_state_machine_as_test(Registry, settings=wanted)


# Verification


def test_a_blob_that_is_gone_is_found(platform):
    client = platform.client()
    version = client.models.register_version(body(client, content=b"weights"))
    platform.place.ports[BlobStore].delete(version.files[0].digest)
    with pytest.raises(ArtifactCorrupted, match="gone"):
        client.models.verify_version("m")


def test_a_viewer_may_verify_and_a_stranger_may_not(platform):
    client = platform.client()
    client.models.register_version(body(client, content=b"weights"))
    checked = platform.member("viewer").models.verify_version("m", 1)
    assert (checked.files_checked, checked.bytes_checked) == (1, 7)
    with pytest.raises(NotFound):
        platform.stranger().models.verify_version("m", 1)


def test_a_version_is_verified_outside_of_a_transaction(sqlite_platform):
    client, store = sqlite_platform.client(), sqlite_platform.place.ports[BlobStore]
    client.models.register_version(body(client, content=b"weights"))
    real, written = store.read, []

    def read(digest):
        with sqlite_platform.place.work() as ctx:  # would wait for ever behind a unit of work that verifies
            ctx.session.execute(delete(EventRow).where(EventRow.number < 0))
        written.append(digest)
        return real(digest)

    store.read = read
    try:
        assert client.models.verify_version("m").files_checked == 1
    finally:
        del store.read
    assert written

"""What changes on a model beside its stages: its name, its words, its tags, and its end."""

import asyncio
from dataclasses import replace

import pytest
from starlette.requests import Request

from modelops.contracts.errors import (
    AlreadyExists,
    DeploymentError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    SignatureInvalid,
)
from modelops.domains.models.references import Reference
from modelops.domains.models.rules import DeletionRefused
from modelops.domains.models.schemas import ModelSignature, PackageFile, VersionCreate
from modelops.domains.models.service import register_reference, tag_version
from modelops.domains.models.tables import ModelVersionRow
from modelops.kernel.context import Actor
from modelops.kernel.scope import Scope


def register(client, name="m", **facts):
    artifact = client.data.upload_artifact(b"x")
    file = PackageFile(path="model.bin", digest=artifact.digest, size=artifact.size)
    signature = ModelSignature(inputs=[{"name": "a"}])
    return client.models.register_version(
        VersionCreate(name=name, flavour="sklearn", files=[file], signature=signature, **facts)
    )


def promote(platform, name="m"):
    client = platform.client()
    for stage in ("Registration", "Staging"):
        client.models.set_stage(name, stage)
    asked = client.models.request_approval(name)
    platform.member("ml_engineer").models.decide_approval(asked.id, approve=True)
    return client.models.set_stage(name, "Production")


@pytest.fixture
def admin(platform):
    return platform.client()


def acting(platform):
    """Return a unit of work of the administrator."""
    me = platform.client().identity.get_me()
    return platform.place.work(Actor(me.id, me.name, "user", me.tenant_id, me.project_id, None, frozenset({"*"})))


def test_a_renamed_model_keeps_its_versions_and_they_verify(platform, admin):
    version = register(admin)
    promote(platform)
    renamed = admin.models.rename_model("m", "Größe 2")
    assert (renamed.name, renamed.aliases) == ("Größe 2", {"champion": 1})
    assert renamed.updated_at >= renamed.created_at
    assert admin.models.get_version("Größe 2", 1).id == version.id
    assert admin.models.verify_version("Größe 2", 1).files_checked == 1
    with pytest.raises(NotFound):
        admin.models.get_model("m")
    register(admin)  # the old name is free
    with pytest.raises(AlreadyExists):
        admin.models.rename_model("m", "Größe 2")


def test_an_approval_holds_under_the_new_name(platform, admin):
    register(admin)
    promote(platform)
    admin.models.rename_model("m", "n")
    admin.models.set_stage("n", "Staging")
    assert admin.models.set_stage("n", "Production").aliases == ["champion"]


def test_a_forged_version_is_not_signed_anew(platform, admin):
    version = register(admin)
    with platform.place.work() as ctx:
        ctx.session.get(ModelVersionRow, version.id).flavour = "callable"
    with pytest.raises(SignatureInvalid):
        admin.models.rename_model("m", "n")
    assert admin.models.get_model("m").name == "m"


def test_a_deleted_version_is_gone_and_its_number_is_not_given_again(admin):
    for _ in range(3):
        register(admin)
    admin.models.set_alias("m", "best", 3)
    admin.models.delete_version("m", 3)
    model = admin.models.get_model("m")
    assert (model.latest_version, model.aliases) == (2, {})
    assert [version.version for version in admin.models.list_versions("m").items] == [2, 1]
    assert admin.models.get_version("m").version == 2
    for gone in ("3", "@best"):
        with pytest.raises(NotFound):
            admin.models.get_version("m", gone)
    with pytest.raises(NotFound):
        admin.models.delete_version("m", 3)
    assert {metrics.version for metrics in admin.models.list_metrics().items} == {1, 2}
    assert register(admin).version == 4


def test_a_deleted_model_frees_its_name(admin):
    first = register(admin)
    admin.models.delete_model("m")
    assert admin.models.list_models().items == []
    for gone in ("m", first.model_id):
        with pytest.raises(NotFound):
            admin.models.get_model(gone)
    with pytest.raises(NotFound):
        admin.models.get_version("-", first.id)
    again = register(admin)
    assert (again.version, again.model_id != first.model_id) == (1, True)


def test_production_is_not_deleted(platform, admin):
    register(admin)
    promote(platform)
    with pytest.raises(DeletionRefused):
        admin.models.delete_version("m", 1)
    with pytest.raises(DeletionRefused):
        admin.models.delete_model("m")
    admin.models.set_stage("m", "Retirement")
    admin.models.delete_model("m")


def test_who_registers_does_not_delete(platform, admin):
    register(admin)
    scientist = platform.member("data_scientist")
    for forbidden in (
        lambda: scientist.models.delete_version("m", 1),
        lambda: scientist.models.delete_model("m"),
        lambda: scientist.models.rename_model("m", "n"),
    ):
        with pytest.raises(PermissionDenied):
            forbidden()
    assert scientist.models.update_version("m", 1, description="d", tags={"k": "v"}).tags == {"k": "v"}


def test_a_version_without_files_exists_and_cannot_be_deployed(platform, admin):
    admin.models.create_model("far")
    admin.experiments.create_experiment("trials")
    run = admin.experiments.create_run("trials").id
    with acting(platform) as ctx:
        request = Request({"type": "http", "path": "/", "headers": [], "query_string": b"", "server": ("here", 80)})
        scope = Scope(platform.place, ctx.actor, request, "models.register_reference")
    far = Reference("far", "s3://bucket/model", "It lies elsewhere.", run="run_1", tags={"a": "b"})
    made = asyncio.run(register_reference(scope, far))
    again = asyncio.run(register_reference(scope, replace(far, run=run)))
    with pytest.raises(NotFound):
        asyncio.run(register_reference(scope, replace(far, model="nowhere")))
    with acting(platform) as ctx:
        tag_version(ctx, "far", "1", "key", "v" * 100_000)
    assert admin.models.get_model("far").latest_version == 2
    assert (again.run_id, again.claimed_run, admin.models.get_version("far", 2).run_id) == (run, None, run)
    assert admin.models.verify_version("far", 2).files_checked == 0
    version = admin.models.get_version("far", 1)
    assert version.tags["a"] == "b"
    assert (version.files, version.source, version.claimed_run) == ([], "s3://bucket/model", "run_1")
    assert (version.id, version.flavour, version.run_id) == (made.id, "unpackaged", None)
    assert admin.models.set_stage("far", "Registration", version=1).stage == "Registration"
    with pytest.raises(DeploymentError, match="It lies elsewhere"):
        admin.serving.create_deployment("far", "far:1", replicas=0)


@pytest.mark.parametrize("name", ["a/b", "a:b", "a@b", "-", ".", "..", " ", "metrics", "a\nb"])
def test_a_name_that_would_not_be_one_reference_is_refused(admin, name):
    with pytest.raises((InvalidInput, ValueError)):
        admin.models.create_model(name)


@pytest.mark.parametrize("name", ["模型", "a b?c#d%2F&e", "Größe 2", "'; drop table models --"])
def test_a_name_may_have_any_script(admin, name):
    assert admin.models.create_model(name).name == name
    assert admin.models.get_model(name).name == name
    assert admin.models.rename_model(name, f"{name}!").name == f"{name}!"
    admin.models.delete_model(f"{name}!")


def test_only_mlflow_may_leave_the_inputs_open(admin):
    artifact = admin.data.upload_artifact(b"flavors: {python_function: {loader_module: mlflow.sklearn}}\n")
    file = PackageFile(path="MLmodel", digest=artifact.digest, size=artifact.size)
    body = VersionCreate(name="m", flavour="sklearn", files=[file], signature=ModelSignature(inputs=[]))
    with pytest.raises(InvalidInput):
        admin.models.register_version(body)
    open_inputs = admin.models.register_version(body.model_copy(update={"flavour": "mlflow"}))
    assert "without a signature" in open_inputs.undeployable

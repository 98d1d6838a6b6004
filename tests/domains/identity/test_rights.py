"""Rights never grow by themselves: roles, members, keys of others, tenants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.contracts.errors import AlreadyExists, Conflict, InvalidInput, MLOpsError, NotFound, PermissionDenied
from modelops.contracts.roles import Role
from modelops.domains.identity.rules import administers, check_grant, parse_x_actor

roles = st.sampled_from(list(Role))


@given(own=st.none() | roles, granted=roles)
def test_nobody_grants_a_role_above_his_own(own, granted):
    try:
        check_grant(own, granted)
    except MLOpsError:
        return
    assert own is not None
    assert own.includes(granted)
    assert granted is not Role.PLATFORM_ADMIN


@given(st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)))
def test_only_who_administers_all_of_anothers_projects_manages_it(admin_of, member_of):
    assert administers(admin_of, member_of) == (bool(member_of) and all(project in admin_of for project in member_of))


@given(st.text(max_size=60))
def test_any_development_header_is_read_or_refused(text):
    try:
        user, fields = parse_x_actor(text)
    except MLOpsError:
        return
    assert user
    assert fields.get("role", "viewer") in set(Role)


@pytest.mark.parametrize("role", ["viewer", "data_scientist", "ml_engineer"])
def test_a_member_without_the_permission_is_refused(platform, role):
    member = platform.member(role)
    for attempt in (
        lambda: member.identity.create_user("x"),
        lambda: member.identity.create_service_account("x"),
        lambda: member.identity.create_project("x"),
        lambda: member.identity.create_tenant("x"),
        lambda: member.identity.rotate_signing_keys(),
        lambda: member.identity.list_audit_records(),
        lambda: member.identity.set_member("default", "admin", "viewer"),
        lambda: member.identity.update_project("default", description="mine"),
        lambda: member.identity.create_api_key("k", principal="admin"),
    ):
        with pytest.raises(PermissionDenied):
            attempt()


def test_a_stranger_sees_nothing(platform):
    admin = platform.client()
    admin.identity.create_user("eve")
    project, tenant = admin.identity.get_me().project_id, admin.identity.get_me().tenant
    key = admin.identity.create_api_key("k", principal="eve")
    stranger = platform.stranger()
    for attempt in (
        lambda: stranger.identity.get_user("eve"),
        lambda: stranger.identity.update_user("eve", disabled=True),
        lambda: stranger.identity.get_project(project),
        lambda: stranger.identity.list_members(project),
        lambda: stranger.identity.get_tenant(tenant),
        lambda: stranger.identity.revoke_api_key(key.id),
        lambda: stranger.identity.create_api_key("k", principal="eve"),
        lambda: (
            platform.http(authorization=stranger.rest.http.headers["authorization"], x_project=project)
            .get("/v1/me")
            .raise_for_status()
        ),
    ):
        with pytest.raises(Exception, match=r"no |404"):
            attempt()
    assert [tenant.name for tenant in stranger.identity.list_tenants().items] != ["default"]
    assert "eve" not in {user.name for user in stranger.identity.list_users().items}


def test_an_administrator_of_one_project_cannot_take_over_a_member_of_another(platform):
    admin = platform.client()
    admin.identity.create_project("secret")
    platform.client(project="secret").identity.create_user("eve", role="project_admin")
    admin.identity.set_member("default", "eve", "viewer")
    local_admin = platform.member("project_admin")
    with pytest.raises(PermissionDenied):
        local_admin.identity.create_api_key("k", principal="eve")
    with pytest.raises(PermissionDenied):
        local_admin.identity.update_user("eve", disabled=True)
    with pytest.raises(PermissionDenied):
        local_admin.identity.create_api_key("k", principal="admin")


def test_a_role_changes_and_ends_at_once(platform):
    admin = platform.client()
    member = platform.member("viewer", name="bob")
    admin.identity.set_member("default", "bob", "ml_engineer")
    assert member.identity.get_me().role == "ml_engineer"
    admin.identity.remove_member("default", "bob")
    with pytest.raises(NotFound, match="no project"):
        member.identity.get_me()


def test_the_last_administrator_stays(platform):
    admin = platform.client()
    with pytest.raises(Conflict, match="last administrator"):
        admin.identity.remove_member("default", "admin")


def test_names_are_taken_once(platform):
    admin = platform.client()
    admin.identity.create_project("p")
    with pytest.raises(AlreadyExists):
        admin.identity.create_project("p")
    admin.identity.create_user("u")
    with pytest.raises(AlreadyExists):
        admin.identity.create_service_account("u")
    with pytest.raises(InvalidInput):
        admin.identity.create_user("boss", role="platform_admin")
    with pytest.raises(NotFound):
        admin.identity.get_service_account("u")


def test_only_a_platform_administrator_makes_another(platform):
    admin = platform.client()
    admin.identity.create_user("eve", role="project_admin")
    eve = platform.client(admin.identity.create_api_key("k", principal="eve").secret)
    with pytest.raises(PermissionDenied, match="platform administrator"):
        eve.identity.update_user("eve", platform_admin=True)
    admin.identity.update_user("eve", platform_admin=True)
    assert eve.identity.create_tenant("hers").name == "hers"
    with pytest.raises(Conflict, match="from yourself"):
        eve.identity.update_user("eve", platform_admin=False)
    admin.identity.update_user("eve", platform_admin=False)
    with pytest.raises(PermissionDenied):
        eve.identity.create_tenant("more")

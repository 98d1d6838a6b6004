"""Nobody gets in but who should: keys, tokens, the development header, expiry, revocation and rotation."""

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelops.contracts.errors import NotFound, PermissionDenied, Unauthenticated
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def timed(tmp_path, clock):
    with running_platform(tmp_path / "home", clock=clock) as platform:
        yield platform


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic abc",
        "Bearer nope",
        "Bearer mops_nope",
        "Bearer a.b.c",
        "Bearer " + "x" * 5000,
        "bearer\tx",
    ],
)
def test_wrong_credentials_are_nobody(platform, header):
    answer = platform.http(authorization=header).get("/v1/me")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_without_credentials_only_probes_and_public_keys_answer(platform):
    http = platform.http()
    for path, method in _operations(platform):
        status = http.request(method, path).status_code
        assert (status in (200, 503)) == (path in {"/healthz", "/readyz", "/.well-known/jwks.json"}), path
        signed = path.startswith(
            "/v1/pipeline-hooks/"
        )  # who sends there is told by a signature, and others find nothing
        assert status == 404 if signed else status in (200, 401, 503), (path, status)


def _operations(platform):
    for path, methods in platform.app.openapi()["paths"].items():
        for method in methods:
            yield path.replace("{", "").replace("}", ""), method.upper()


def test_an_expired_key_and_an_expired_token_end(timed, clock):
    admin = timed.client()
    key = admin.identity.create_api_key("short", expires_in_days=1)
    token = timed.client(key.secret).identity.issue_token(expires_in_s=60).access_token
    assert timed.client(key.secret).identity.get_me().name == "admin"
    clock.advance(86_401)
    with pytest.raises(Unauthenticated, match="expired"):
        timed.client(key.secret).identity.get_me()
    with pytest.raises(Unauthenticated):
        timed.client(token).identity.get_me()


def test_a_revoked_key_ends_with_the_tokens_issued_on_it(platform):
    admin = platform.client()
    key = admin.identity.create_api_key("doomed")
    token = platform.client(key.secret).identity.issue_token().access_token
    assert platform.client(token).identity.get_me().name == "admin"
    admin.identity.revoke_api_key(key.id)
    for credential in (key.secret, token):
        with pytest.raises(Unauthenticated, match="revoked"):
            platform.client(credential).identity.get_me()


def test_a_secret_is_not_kept(platform):
    key = platform.client().identity.create_api_key("once")
    assert key.secret not in str(platform.client().identity.list_api_keys().items)
    assert platform.client(key.secret).identity.get_me().name == "admin"


def test_a_disabled_user_can_do_nothing(platform):
    admin = platform.client()
    user = admin.identity.create_user("eve", role="ml_engineer")
    key = admin.identity.create_api_key("k", principal="eve")
    eve = platform.client(key.secret)
    assert eve.identity.get_me().role == "ml_engineer"
    admin.identity.update_user(user.id, disabled=True)
    with pytest.raises(Unauthenticated, match="disabled"):
        eve.identity.get_me()


def test_tokens_survive_a_rotation_and_new_ones_use_the_new_key(platform):
    admin = platform.client()
    old = admin.identity.issue_token().access_token
    rotated = admin.identity.rotate_signing_keys()
    new = admin.identity.issue_token().access_token
    assert jwt.get_unverified_header(new)["kid"] == rotated.id != jwt.get_unverified_header(old)["kid"]
    for token in (old, new):
        assert platform.client(token).identity.get_me().name == "admin"
    published = {key["kid"] for key in platform.http().get("/.well-known/jwks.json").json()["keys"]}
    assert {jwt.get_unverified_header(token)["kid"] for token in (old, new)} <= published


def test_a_token_of_another_key_or_algorithm_is_refused(platform):
    token = platform.client().identity.issue_token().access_token
    claims = jwt.decode(token, options={"verify_signature": False})
    header = {"kid": jwt.get_unverified_header(token)["kid"]}
    forged = [
        jwt.encode(claims, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers=header),
        jwt.encode(claims, "secret" * 8, algorithm="HS256", headers=header),
        jwt.encode(claims, None, algorithm="none", headers=header),
        token[:-4] + "AAAA",
    ]
    for attempt in forged:
        assert platform.http(authorization=f"Bearer {attempt}").get("/v1/me").status_code == 401


def test_a_narrowed_token_can_do_only_what_it_names(platform):
    token = platform.client().identity.issue_token(permissions=["principals.read"]).access_token
    narrowed = platform.client(token)
    assert narrowed.identity.list_users().items
    with pytest.raises(PermissionDenied):
        narrowed.identity.create_user("x")
    again = narrowed.identity.issue_token(permissions=["principals.read", "principals.write"]).access_token
    with pytest.raises(PermissionDenied):
        platform.client(again).identity.create_user("x")


def test_a_token_is_for_its_project_alone(platform):
    admin = platform.client()
    admin.identity.create_project("other")
    token = admin.identity.issue_token(project="default").access_token
    with pytest.raises(NotFound):
        platform.client(token, project="other").identity.get_me()


@pytest.mark.parametrize(
    "header",
    ["", "|role=viewer", "bob|role=king", "bob|tenant=nowhere", "bob|nope=1", "bob|role=", "bob|tenant"],
)
def test_a_development_header_that_cannot_be_read_is_nobody(sqlite_platform, header):
    assert sqlite_platform.http(x_actor=header).get("/v1/me").status_code == 401


def test_the_development_header_works_in_development_here(sqlite_platform):
    me = sqlite_platform.http(x_actor="bob|tenant=default|role=data_scientist").get("/v1/me").json()
    assert (me["name"], me["role"]) == ("bob", "data_scientist")


@pytest.mark.parametrize("settings", [{"environment": "production"}, {"host": "0.0.0.0"}])
def test_the_development_header_is_refused_elsewhere(tmp_path, settings):
    with running_platform(tmp_path / "home", **settings) as platform:
        answer = platform.http(x_actor="bob|tenant=default|role=platform_admin").get("/v1/me")
        assert answer.status_code == 401


def test_the_development_header_is_refused_from_another_machine_and_behind_a_proxy(sqlite_platform):
    from modelops.domains.identity.authentication import identify
    from modelops.kernel.callers import Credentials

    with sqlite_platform.place.work(write=False) as ctx, pytest.raises(Unauthenticated):
        identify(ctx, Credentials(None, "bob|role=platform_admin", None, local=False))
    http = sqlite_platform.http(x_actor="bob|role=platform_admin", x_forwarded_for="203.0.113.9")
    assert http.get("/v1/me").status_code == 401


def test_the_development_header_is_refused_to_a_page_whose_name_was_rebound(tmp_path):
    import httpx

    from modelops.testing.process import platform_process

    with platform_process(tmp_path / "home") as platform:
        header = {"X-Actor": "bob|role=platform_admin"}
        assert httpx.get(f"{platform.url}/v1/me", headers=header).status_code == 200
        rebound = {**header, "Host": "evil.example.org"}
        assert httpx.get(f"{platform.url}/v1/me", headers=rebound).status_code == 401

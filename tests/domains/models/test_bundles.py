"""Signatures in the OpenSSF format: OpenSSF's own tool believes ours, we believe its, and neither a changed file."""

import json
import subprocess
import sys

import model_signing
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sqlalchemy import update

from modelops.contracts.errors import InvalidInput, MLOpsError, SignatureInvalid
from modelops.domains.models import bundles
from modelops.domains.models.packages import files_of
from modelops.domains.models.schemas import PackageFile
from modelops.domains.models.tables import ModelVersionRow
from modelops.sdk.registry import ModelRegistry

MODEL = LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])


def openssf(*arguments):
    """Run OpenSSF's own command."""
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def verified(folder, key):
    return openssf("verify", "key", folder, "--signature", folder / "model.sig", "--public_key", key)


@pytest.fixture
def downloaded(sqlite_platform, tmp_path):
    """A registered version's folder, and the platform's public key in a file."""
    client = sqlite_platform.client()
    ModelRegistry(client).register_model("m", MODEL, sample=[[1.0], [2.0]])
    ModelRegistry(client).download_model("m:1", tmp_path / "model")
    key = tmp_path / "key.pem"
    key.write_text(client.models.sign_version("m").public_key)
    return tmp_path / "model", key


def test_openssf_s_own_tool_verifies_what_was_downloaded(downloaded):
    folder, key = downloaded
    assert {path.name for path in folder.iterdir()} == {
        "compiled",
        "model.pkl",
        "sample.json",
        "reference.json",
        "model.sig",
    }
    done = verified(folder, key)
    assert done.returncode == 0, done.stderr

    for tamper in (
        lambda: (folder / "model.pkl").write_bytes(b"other"),
        lambda: (folder / "more.pkl").write_bytes(b"x"),
        lambda: (folder / "sample.json").unlink(),
    ):
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        tamper()
        assert verified(folder, key).returncode != 0
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            path.unlink()
        for path, content in before.items():
            path.write_bytes(content)
    model_signing.verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, folder / "model.sig")


def test_what_their_tool_signed_is_verified_here(sqlite_platform, downloaded, tmp_path):
    client, (folder, _) = sqlite_platform.client(), downloaded
    private = ec.generate_private_key(ec.SECP384R1())
    (tmp_path / "private.pem").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = pem(private)
    (folder / "model.sig").unlink()
    signature = tmp_path / "theirs.sig"
    done = openssf("sign", "key", folder, "--signature", signature, "--private_key", tmp_path / "private.pem")
    assert done.returncode == 0, done.stderr
    theirs = json.loads(signature.read_text())

    checked = client.models.verify_bundle("m", 1, bundle=theirs, public_key=public)
    assert (checked.signed_by, checked.files_checked) == (bundles.fingerprint(public), 4)
    with pytest.raises(SignatureInvalid, match="not signed by this key"):
        client.models.verify_bundle("m", 1, bundle=theirs, public_key=client.models.sign_version("m").public_key)
    ModelRegistry(client).register_model("m", LinearRegression().fit([[1.0], [2.0]], [7.0, 2.0]), sample=[[1.0], [2.0]])
    with pytest.raises(SignatureInvalid, match=r"differ in: .*model\.pkl"):
        client.models.verify_bundle("m", 2, bundle=theirs, public_key=public)


def test_a_version_changed_behind_the_platform_s_back_is_not_signed(platform):
    client = platform.client()
    version = ModelRegistry(client).register_model("m", MODEL)
    with platform.place.work() as ctx:
        changed = {**version.files[0].model_dump(), "digest": "sha256:" + "0" * 64}
        ctx.session.execute(update(ModelVersionRow).values(files=[changed]))
    with pytest.raises(SignatureInvalid):
        client.models.sign_version("m")


def test_rotation_makes_a_new_key_and_keeps_old_bundles(platform):
    client = platform.client()
    ModelRegistry(client).register_model("m", MODEL)
    before = client.models.sign_version("m")
    client.identity.rotate_signing_keys("bundles")
    after = client.models.sign_version("m")

    assert after.signed_by != before.signed_by
    for signed_then in (before, after):
        key = signed_then.public_key
        assert client.models.verify_bundle("m", 1, bundle=signed_then.bundle, public_key=key).files_checked == 2


def test_a_folder_that_is_not_empty_is_left_alone(sqlite_platform, tmp_path):
    registry = ModelRegistry(sqlite_platform.client())
    registry.register_model("m", MODEL)
    (tmp_path / "mine").write_text("x")
    with pytest.raises(InvalidInput, match="not empty"):
        registry.download_model("m", tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["mine"]


# The format


FILES = [PackageFile(path=path, digest=f"sha256:{digit * 64}", size=1) for path, digit in (("b", "1"), ("a/c", "2"))]
KEY = ec.generate_private_key(ec.SECP256R1())


def pem(private):
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def signed(payload, key=KEY):
    from cryptography.hazmat.primitives import hashes

    from modelops.contracts.signing import preauth

    signature = key.sign(preauth(bundles.PAYLOAD_TYPE, payload), ec.ECDSA(hashes.SHA256()))
    return bundles.bundle(payload, signature, pem(key))


def test_a_bundle_is_over_the_files_in_any_order():
    document = signed(bundles.statement("m", FILES))
    assert bundles.verify(document, pem(KEY), FILES[::-1]) == bundles.fingerprint(pem(KEY))
    with pytest.raises(SignatureInvalid):
        bundles.verify(document, pem(KEY), FILES[:1])


@pytest.mark.parametrize(
    "edit",
    [
        lambda statement: statement.update(_type="other"),
        lambda statement: statement["predicate"]["serialization"].update(method="shards"),
        lambda statement: statement["predicate"]["resources"].append({"name": "z", "digest": "00"}),
        lambda statement: statement["predicate"]["resources"].append({"name": ["z"], "digest": "00"}),
        lambda statement: statement["subject"].clear(),
        lambda statement: statement.update(predicate=[]),
    ],
)
def test_a_statement_of_another_kind_is_refused(edit):
    statement = json.loads(bundles.statement("m", FILES))
    edit(statement)
    with pytest.raises((InvalidInput, SignatureInvalid)):
        bundles.verify(signed(json.dumps(statement).encode()), pem(KEY), FILES)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(place=st.sampled_from(["dsseEnvelope", "payload", "signatures", "sig", "payloadType"]), value=JSON)
def test_no_bundle_breaks_it(place, value):
    document = signed(bundles.statement("m", FILES))
    envelope = document["dsseEnvelope"]
    target = {"dsseEnvelope": document, "sig": envelope["signatures"][0]}.get(place, envelope)
    target[place] = value
    with pytest.raises(MLOpsError):
        bundles.verify(document, pem(KEY), FILES)


@given(JSON)
def test_no_statement_breaks_it(value):
    with pytest.raises(MLOpsError):
        bundles.verify(signed(json.dumps(value).encode()), pem(KEY), FILES)


@pytest.mark.parametrize("key", ["", "x", pem(ec.generate_private_key(ec.SECP256K1())), "ed25519"])
def test_keys_of_other_kinds(key):
    if key == "ed25519":
        key = pem(ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(InvalidInput, match="public key"):
        bundles.verify(signed(bundles.statement("m", FILES)), key, FILES)


def test_their_library_reads_our_statement(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"w")
    files = files_of(tmp_path / "model")
    (tmp_path / "sig").write_text(json.dumps(signed(bundles.statement("anything", files))))
    (tmp_path / "key").write_text(pem(KEY))
    config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "key")
    config.verify(tmp_path / "model", tmp_path / "sig")

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelops.contracts import signing
from modelops.contracts.errors import ArtifactCorrupted, InvalidInput, SignatureInvalid
from modelops.domains.models.packages import (
    STATEMENT_TYPE,
    Statement,
    check_paths,
    digest_of,
    files_of,
    statement,
    verify_package,
)
from modelops.domains.models.schemas import Feature, ModelSignature, PackageFile

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
TRUSTED = {signing.key_id(PUBLIC): signing.encode(PUBLIC)}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "package" / "data").mkdir(parents=True)
    (tmp_path / "package" / "model.pkl").write_bytes(b"weights")
    (tmp_path / "package" / "data" / "sample.json").write_bytes(b"{}")
    return tmp_path / "package"


def fields(files):
    return {
        "name": "tumours",
        "version": 1,
        "project_id": "prj_1",
        "model_version_id": "mver_1",
        "flavour": "sklearn",
        "digest": digest_of(files),
        "files": files,
        "signature": ModelSignature(inputs=[Feature(name="x")]),
    }


def signed(files):
    given = fields(files)
    return Statement(**given), signing.sign(KEY, STATEMENT_TYPE, statement(**given))


def test_a_package_as_it_was_signed_passes(folder):
    files = files_of(folder)
    assert [file.path for file in files] == ["data/sample.json", "model.pkl"]
    subject, signature = signed(files)

    assert verify_package(folder, subject, signature, TRUSTED) == 9
    assert verify_package(lambda file: [(folder / file.path).read_bytes()], subject, signature, TRUSTED) == 9


def test_the_order_of_files_does_not_matter(folder):
    files = files_of(folder)

    assert digest_of(files) == digest_of(files[::-1])
    assert statement(**fields(files)) == statement(**fields(files[::-1]))
    assert json.loads(statement(**fields(files)))["model_version_id"] == "mver_1"


def test_a_changed_file_is_found(folder):
    subject, signature = signed(files_of(folder))
    (folder / "model.pkl").write_bytes(b"weightz")

    with pytest.raises(ArtifactCorrupted, match=r"model\.pkl"):
        verify_package(folder, subject, signature, TRUSTED)


def test_a_missing_and_an_extra_file_are_found(folder):
    subject, signature = signed(files_of(folder))
    (folder / "more.py").write_bytes(b"")
    with pytest.raises(ArtifactCorrupted, match=r"does not list: more\.py"):
        verify_package(folder, subject, signature, TRUSTED)
    (folder / "more.py").rename(folder / "data" / "sample.json")
    (folder / "model.pkl").unlink()
    with pytest.raises(ArtifactCorrupted):
        verify_package(folder, subject, signature, TRUSTED)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_links_are_never_followed(folder, tmp_path, what):
    subject, signature = signed(files_of(folder))
    if what == "file":
        (folder / "model.pkl").rename(tmp_path / "outside")
        (folder / "model.pkl").symlink_to(tmp_path / "outside")
    else:
        (folder / "data").rename(tmp_path / "outside")
        (folder / "data").symlink_to(tmp_path / "outside")

    with pytest.raises(ArtifactCorrupted, match="holds a link"):
        verify_package(folder, subject, signature, TRUSTED)


def test_the_signature_comes_before_any_file(folder):
    subject, signature = signed(files_of(folder))

    def untouchable(_file):
        raise AssertionError("a file was read before the signature was checked")

    changed = subject.model_copy(update={"version": 2})
    for wrong, trusted in ((changed, TRUSTED), (subject, {})):
        with pytest.raises(SignatureInvalid):
            verify_package(untouchable, wrong, signature, trusted)


def test_a_digest_of_other_files_is_refused_though_it_is_signed(folder):
    files = files_of(folder)
    given = fields(files) | {"digest": digest_of(files[:1])}
    signature = signing.sign(KEY, STATEMENT_TYPE, statement(**given))

    with pytest.raises(SignatureInvalid, match="not the digest of the files"):
        verify_package(folder, Statement(**given), signature, TRUSTED)


@pytest.mark.parametrize(
    "paths", [["a/../../b"], ["a/.."], ["a//b"], ["a/./b"], ["a/"], ["a", "a"], ["a", "a/b"], ["a/b/c", "a/b"]]
)
def test_paths_that_lead_out_or_clash_are_refused(paths):
    files = [PackageFile(path=path, digest=f"sha256:{'0' * 64}", size=0) for path in paths]

    with pytest.raises(InvalidInput):
        check_paths(files)

"""Ensembles and chains that the platform puts together from registered versions."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from modelops.contracts.errors import InvalidInput, NotFound, PermissionDenied
from modelops.domains.models.compositions import DOCUMENT
from modelops.domains.models.rules import ScanRefused
from modelops.domains.models.schemas import PackageFile, VersionCreate
from modelops.sdk.registry import ModelRegistry

NAMES = ["a", "b"]
X = np.random.default_rng(0).normal(size=(40, 2))
Y = (X[:, 0] > 0).astype(int)


@pytest.fixture
def registry(platform):
    with ModelRegistry(platform.client()) as opened:
        opened.register_model("line", LogisticRegression().fit(X, Y), sample=X, feature_names=NAMES)
        opened.register_model("tree", DecisionTreeClassifier(random_state=0).fit(X, Y), sample=X, feature_names=NAMES)
        yield opened


@pytest.fixture
def models(registry):
    return registry.client.models


def registered(models, version, **changes):
    """Register a version's files once more."""
    body = {"name": "again", "flavour": version.flavour, "files": version.files, "signature": version.signature}
    return models.register_version(VersionCreate.model_validate({**body, "runs_code": True, **changes}))


def with_document(registry, version, change):
    """Return a version's files with another `ensemble.json`."""
    old = next(file for file in version.files if file.path == DOCUMENT)
    document = json.loads(registry.client.data.download_artifact(old.digest))
    change(document)
    content = json.dumps(document).encode()
    digest = registry.client.data.upload_artifact(content).digest
    new = PackageFile(path=DOCUMENT, digest=digest, size=len(content))
    return [*(file for file in version.files if file.path != DOCUMENT), new]


def test_an_ensemble_of_versions(models, registry):
    models.set_alias("tree", "best", 1)
    version = models.register_ensemble("both", ["line", "tree@best"], weights=[1, 3], tags={"k": "v"})
    assert (version.flavour, version.runs_code, version.undeployable) == ("ensemble", False, None)
    assert [feature.name for feature in version.signature.inputs] == NAMES
    forms = [models.get_version(name).serving.runs for name in ("line", "tree")]
    assert version.serving.why == f"Each member runs in its own form: line:1 as {forms[0]}; tree:1 as {forms[1]}."
    held = {file.path: file.digest for file in version.files}
    for place, name in enumerate(("line", "tree")):
        own = {f"members/{place}/{file.path}": file.digest for file in models.get_version(name).files}
        assert own.items() <= held.items()
    models.verify_version("both")
    reference = json.loads(registry.client.data.download_artifact(held["reference.json"]))
    assert [column["name"] for column in reference["inputs"]] == NAMES
    assert reference["outputs"] == []
    lineage = models.get_lineage("both")
    assert [(node.relation, node.name) for node in lineage.upstream] == [("made of", "line:1"), ("made of", "tree:1")]
    assert [node.name for node in models.get_lineage("tree").downstream] == ["both:1"]


def test_what_it_is_made_of_may_go_and_its_files_stay(models):
    models.register_ensemble("both", ["line", "tree"])
    models.delete_model("tree")
    assert models.verify_version("both").files_checked > 4
    assert [node.name for node in models.get_lineage("both").upstream] == ["line:1", "tree:1"]


def test_members_that_do_not_fit_together(models, registry):
    registry.register_model("other", LinearRegression().fit(X, Y), sample=X, feature_names=["a", "c"])
    with pytest.raises(InvalidInput, match="'b' is one of line:1's, and not of other:1's"):
        models.register_ensemble("both", ["line", "other"])
    registry.register_model("whole", LinearRegression().fit(X, Y), sample=X.astype(int), feature_names=NAMES)
    with pytest.raises(InvalidInput, match="'a': line:1 takes it as number, and whole:1 as integer"):
        models.register_ensemble("both", ["line", "whole"])
    with pytest.raises(InvalidInput, match="2 members and 1 weights"):
        models.register_ensemble("both", ["line", "tree"], weights=[1])
    with pytest.raises(NotFound, match="no model 'nobody'"):
        models.register_ensemble("both", ["line", "nobody"])


def test_a_chain_of_versions_that_do_not_fit(models):
    with pytest.raises(InvalidInput, match="The step line:1 gives 1 columns, and the step tree:1 takes 2"):
        models.register_chain("chain", ["line", "tree"])
    version = models.register_chain("chain", ["line", "tree"], pass_on="probabilities")
    assert version.flavour == "chain"


def test_a_member_that_has_no_files(models, registry):
    registry.client.rest.request("POST", "/models", json={"name": "empty"})
    with pytest.raises(NotFound, match="no versions yet"):
        models.register_ensemble("both", ["line", "empty"])


def test_a_member_that_is_retired(models):
    models.set_stage("tree", "Retirement")
    with pytest.raises(InvalidInput, match=r"tree:1 cannot be a member\. It is retired"):
        models.register_ensemble("both", ["line", "tree"])


def test_a_package_that_claims_to_be_of_a_version_has_that_ones_files(models, registry):
    version = models.register_ensemble("both", ["line", "tree"])
    swapped = [
        file.model_copy(update={"path": file.path.replace("members/0/", "members/x/")}) for file in version.files
    ]
    swapped = [
        file.model_copy(
            update={"path": file.path.replace("members/1/", "members/0/").replace("members/x/", "members/1/")}
        )
        for file in swapped
    ]
    with pytest.raises(InvalidInput, match="says that it is line:1, and has other files"):
        registered(models, version, files=swapped)
    for path, words in (("members/1/", "no files of its part 'members/1/'"), (DOCUMENT, "has a file 'ensemble.json'")):
        with pytest.raises(InvalidInput, match=words):
            registered(models, version, files=[file for file in version.files if not file.path.startswith(path)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda document: document.pop("method"), "has a method"),
        (lambda document: document.update(kind="chain", method=None), "describes a model of the kind 'chain'"),
        (lambda document: document["members"][0].update(weight=-1), "members.0.weight"),
        (lambda document: document["members"][0].update(flavour="callable"), "has other files"),
        (lambda document: document.update(format=2), "format"),
    ],
)
def test_a_description_that_is_none(models, registry, change, words):
    version = models.register_ensemble("both", ["line", "tree"])
    with pytest.raises(InvalidInput, match=words):
        registered(models, version, files=with_document(registry, version, change))


def test_a_member_of_nobody_is_judged_by_its_own_flavour(models, registry):
    """What no registered version vouches for is scanned as if it were registered alone."""
    registry.register_model("code", lambda rows: rows[:, 0], sample=X, feature_names=NAMES)
    version = models.register_ensemble("both", ["line", "code"], method="vote")
    assert version.runs_code

    def unnamed(document):
        document["members"][1].update(version_id=None, flavour="sklearn")

    files = with_document(registry, version, unnamed)
    with pytest.raises(ScanRefused, match="brings code"):
        registered(models, version, files=files, runs_code=False)
    assert registered(models, version, files=files).runs_code


def test_who_may_register_may_compose(platform, registry):
    with pytest.raises(PermissionDenied):
        platform.member("viewer").models.register_ensemble("both", ["line", "tree"])


def test_the_same_ensemble_twice_is_the_same_package(models):
    first, second = (models.register_ensemble("both", ["line", "tree"]) for _ in range(2))
    assert (first.version, second.version) == (1, 2)
    assert first.digest == second.digest

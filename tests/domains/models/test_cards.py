"""Model cards, lineage and comparisons: what is known of versions, read together."""

import math

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from modelops.contracts.errors import InvalidInput, NotFound, PermissionDenied, PreconditionFailed
from modelops.domains.models.validation.schemas import CheckResult, ValidationCreate
from modelops.domains.models.yaml import to_yaml
from modelops.sdk.registry import ModelRegistry

ROWS = np.array([[n, n % 7] for n in range(40)], dtype=float)
CSV = b"a,b,target\n" + b"".join(b"%d,%d,%d\n" % (n, n % 7, n > 20) for n in range(40))


@pytest.fixture
def told(platform):
    client = platform.client()
    client.data.create_dataset("numbers")
    raw = client.data.create_dataset_version("numbers", CSV, format="csv")
    client.data.create_dataset_version("numbers", CSV + b"1,1,1\n", format="csv", parents=["numbers:1"])
    client.experiments.create_experiment("trials")
    run = client.experiments.create_run("trials", name="first", parameters={"C": 1.0, "solver": "lbfgs"})
    client.experiments.log_batch(run.id, metrics=[{"key": "loss", "value": 0.4}])
    registry = ModelRegistry(client)
    model = LogisticRegression(max_iter=1000).fit(ROWS, ROWS[:, 0] > 20)
    registry.register_model(
        "churn", model, sample=ROWS, feature_names=["a", "b"], metrics={"accuracy": 0.9}, experiment_id=run.id,
        dataset_version_id="numbers:2", code="print()", description="Who will leave.", tags={"team": "crm"},
    )  # fmt: skip
    registry.register_model(
        "churn", model, sample=ROWS, feature_names=["a", "c"], metrics={"accuracy": 0.95}, parent="churn:1",
        parameters={"C": 2.0}, stage="Registration",
    )  # fmt: skip
    return platform, client, raw


def front_matter(card):
    head, _, _ = card.markdown.removeprefix("---\n").partition("\n---\n")
    return yaml.safe_load(head)


def validate(client, version, **figures):
    found = client.models.get_version("churn", version)
    check = CheckResult(name="metrics", passed=True, reason="fine | and good", figures=figures)
    body = ValidationCreate(
        digest=found.digest,
        data_digest="sha256:" + "2" * 64,
        rows=40,
        target="target",
        checks=[check],
        champion="churn:1",
    )
    return client.models.record_validation("churn", version, body)


def test_a_card_is_filled_with_what_is_known(told):
    platform, client, _ = told
    validate(client, 1, accuracy=0.88, **{"champion.accuracy": 0.1})
    asked = client.models.request_approval("churn", 1, comment="please")
    platform.member("ml_engineer").models.decide_approval(asked.id, approve=True, comment="looks good")
    sections = {"limitations": "Knows no children.", "intended_use": "Letters."}
    client.models.set_card("churn", 1, sections=sections, license="apache-2.0", tags=["churn"], language=["en"])
    card = client.models.get_card("churn", 1)
    head = front_matter(card)
    assert head == card.metadata
    assert (head["license"], head["library_name"], head["language"]) == ("apache-2.0", "sklearn", ["en"])
    assert head["tags"] == ["churn", "modelops"]
    assert head["datasets"] == ["numbers"]
    assert head["pipeline_tag"] == "tabular-classification"
    (index,) = head["model-index"]
    registered, validated = index["results"]
    assert registered["dataset"] == {"name": "numbers:2", "type": "numbers"}
    assert registered["metrics"] == [{"type": "accuracy", "value": 0.9, "name": "accuracy"}]
    assert validated["metrics"] == [{"type": "accuracy", "value": 0.88, "name": "accuracy"}]
    text = card.markdown
    for said in (
        "Knows no children.",
        "Letters.",
        "Who will leave.",
        "fine \\| and good",
        "looks good",
        "run first",
        "numbers:1",
    ):
        assert said in text
    assert text.index("## Intended use") < text.index("## Limitations") < text.index("## Facts")


def test_what_was_written_stands_for_later_versions_until_they_are_written_on(told):
    _, client, _ = told
    assert client.models.get_card("churn", 2).written_for is None
    first = client.models.set_card("churn", 1, sections={"limitations": "Old words."})
    assert (first.revision, first.written_for) == (1, 1)
    later = client.models.get_card("churn", 2)
    assert (later.revision, later.written_for) == (0, 1)
    assert "Old words." in later.markdown
    client.models.set_card("churn", 2, sections={"limitations": "New words."}, revision=0)
    assert "Old words." in client.models.get_card("churn", 1).markdown
    assert "New words." in client.models.get_card("churn", 2).markdown
    with pytest.raises(PreconditionFailed):
        client.models.set_card("churn", 2, sections={}, revision=0)


def test_cards_are_written_by_those_who_may(told):
    platform, _, _ = told
    with pytest.raises(PermissionDenied):
        platform.member("viewer").models.set_card("churn", 1, license="mit")
    assert platform.member("viewer").models.get_card("churn", 1).license is None
    with pytest.raises(NotFound):
        platform.stranger().models.get_card("churn", 1)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "yes", "x y"]), inner, max_size=3)
            ),
            max_leaves=9,
        ),
        max_size=4,
    )
)  # fmt: skip
def test_front_matter_reads_back_as_it_was_written(value):
    assert same(yaml.safe_load(to_yaml(value)) or {}, value)


def same(left, right):
    if isinstance(left, float) and isinstance(right, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    if isinstance(left, dict):
        return isinstance(right, dict) and left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
    return left == right and type(left) is type(right)


def test_lineage_goes_back_to_raw_data_and_on_to_deployments(told):
    _, client, raw = told
    client.serving.create_deployment("live", "churn:1", replicas=0)
    found = client.models.get_lineage("churn", 1)
    run, data, code = found.upstream
    assert (run.kind, run.name, run.children[0].name) == ("run", "first", "trials")
    assert (data.name, data.children[0].id, data.children[0].relation) == ("numbers:2", raw.id, "made from")
    assert code.kind == "code"
    assert [(one.kind, one.name) for one in found.downstream] == [("version", "churn:2"), ("deployment", "live")]
    later = client.models.get_lineage("churn", 2)
    (parent,) = later.upstream
    assert (parent.relation, parent.name) == ("derived from", "churn:1")
    assert [one.kind for one in parent.children] == ["run", "dataset", "code"]
    assert later.downstream == []


def test_a_parent_is_a_version_of_the_project(told):
    platform, client, _ = told
    assert client.models.get_version("churn", 2).parent_version_id == client.models.get_version("churn", 1).id
    model = LogisticRegression(max_iter=1000).fit(ROWS, ROWS[:, 0] > 20)
    with pytest.raises(NotFound):
        ModelRegistry(client).register_model("churn", model, sample=ROWS, parent="churn:9")
    with pytest.raises(NotFound):
        ModelRegistry(platform.stranger()).register_model("mine", model, sample=ROWS, parent="churn:1")


def test_versions_are_compared_side_by_side(told):
    _, client, _ = told
    validate(client, 2, accuracy=0.9)
    found = client.models.compare_versions("churn:1", "churn:2")
    assert found.versions == ["churn:1", "churn:2"]
    part = {one.name: one for one in found.metrics}
    assert part["accuracy"].values == [0.9, 0.95]
    assert part["loss"].values == [0.4, None]
    assert {one.name: one.values for one in found.parameters} == {"C": [1.0, 2.0], "solver": ["lbfgs", None]}
    inputs = {one.name: (one.values, one.same) for one in found.inputs}
    assert inputs == {"a": (["number"] * 2, True), "b": (["number", None], False), "c": ([None, "number"], False)}
    facts = {one.name: one.values for one in found.facts}
    assert facts["stage"] == ["Development", "Registration"]
    assert facts["data"] == ["numbers:2", None]
    assert facts["tags.team"] == ["crm", None]
    assert all(one.same for one in found.requirements)
    assert found.checks[0].values == [None, "passed"]
    with pytest.raises(InvalidInput, match="twice"):
        client.models.compare_versions("churn:1", "churn:1")
    with pytest.raises(NotFound):
        client.models.compare_versions("churn:1", "churn:9")
    with pytest.raises(InvalidInput):
        client.models.compare_versions("churn:1")

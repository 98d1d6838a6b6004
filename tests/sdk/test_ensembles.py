"""Ensembles and chains in memory, and what becomes of them in the registry."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor, StackingClassifier, StackingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from modelops import ModelChain, ModelEnsemble, ModelRegistry
from modelops.contracts.errors import InvalidInput
from modelops.domains.models.compiling.parity import Differs

FRAME, TARGET = load_iris(return_X_y=True, as_frame=True)
X, Y = FRAME.to_numpy(), TARGET.to_numpy()
NAMES = list(FRAME.columns)


@pytest.fixture
def registry(sqlite_platform):
    with ModelRegistry(sqlite_platform.client()) as opened:
        yield opened


def models(table=X, target=Y):
    return [
        make_pipeline(StandardScaler(), LogisticRegression()).fit(table, target),
        RandomForestClassifier(10, random_state=0).fit(table, target),
        DecisionTreeClassifier(max_depth=2, random_state=0).fit(table, target),
    ]


def test_an_average_of_models_in_memory_needs_no_platform():
    members = models()
    ensemble = ModelEnsemble(members, weights=[1, 2, 1])
    mean = np.average([model.predict_proba(X) for model in members], axis=0, weights=[1, 2, 1])
    np.testing.assert_allclose(ensemble.predict_proba(X), mean)
    np.testing.assert_array_equal(ensemble.predict(X), mean.argmax(axis=1))
    assert ensemble.classes == [0, 1, 2]
    assert ensemble.members == ["Pipeline", "RandomForestClassifier", "DecisionTreeClassifier"]


def test_values_are_averaged_where_nobody_gives_probabilities():
    table, target = load_diabetes(return_X_y=True)
    members = [LinearRegression().fit(table, target), RandomForestRegressor(5, random_state=0).fit(table, target)]
    ensemble = ModelEnsemble([*members, lambda rows: np.zeros(len(rows))])
    np.testing.assert_allclose(ensemble.predict(table), sum(model.predict(table) for model in members) / 3)
    with pytest.raises(InvalidInput, match="no probabilities"):
        ensemble.predict_proba(table)


def test_labels_and_values_do_not_mix():
    with pytest.raises(
        InvalidInput, match=r"the member 0 \(Pipeline\) gives probabilities, and the member 1 \(<lambda>\)"
    ):
        ModelEnsemble([models()[0], lambda rows: rows[:, 0]]).predict(X)


def test_a_frame_with_its_columns_in_another_order_is_the_same_table():
    members = [models(FRAME)[0], RandomForestClassifier(5, random_state=0).fit(FRAME[NAMES[::-1]], Y)]
    ensemble = ModelEnsemble(members)
    said = ensemble.predict_proba(FRAME)
    np.testing.assert_allclose(
        said, (members[0].predict_proba(FRAME) + members[1].predict_proba(FRAME[NAMES[::-1]])) / 2
    )
    np.testing.assert_array_equal(ensemble.predict_proba(FRAME[NAMES[::-1]]), said)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_stack_says_what_scikit_learn_says(classes):
    rows = np.isin(Y, range(classes))
    names = np.array(["no", "yes", "perhaps"])
    table, target = X[rows], names[Y[rows]]
    members = [LogisticRegression(max_iter=1000), DecisionTreeClassifier(max_depth=2, random_state=0)]
    theirs = StackingClassifier([("a", members[0]), ("b", members[1])], cv=4).fit(table, target)
    ours = ModelEnsemble(members, method="stack", cv=4).fit(table, target)
    np.testing.assert_array_equal(ours.predict(table), theirs.predict(table))
    np.testing.assert_allclose(ours.predict_proba(table), theirs.predict_proba(table))
    assert ours.classes == theirs.classes_.tolist()


def test_a_stack_of_regressors_says_what_scikit_learn_says():
    table, target = load_diabetes(return_X_y=True)
    members = [LinearRegression(), RandomForestRegressor(5, random_state=0)]
    theirs = StackingRegressor([("a", members[0]), ("b", members[1])], final_estimator=Ridge()).fit(table, target)
    ours = ModelEnsemble(members, method="stack", final_estimator=Ridge()).fit(table, target)
    np.testing.assert_allclose(ours.predict(table), theirs.predict(table))


def test_members_that_stay_as_they_are():
    half = len(X) // 2
    order = np.random.default_rng(0).permutation(len(X))
    seen, unseen = order[:half], order[half:]
    members = models(X[seen], Y[seen])
    named = list(zip("abc", members, strict=True))
    theirs = StackingClassifier(named, cv="prefit").fit(X[unseen], Y[unseen])
    ours = ModelEnsemble(members, method="stack", cv="prefit").fit(X[unseen], Y[unseen])
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([LinearSVC(), LogisticRegression()], "gives no probabilities, of which a stack learns"),
        ([Ridge(), LogisticRegression()], "Some members of the stack classify"),
        ([lambda rows: rows, LogisticRegression()], "cannot be fitted again"),
    ],
)
def test_what_cannot_be_stacked(members, words):
    with pytest.raises(InvalidInput, match=words):
        ModelEnsemble(members, method="stack").fit(X, Y)


def test_what_is_asked_of_an_ensemble_too_early_or_wrongly():
    with pytest.raises(InvalidInput, match="not fitted"):
        ModelEnsemble([Ridge(), Ridge()], method="stack").predict(X)
    with pytest.raises(InvalidInput, match="two members"):
        ModelEnsemble([Ridge()])
    with pytest.raises(InvalidInput, match="2 members and 3 weights"):
        ModelEnsemble([Ridge(), Ridge()], weights=[1, 2, 3])
    with pytest.raises(InvalidInput, match="two steps"):
        ModelChain([Ridge()])


def test_fitting_an_average_fits_copies_of_its_members():
    unfitted = [LogisticRegression(max_iter=1000), DecisionTreeClassifier(random_state=0)]
    ensemble = ModelEnsemble(unfitted).fit(X, Y)
    assert not hasattr(unfitted[0], "classes_")
    assert (ensemble.predict(X) == Y).mean() > 0.9


def test_an_ensemble_of_a_version_and_a_model_in_memory(registry):
    forest, tree = models(FRAME)[1:]
    registry.register_model("forest", forest, sample=FRAME)
    with ModelEnsemble(["forest", tree], backend=registry) as ensemble:
        expected = ensemble.predict_proba(FRAME)
        np.testing.assert_allclose(expected, (forest.predict_proba(FRAME) + tree.predict_proba(FRAME)) / 2)
        version = ensemble.register("both", sample=FRAME, metrics={"accuracy": 1.0})
    assert version.flavour == "ensemble"
    assert [feature.name for feature in version.signature.inputs] == NAMES
    assert version.serving.runs == "plain"
    loaded = registry.load_model("both")
    np.testing.assert_allclose(loaded.predict_proba(X), expected)
    assert loaded.bounded  # both members run compiled
    lineage = registry.client.models.get_lineage("both")
    assert [(node.relation, node.name) for node in lineage.upstream] == [("made of", "forest:1")]
    below = registry.client.models.get_lineage("forest").downstream
    assert [(node.relation, node.name) for node in below] == [("member of", "both:1")]


def test_a_registered_stack_says_what_it_said(registry):
    members = [LogisticRegression(max_iter=1000), DecisionTreeClassifier(max_depth=2, random_state=0)]
    stack = ModelEnsemble(members, method="stack", backend=registry).fit(FRAME, Y)
    version = stack.register("stack", sample=FRAME)
    loaded = registry.load_model("stack")
    np.testing.assert_allclose(loaded.predict_proba(X), stack.predict_proba(X))
    assert any(file.path.startswith("final/") for file in version.files)


def test_a_stack_is_fitted_anew_from_registered_versions(registry):
    for name, model in zip("ab", models(FRAME), strict=False):
        registry.register_model(name, model, sample=FRAME)
    stack = ModelEnsemble(["a", "b"], method="stack", backend=registry).fit(FRAME, Y)
    again = [make_pipeline(StandardScaler(), LogisticRegression()), RandomForestClassifier(10, random_state=0)]
    theirs = StackingClassifier(list(zip("ab", again, strict=True))).fit(FRAME, Y)
    np.testing.assert_allclose(stack.predict_proba(FRAME), theirs.predict_proba(FRAME))


def test_registered_versions_are_put_together_without_a_file_sent(registry, monkeypatch):
    for name, model in zip("ab", models(FRAME), strict=False):
        registry.register_model(name, model, sample=FRAME)
    monkeypatch.setattr(registry.client.data, "upload_artifact", None)
    monkeypatch.setattr(registry.client.data, "download_artifact", None)
    version = ModelEnsemble(["a", "b:1"], weights=[1, 3], backend=registry).register("both", description="d")
    monkeypatch.undo()
    loaded = registry.load_model("both")
    wanted = np.average([registry.load_model(name).predict_proba(X) for name in "ab"], axis=0, weights=[1, 3])
    np.testing.assert_allclose(loaded.predict_proba(X), wanted)
    assert version.description == "d"
    registry.client.models.verify_version("both")


def test_members_are_asked_as_they_were_saved_where_their_forms_do_not_add_up(registry, monkeypatch):
    ModelEnsemble(models(FRAME), backend=registry).register("both", sample=FRAME)
    fast = registry.load_model("both")
    assert {member.runs for member in fast.members} != {"plain"}

    def differs(*_):
        raise Differs("On the sample, row 3.")

    monkeypatch.setattr("modelops.domains.models.ensembles.flavour.check_parity", differs)
    saved = registry.load_model("both")
    assert {member.runs for member in saved.members} == {"plain"}
    assert not hasattr(saved, "bounded")
    np.testing.assert_allclose(saved.predict_proba(X), fast.predict_proba(X))


def test_a_vote_is_on_one_label():
    wide = RandomForestRegressor(3, random_state=0).fit(X, np.column_stack([Y, Y]))
    with pytest.raises(RuntimeError, match=r"the member 0 \(RandomForestRegressor\) gave several values a row"):
        ModelEnsemble([wide, models()[0]], method="vote").predict(X)


def test_a_chain_of_a_transformer_a_model_and_a_function(registry):
    scaler = StandardScaler().fit(FRAME)
    model = LogisticRegression(max_iter=1000).fit(scaler.transform(FRAME), Y)

    def certain(shares):
        return np.where(shares.max(axis=1) > 0.8, shares.argmax(axis=1), -1)

    chain = ModelChain([scaler, model, certain], pass_on="probabilities", backend=registry)
    expected = certain(model.predict_proba(scaler.transform(FRAME)))
    assert set(expected) == {-1, 0, 1, 2}
    np.testing.assert_array_equal(chain.predict(FRAME), expected)
    version = chain.register("chain", sample=FRAME)
    assert (version.flavour, version.runs_code) == ("chain", True)
    np.testing.assert_array_equal(registry.load_model("chain").predict(X), expected)
    assert [feature.name for feature in version.signature.inputs] == NAMES


def test_a_chain_of_versions(registry):
    scaler = StandardScaler().fit(FRAME)
    model = LogisticRegression(max_iter=1000).fit(scaler.transform(FRAME), Y)
    assert registry.register_model("scaler", scaler, sample=FRAME).flavour == "transformer"
    registry.register_model("model", model, sample=scaler.transform(FRAME))
    version = ModelChain(["scaler", "model"], backend=registry).register("chain")
    assert not version.runs_code
    np.testing.assert_allclose(
        registry.load_model("chain").predict_proba(X), model.predict_proba(scaler.transform(FRAME))
    )
    with pytest.raises(InvalidInput, match=r"The step model:1 gives 1 columns, and the step scaler:1 takes 4"):
        ModelChain(["model", "scaler"], backend=registry).register("chain")


def test_texts_go_through_an_ensemble_and_a_chain(registry):
    frame = pd.DataFrame({"city": ["oslo", "rome", "bern"] * 10, "n": range(30)})

    def north(rows: list[dict]):
        return [1.0 if row["city"] == "oslo" else 0.0 for row in rows]

    def big(rows: list[dict]):
        return [float(row["n"] > 10) for row in rows]

    ModelEnsemble([north, big], backend=registry).register("both", sample=frame)
    loaded = registry.load_model("both")
    columns = {"city": np.array(["oslo", "bern"], dtype=object), "n": np.array([20, 1])}
    assert loaded.predict(columns).tolist() == [1.0, 0.0]

    def shout(rows: list[dict]):
        return [{"city": row["city"].upper(), "n": row["n"]} for row in rows]

    def name(rows: list[dict]):
        return [f"{row['city']}{row['n']}" for row in rows]

    ModelChain([shout, name], backend=registry).register("chain", sample=frame)
    assert list(registry.load_model("chain").predict(columns)) == ["OSLO20", "BERN1"]


def test_an_ensemble_in_a_chain_in_an_ensemble_and_no_deeper(registry):
    a, b = models(FRAME)[:2]
    inner = ModelEnsemble([a, b])
    scaler = StandardScaler().fit(np.zeros((2, 4)))
    chain = ModelChain([scaler, inner])
    outer = ModelEnsemble([chain, a], backend=registry)
    outer.register("outer", sample=FRAME)
    np.testing.assert_allclose(registry.load_model("outer").predict_proba(X), outer.predict_proba(FRAME))
    with pytest.raises(InvalidInput, match="4 deep, and 3 are taken"):
        ModelEnsemble(["outer", a], backend=registry).register("deep", sample=FRAME)
    registry.register_model("a", a, sample=FRAME)
    with pytest.raises(InvalidInput, match="4 deep, and 3 are taken"):
        registry.client.models.register_ensemble("deep", ["outer", "a"])

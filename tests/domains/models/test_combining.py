"""One answer of several: alignment, averages and votes, for any labels and weights."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as some
from sklearn.ensemble import VotingClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from modelops.domains.models.ensembles.combining import aligned, all_labels, label_array, mean, voted

LABELS = some.one_of(some.integers(-5, 5), some.sampled_from(["a", "b", "c", "1"]), some.sampled_from([0.5, 2.0]))
WEIGHTS = some.floats(0.01, 100)
ROWS = 4


@some.composite
def members(draw):
    """Draw classifiers: labels in any order, probabilities of shape (rows, labels), a weight."""
    found = []
    for _ in range(draw(some.integers(1, 4))):
        labels = draw(some.lists(LABELS, min_size=1, max_size=5, unique=True))
        raw = draw(some.lists(some.floats(0.001, 1), min_size=ROWS * len(labels), max_size=ROWS * len(labels)))
        shares = np.reshape(raw, (ROWS, len(labels)))
        found.append((labels, shares / shares.sum(axis=1, keepdims=True), draw(WEIGHTS)))
    return found


def averaged(found):
    labels = all_labels([labels for labels, _, _ in found])
    return labels, mean([aligned(shares, own, labels) for own, shares, _ in found], [weight for _, _, weight in found])


@given(members())
def test_an_average_is_of_probabilities_by_label(found):
    labels, shares = averaged(found)
    total = sum(weight for _, _, weight in found)
    for row in range(ROWS):
        for place, label in enumerate(labels):
            wanted = sum(w * part[row, own.index(label)] for own, part, w in found if label in own) / total
            assert np.isclose(shares[row, place], wanted)
    np.testing.assert_allclose(shares.sum(axis=1), 1)


@given(members(), some.randoms(use_true_random=False))
def test_the_order_in_which_a_member_saw_its_labels_changes_nothing(found, random):
    labels, shares = averaged(found)
    mixed = []
    for own, part, weight in found:
        order = list(range(len(own)))
        random.shuffle(order)
        mixed.append(([own[index] for index in order], part[:, order], weight))
    again, said = averaged(mixed)
    assert (again, type(again[0])) == (labels, type(labels[0]))
    np.testing.assert_array_equal(said, shares)


@given(
    some.lists(
        some.tuples(some.lists(LABELS, min_size=ROWS, max_size=ROWS), some.integers(1, 5)), min_size=1, max_size=6
    )
)
def test_a_vote_goes_to_the_label_with_the_most_weight_and_of_several_to_the_least(cast):
    said = voted([votes for votes, _ in cast], [weight / 7 for _, weight in cast]).tolist()
    for row in range(ROWS):
        counted = Counter()
        for votes, weight in cast:
            counted[votes[row]] += weight
        most = max(counted.values())
        assert said[row] == all_labels([[label for label in counted if counted[label] == most]])[0]


def test_a_vote_is_that_of_scikit_learn():
    random = np.random.default_rng(3)
    table, target = random.normal(size=(200, 3)), random.integers(0, 3, 200)
    named = [(str(depth), DecisionTreeClassifier(max_depth=depth, random_state=0)) for depth in (1, 2, 3)]
    theirs = VotingClassifier([*named, ("b", GaussianNB())]).fit(table, target)
    ours = voted([model.predict(table).tolist() for model in theirs.estimators_], [1, 1, 1, 1])
    np.testing.assert_array_equal(ours, theirs.predict(table))


def test_labels_keep_their_kinds():
    assert label_array([0, 1]).dtype.kind == "i"
    assert label_array(["a", "b"]).dtype.kind == "U"
    assert label_array([0, "a", 0.5]).tolist() == [0, "a", 0.5]

"""The learners of MLlib as numbers, and what they say of a vector.

The formulas are those of Spark 4.1's `org.apache.spark.ml` (its classes are named below); a recipe holds what they give
against what Spark gives before it registers a model.
"""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from modelops.contracts.schemas import Schema


class Linear(Schema):
    """Weighted sums: of `LinearRegressionModel`, `LogisticRegressionModel` and `LinearSVCModel`.

    `weights` has a row for each sum. `identity` gives the sum; `logistic` the probability of the second of two classes;
    `softmax` one for each class; `sign` the second class above zero.
    """

    kind: Literal["linear"] = "linear"
    weights: list[list[float]]
    intercepts: list[float]
    link: Literal["identity", "logistic", "softmax", "sign"]

    def scores(self, vectors: Any) -> Any:
        """Return shape (rows, 1) for a number, else a score or probability for each class."""
        sums = vectors @ np.asarray(self.weights).T + np.asarray(self.intercepts)
        if self.link == "identity":
            return sums
        if self.link == "softmax":
            return softmax(sums)
        if self.link == "sign":
            return np.hstack([-sums, sums])
        second = logistic(sums)
        return np.hstack([1 - second, second])


class Tree(Schema):
    """A tree's nodes, the root first. `left` of a leaf is -1; a value up to the threshold goes left."""

    feature: list[int]
    threshold: list[float]
    left: list[int]
    right: list[int]
    value: list[list[float]]

    def leaves(self, vectors: Any) -> Any:
        """Return the values of the leaves that vectors end in, shape (rows, values)."""
        feature, threshold = np.asarray(self.feature), np.asarray(self.threshold)
        left, right = np.asarray(self.left), np.asarray(self.right)
        at, every = np.zeros(len(vectors), dtype=np.int64), np.arange(len(vectors))
        while (inner := left[at] >= 0).any():
            goes_left = vectors[every, np.maximum(feature[at], 0)] <= threshold[at]
            at = np.where(inner, np.where(goes_left, left[at], right[at]), at)
        return np.asarray(self.value)[at]


class Trees(Schema):
    """Trees, weighted: of the decision trees, the random forests and the gradient-boosted trees.

    `shares`: each leaf has the share of each class, and they are averaged; `mean`: each leaf has a number, averaged; `sum`:
    their weighted sum; `boosted`: that sum is half the logarithm of the odds of the second class.
    """

    kind: Literal["trees"] = "trees"
    trees: list[Tree]
    weights: list[float]
    combine: Literal["shares", "mean", "sum", "boosted"]

    def scores(self, vectors: Any) -> Any:
        """Return shape (rows, 1) for a number, else a probability for each class."""
        total = sum(weight * tree.leaves(vectors) for tree, weight in zip(self.trees, self.weights, strict=True))
        if self.combine == "sum":
            return total
        if self.combine == "boosted":
            second = logistic(2 * np.asarray(total))
            return np.hstack([1 - second, second])
        return np.asarray(total) / sum(self.weights)


class Network(Schema):
    """Layers of sigmoids and a softmax: of `MultilayerPerceptronClassificationModel`. `weights` of a layer: a row an output."""

    kind: Literal["network"] = "network"
    weights: list[list[list[float]]]
    biases: list[list[float]]

    def scores(self, vectors: Any) -> Any:
        """Return a probability for each class, shape (rows, classes)."""
        values = vectors
        for number, (weights, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            sums = values @ np.asarray(weights).T + np.asarray(bias)
            values = logistic(sums) if number + 1 < len(self.weights) else softmax(sums)
        return values


class GaussianBayes(Schema):
    """Independent normal distributions, a row a class: of `NaiveBayesModel` with the model type `gaussian`."""

    kind: Literal["gaussian_bayes"] = "gaussian_bayes"
    log_priors: list[float]
    means: list[list[float]]
    variances: list[list[float]]

    def scores(self, vectors: Any) -> Any:
        """Return a probability for each class, shape (rows, classes)."""
        means, variances = np.asarray(self.means), np.asarray(self.variances)
        apart = ((vectors[:, None, :] - means) ** 2 / variances).sum(axis=2)
        return softmax(np.asarray(self.log_priors) - 0.5 * (apart + np.log(variances).sum(axis=1)))


class Centers(Schema):
    """The nearest center: of `KMeansModel`, and of `BisectingKMeansModel`, which goes down a tree of them.

    Without `children`, every center is a cluster. With them, one goes from the first center to the nearest of its children,
    until there are none; `cluster` numbers those.
    """

    kind: Literal["centers"] = "centers"
    centers: list[list[float]]
    children: list[list[int]] | None = None
    cluster: list[int] | None = None

    def scores(self, vectors: Any) -> Any:
        """Return 1 at the cluster of each vector, shape (rows, clusters)."""
        centers = np.asarray(self.centers)
        if self.children is None or self.cluster is None:
            found = np.argmin([((vectors - center) ** 2).sum(axis=1) for center in centers], axis=0)
            return np.eye(len(centers))[found]
        found = np.array(
            [self._leaf(vector, centers, self.children, self.cluster) for vector in vectors], dtype=np.int64
        )
        return np.eye(max(self.cluster) + 1)[found]

    @staticmethod
    def _leaf(vector: Any, centers: Any, children: list[list[int]], cluster: list[int]) -> int:
        at = 0
        while children[at]:
            at = min(children[at], key=lambda child: float(((vector - centers[child]) ** 2).sum()))
        return cluster[at]


class Mixture(Schema):
    """Normal distributions, weighted: of `GaussianMixtureModel`."""

    kind: Literal["mixture"] = "mixture"
    weights: list[float]
    means: list[list[float]]
    covariances: list[list[list[float]]]

    def scores(self, vectors: Any) -> Any:
        """Return the probability of each cluster, shape (rows, clusters)."""
        tiny = np.finfo(np.float64).eps  # MLlib adds it to each density, so that a row far from all belongs somewhere
        densities = [_density(vectors, *one) for one in zip(self.means, self.covariances, strict=True)]
        parts = np.asarray(self.weights) * (tiny + np.column_stack(densities))
        return parts / parts.sum(axis=1, keepdims=True)


Learner = Annotated[
    Linear | Trees | Network | GaussianBayes | Centers | Mixture, Field(discriminator="kind", description="What says.")
]


def logistic(values: Any) -> Any:
    """Return 1 / (1 + exp(-values)); far below zero, without an overflow."""
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1 / (1 + small), small / (1 + small))


def softmax(values: Any) -> Any:
    """Return exp(values), each row scaled to the sum of 1."""
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _density(vectors: Any, mean: list[float], covariance: list[list[float]]) -> Any:
    """Return the density of a normal distribution; directions without any spread are left out, as MLlib does."""
    spread, axes = np.linalg.eigh(np.asarray(covariance))
    kept = spread > np.finfo(np.float64).eps * spread.max() * len(spread)
    along = (vectors - np.asarray(mean)) @ (axes[:, kept] / np.sqrt(spread[kept]))
    log_scale = -0.5 * (len(spread) * np.log(2 * np.pi) + np.log(spread[kept]).sum())
    return np.exp(log_scale - 0.5 * (along**2).sum(axis=1))

"""From a fitted model of MLlib's to numbers, and the proof that they say the same.

Nodes of trees and of clusters have no public door in Python: they are read from the classes that Spark writes models with.
"""

import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from modelops.contracts.errors import TrainingError
from modelops.domains.models.mllib import MllibModel
from modelops.domains.models.mllib.learners import (
    Centers,
    GaussianBayes,
    Learner,
    Linear,
    Mixture,
    Network,
    Tree,
    Trees,
)
from modelops.domains.training.recipes.mllib.examples import Examples
from modelops.domains.training.recipes.mllib.preparing import Preparation

Task = Literal["classification", "regression", "clustering"]

TOLERANCE = 1e-9
SAMPLE_ROWS = 10_000


class ExportDiffers(TrainingError):
    """What was exported does not say what Spark says."""

    code, title = "training.export_differs", "The exported model differs"


def exported(task: Task, model: Any, preparation: Preparation, examples: Examples, session: Any) -> MllibModel:
    """Return a fitted model of `pyspark.ml` as numbers."""
    learner = _EXPORTS[type(model).__name__](model, session)
    return MllibModel(
        task=task,
        algorithm=type(model).__name__.removesuffix("Model"),
        spark=session.version,
        inputs=preparation.inputs,
        scaling=preparation.scaling,
        learner=learner,
        classes=examples.classes,
        calibrated=task == "classification" and not (isinstance(learner, Linear) and learner.link == "sign"),
    )


def check(model: MllibModel, fitted: Any, preparation: Preparation, examples: Examples, frame: Any) -> tuple[Any, Any]:
    """Hold an exported model against Spark's on up to 10,000 rows of the examples.

    Returns:
        The features of these rows as an Arrow table under their own names, and what the model predicts of them.

    Raises:
        ExportDiffers: a number or a probability is apart by more than 1e-9 (of itself, where it is above 1), or a class that
            no two equal probabilities leave open is another.
    """
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    some = preparation.apply(frame.orderBy(F.xxhash64(*frame.columns)).limit(SAMPLE_ROWS))
    said = fitted.transform(some)
    shares = [vector_to_array("probability").alias("probability")] if "probability" in said.columns else []
    columns = [f"c{place}" for place in range(len(examples.names))]
    table = said.select(*columns, "prediction", *shares).toArrow()
    rows = table.select(columns).rename_columns(examples.names)
    scores = model.scores({name: _column(rows.column(name)) for name in rows.column_names})
    found = table.column("prediction").to_numpy()
    if model.task == "regression":
        apart = _apart(scores[:, 0], found)
    else:
        close = np.sort(scores, axis=1)[:, -2:]
        undecided = close[:, -1] - close[:, 0] <= TOLERANCE
        apart = np.where(undecided, 0.0, scores.argmax(axis=1) != found)
    if shares:
        listed = np.array(table.column("probability").to_pylist(), dtype=np.float64)
        apart = np.maximum(apart, _apart(scores, listed).max(axis=1))
    if not (apart <= TOLERANCE).all():
        raise ExportDiffers(
            f"The exported {model.algorithm} differs from Spark's on {int((~(apart <= TOLERANCE)).sum())} of {len(apart)} "
            f"rows, by {apart.max():.3g} at most: it is not registered.",
            hint="Use another algorithm, and report this with the version of Spark, which is in the output.",
        )
    return rows, model.decided(scores)


def _apart(ours: Any, theirs: Any) -> Any:
    return np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))


def _column(column: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_floating(column.type) or (pa.types.is_integer(column.type) and not column.null_count):
        return column.to_numpy()
    values = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values


def _logistic_regression(model: Any, _session: Any) -> Learner:
    weights, intercepts = model.coefficientMatrix.toArray(), model.interceptVector.toArray()
    return _linear(weights, intercepts, "logistic" if len(weights) == 1 else "softmax")


def _svc(model: Any, _session: Any) -> Learner:
    return _linear(model.coefficients.toArray()[None, :], [model.intercept], "sign")


def _regression(model: Any, _session: Any) -> Learner:
    return _linear(model.coefficients.toArray()[None, :], [model.intercept], "identity")


def _linear(weights: Any, intercepts: Any, link: Any) -> Linear:
    return Linear(weights=np.asarray(weights).tolist(), intercepts=[float(one) for one in intercepts], link=link)


def _network(model: Any, _session: Any) -> Learner:
    sizes: list[int] = list(model.getLayers())
    flat, at = np.asarray(model.weights.toArray()), 0
    weights, biases = [], []
    for inputs, outputs in pairwise(sizes):
        weights.append(flat[at : at + inputs * outputs].reshape((outputs, inputs), order="F").tolist())
        at += inputs * outputs
        biases.append(flat[at : at + outputs].tolist())
        at += outputs
    return Network(weights=weights, biases=biases)


def _bayes(model: Any, _session: Any) -> Learner:
    return GaussianBayes(
        log_priors=model.pi.toArray().tolist(),
        means=model.theta.toArray().tolist(),
        variances=model.sigma.toArray().tolist(),
    )


def _one_tree(combine: Literal["shares", "mean"]) -> Callable[[Any, Any], Learner]:
    def export(model: Any, session: Any) -> Learner:
        return Trees(trees=[_tree(model, session, combine == "shares")], weights=[1.0], combine=combine)

    return export


def _several_trees(combine: Literal["shares", "mean", "sum", "boosted"]) -> Callable[[Any, Any], Learner]:
    def export(model: Any, session: Any) -> Learner:
        trees = [_tree(tree, session, combine == "shares") for tree in model.trees]
        return Trees(trees=trees, weights=[float(one) for one in model.treeWeights], combine=combine)

    return export


def _tree(model: Any, session: Any, shares: bool) -> Tree:
    """Return a tree's nodes in the order of their numbers, of which the root has 0."""
    jvm = session._jvm
    companion = getattr(getattr(jvm.org.apache.spark.ml.tree, "DecisionTreeModelReadWrite$NodeData$"), "MODULE$")
    numbered = companion.build(model._java_obj.rootNode(), 0)._1()
    nodes = sorted(_read(jvm, numbered), key=lambda node: node["id"])
    feature, threshold, left, right = [], [], [], []
    for node in nodes:
        split = node["split"]
        inner = node["leftChild"] >= 0
        cut, swapped = _cut(split) if inner else (0.0, False)
        feature.append(int(split["featureIndex"]) if inner else -1)
        threshold.append(cut)
        down = (int(node["leftChild"]), int(node["rightChild"]))
        left.append(down[1] if swapped else down[0])
        right.append(down[0] if swapped else down[1])
    return Tree(
        feature=feature,
        threshold=threshold,
        left=left,
        right=right,
        value=[_leaf(node, shares) for node in nodes],
    )


def _cut(split: Mapping[str, Any]) -> tuple[float, bool]:
    """Return where a split cuts, and whether what is up to there goes right: a one-hot place is split by its two values."""
    values = [float(one) for one in split["leftCategoriesOrThreshold"]]
    if int(split["numCategories"]) < 0:
        return values[0], False
    return 0.5, values == [1.0]


def _leaf(node: Mapping[str, Any], shares: bool) -> list[float]:
    if not shares:
        return [float(node["prediction"])]
    counts = np.array(node["impurityStats"], dtype=np.float64)
    listed: list[float] = (counts / counts.sum()).tolist()
    return listed


def _read(jvm: Any, found: Any) -> Any:
    """Return what a Scala object holds, by way of the JSON that Spark's own library writes: every double as it is."""
    jackson = jvm.com.fasterxml.jackson
    kinds, visibility = jackson.annotation.PropertyAccessor, getattr(jackson.annotation, "JsonAutoDetect$Visibility")
    mapper = jackson.databind.ObjectMapper()
    mapper.registerModule(jackson.module.scala.DefaultScalaModule())
    mapper.setVisibility(kinds.ALL, visibility.NONE)  # a getter would build what a leaf has not
    mapper.setVisibility(kinds.FIELD, visibility.ANY)
    return json.loads(mapper.writeValueAsString(found))


def _kmeans(model: Any, _session: Any) -> Learner:
    return Centers(centers=[center.tolist() for center in model.clusterCenters()])


def _bisecting(model: Any, _session: Any) -> Learner:
    centers: list[list[float]] = []
    children: list[list[int]] = []
    cluster: list[int] = []

    def visit(node: Any) -> int:
        number = len(centers)
        centers.append([float(one) for one in node.center().toArray()])
        children.append([])
        below = list(node.children())
        cluster.append(-1 if below else int(node.index()))
        children[number] = [visit(child) for child in below]
        return number

    visit(getattr(model._java_obj, "org$apache$spark$ml$clustering$BisectingKMeansModel$$parentModel")().root())
    return Centers(centers=centers, children=children, cluster=cluster)


def _mixture(model: Any, _session: Any) -> Learner:
    gaussians = model.gaussiansDF.collect()
    return Mixture(
        weights=list(model.weights),
        means=[row["mean"].toArray().tolist() for row in gaussians],
        covariances=[row["cov"].toArray().tolist() for row in gaussians],
    )


_EXPORTS: Mapping[str, Callable[[Any, Any], Learner]] = {
    "LogisticRegressionModel": _logistic_regression,
    "LinearSVCModel": _svc,
    "LinearRegressionModel": _regression,
    "MultilayerPerceptronClassificationModel": _network,
    "NaiveBayesModel": _bayes,
    "DecisionTreeClassificationModel": _one_tree("shares"),
    "RandomForestClassificationModel": _several_trees("shares"),
    "GBTClassificationModel": _several_trees("boosted"),
    "DecisionTreeRegressionModel": _one_tree("mean"),
    "RandomForestRegressionModel": _several_trees("mean"),
    "GBTRegressionModel": _several_trees("sum"),
    "KMeansModel": _kmeans,
    "BisectingKMeansModel": _bisecting,
    "GaussianMixtureModel": _mixture,
}

"""Metrics of what a model of MLlib's predicted, as scikit-learn defines those of the same names."""

from statistics import fmean
from typing import Any


def of_classes(metric: str, predicted: Any, classes: int) -> float:
    """Return a metric of predicted classes.

    Args:
        metric: `accuracy`, `balanced_accuracy`, `f1_macro`, `roc_auc` (of several classes: each against the rest, averaged)
            or `log_loss`.
        predicted: Spark's DataFrame with `label`, `prediction` and, for the last two, `probability`.
        classes: How many there are.
    """
    if metric == "log_loss":
        from pyspark.ml.evaluation import MulticlassClassificationEvaluator

        return float(MulticlassClassificationEvaluator(metricName="logLoss").evaluate(predicted))
    if metric == "roc_auc":
        return _area(predicted, classes)
    counted = {(row[0], row[1]): row[2] for row in predicted.groupBy("label", "prediction").count().collect()}
    return from_confusion(metric, counted)


def from_confusion(metric: str, counted: dict[tuple[float, float], int]) -> float:
    """Return a metric of how often each class (first) was taken for each class (second)."""
    truths, said = {one for one, _ in counted}, {two for _, two in counted}
    right = {one: counted.get((one, one), 0) for one in truths | said}
    if metric == "accuracy":
        return sum(right.values()) / sum(counted.values())
    of_truth = {one: sum(count for (truth, _), count in counted.items() if truth == one) for one in truths | said}
    if metric == "balanced_accuracy":
        return fmean(right[one] / of_truth[one] for one in truths)
    of_said = {one: sum(count for (_, told), count in counted.items() if told == one) for one in truths | said}
    return fmean(2 * right[one] / (of_truth[one] + of_said[one]) for one in truths | said)


def of_numbers(metric: str, predicted: Any) -> float:
    """Return `rmse`, `mae` or `r2` of predicted numbers, in a DataFrame with `label` and `prediction`."""
    from pyspark.ml.evaluation import RegressionEvaluator

    return float(RegressionEvaluator(metricName=metric).evaluate(predicted))


def _area(predicted: Any, classes: int) -> float:
    from pyspark.ml.evaluation import BinaryClassificationEvaluator
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    exact = BinaryClassificationEvaluator(rawPredictionCol="share", labelCol="is", numBins=0)
    areas = []
    for one in [1] if classes == 2 else range(classes):
        share, is_one = vector_to_array("probability")[one], (F.col("label") == one).cast("double")
        areas.append(float(exact.evaluate(predicted.select(share.alias("share"), is_one.alias("is")))))
    return fmean(areas)

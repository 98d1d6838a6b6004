"""Classification with Spark's MLlib: several algorithms on the same folds, the best one registered."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from modelops.contracts.errors import InvalidInput
from modelops.domains.training.recipe import JobContext
from modelops.domains.training.recipes.choosing import once
from modelops.domains.training.recipes.mllib import scoring
from modelops.domains.training.recipes.mllib.examples import read_classes
from modelops.domains.training.recipes.mllib.supervised import Plan, SupervisedParameters, described, train
from modelops.domains.training.schemas import Engine, JobResult

Algorithm = Literal[
    "logistic_regression",
    "decision_tree",
    "random_forest",
    "gradient_boosted_trees",
    "naive_bayes",
    "multilayer_perceptron",
    "linear_svc",
]
Metric = Literal["accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "log_loss"]

_SCALED = frozenset({"logistic_regression", "multilayer_perceptron", "linear_svc"})
_OF_TWO = ("gradient_boosted_trees", "linear_svc")
_OF_PROBABILITIES = ("roc_auc", "log_loss")


class SparkClassificationParameters(SupervisedParameters):
    """What the recipe takes."""

    algorithms: Annotated[list[Algorithm], AfterValidator(once), Field(min_length=1, description="What to try.")] = [
        "logistic_regression",
        "decision_tree",
        "random_forest",
    ]
    metric: Annotated[Metric, Field(description="What decides.")] = "accuracy"
    hidden_layers: Annotated[
        list[Annotated[int, Field(ge=1, le=10_000)]],
        Field(min_length=1, max_length=10, description="Of a multilayer perceptron: the width of each."),
    ] = [16]

    @model_validator(mode="after")
    def _metric_can_be_had(self) -> Self:
        if self.metric in _OF_PROBABILITIES and "linear_svc" in self.algorithms:
            raise ValueError(f"linear_svc gives no probabilities, which the metric {self.metric} needs")
        return self


class SparkClassification:
    """Tries algorithms of MLlib by stratified cross-validation on common folds, each as a run, and registers the best."""

    name = "spark-classification"
    description = "Tries several classifiers of Spark's MLlib on the same folds and registers the best."
    engine = Engine.SPARK
    Parameters = SparkClassificationParameters

    def run(self, job: JobContext[SparkClassificationParameters]) -> JobResult:
        """Train. Raises `InvalidInput` where the table cannot be learned from."""
        parameters = job.parameters
        folds = 2 if parameters.train_share is not None else parameters.folds
        examples = read_classes(job.spark_table(), parameters.target, parameters.features, folds)
        job.log(described(examples))
        classes = len(examples.classes or ())
        for name in parameters.algorithms:
            if name in _OF_TWO and classes > 2:
                raise InvalidInput(
                    f"MLlib's {name} tells two classes apart, and the target '{parameters.target}' has {classes}.",
                    hint="Leave it out of `algorithms`.",
                )
        plan = Plan(
            task="classification",
            algorithms=list(parameters.algorithms),
            metric=parameters.metric,
            lower_is_better=parameters.metric == "log_loss",
            scaled=_SCALED,
            estimator=lambda name, width: _estimator(name, width, classes, parameters),
            score=lambda predicted: scoring.of_classes(parameters.metric, predicted, classes),
        )
        return train(job, examples, plan)


def _estimator(name: str, width: int, classes: int, parameters: SparkClassificationParameters) -> Any:
    from pyspark.ml import classification as of

    trees = {"maxDepth": parameters.depth, "seed": parameters.seed}
    linear = {"regParam": parameters.regularisation, "standardization": False}  # the vectors are scaled before
    if name == "logistic_regression":
        return of.LogisticRegression(maxIter=200, elasticNetParam=parameters.mixing, **linear)
    if name == "decision_tree":
        return of.DecisionTreeClassifier(**trees)
    if name == "random_forest":
        return of.RandomForestClassifier(numTrees=parameters.trees, **trees)
    if name == "gradient_boosted_trees":
        return of.GBTClassifier(maxIter=parameters.rounds, **trees)
    if name == "naive_bayes":
        return of.NaiveBayes(modelType="gaussian")
    if name == "linear_svc":
        return of.LinearSVC(maxIter=200, **linear)
    layers = [width, *parameters.hidden_layers, classes]
    return of.MultilayerPerceptronClassifier(maxIter=200, layers=layers, seed=parameters.seed)


recipe = SparkClassification()

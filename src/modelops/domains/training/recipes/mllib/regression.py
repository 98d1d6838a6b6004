"""Regression with Spark's MLlib: several algorithms on the same folds, the best one registered."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from modelops.contracts.errors import InvalidInput
from modelops.domains.training.recipe import JobContext
from modelops.domains.training.recipes.choosing import once
from modelops.domains.training.recipes.mllib import scoring
from modelops.domains.training.recipes.mllib.examples import read_numbers
from modelops.domains.training.recipes.mllib.supervised import Plan, SupervisedParameters, described, train
from modelops.domains.training.schemas import Engine, JobResult

Algorithm = Literal["linear_regression", "decision_tree", "random_forest", "gradient_boosted_trees"]


class SparkRegressionParameters(SupervisedParameters):
    """What the recipe takes."""

    algorithms: Annotated[list[Algorithm], AfterValidator(once), Field(min_length=1, description="What to try.")] = [
        "linear_regression",
        "decision_tree",
        "random_forest",
    ]
    metric: Annotated[Literal["rmse", "mae", "r2"], Field(description="What decides.")] = "rmse"


class SparkRegression:
    """Tries algorithms of MLlib by cross-validation on common folds, each as a run, and registers the best."""

    name = "spark-regression"
    description = "Tries several regressions of Spark's MLlib on the same folds and registers the best."
    engine = Engine.SPARK
    Parameters = SparkRegressionParameters

    def run(self, job: JobContext[SparkRegressionParameters]) -> JobResult:
        """Train. Raises `InvalidInput` where the table cannot be learned from."""
        parameters = job.parameters
        examples = read_numbers(job.spark_table(), parameters.target, parameters.features)
        if examples.rows < 2 * parameters.folds:
            raise InvalidInput(
                f"{examples.rows} rows are too few for {parameters.folds} folds.", hint="Use fewer folds, or more rows."
            )
        job.log(described(examples))
        plan = Plan(
            task="regression",
            algorithms=list(parameters.algorithms),
            metric=parameters.metric,
            lower_is_better=parameters.metric != "r2",
            scaled=frozenset({"linear_regression"}),
            estimator=lambda name, _width: _estimator(name, parameters),
            score=lambda predicted: scoring.of_numbers(parameters.metric, predicted),
        )
        return train(job, examples, plan)


def _estimator(name: str, parameters: SparkRegressionParameters) -> Any:
    from pyspark.ml import regression as of

    trees = {"maxDepth": parameters.depth, "seed": parameters.seed}
    if name == "linear_regression":
        return of.LinearRegression(
            maxIter=200,
            regParam=parameters.regularisation,
            elasticNetParam=parameters.mixing,
            standardization=False,  # the vectors are scaled before
        )
    if name == "decision_tree":
        return of.DecisionTreeRegressor(**trees)
    if name == "random_forest":
        return of.RandomForestRegressor(numTrees=parameters.trees, **trees)
    return of.GBTRegressor(maxIter=parameters.rounds, **trees)


recipe = SparkRegression()

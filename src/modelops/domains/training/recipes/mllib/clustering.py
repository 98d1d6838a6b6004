"""Clustering with Spark's MLlib: several algorithms and numbers of clusters, the one with the best silhouette registered."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import Name, Schema
from modelops.domains.training.recipe import JobContext
from modelops.domains.training.recipes.choosing import Features, once
from modelops.domains.training.recipes.mllib.examples import read_plain
from modelops.domains.training.recipes.mllib.exporting import check, exported
from modelops.domains.training.recipes.mllib.preparing import prepare
from modelops.domains.training.recipes.mllib.supervised import described, source
from modelops.domains.training.recipes.mllib.trials import Trials, facts_of, lines
from modelops.domains.training.schemas import Engine, JobResult

Algorithm = Literal["kmeans", "bisecting_kmeans", "gaussian_mixture"]

_METRIC = "silhouette"


class SparkClusteringParameters(Schema):
    """What the recipe takes."""

    model: Annotated[Name, Field(description="The name to register the best model under.")]
    algorithms: Annotated[list[Algorithm], AfterValidator(once), Field(min_length=1, description="What to try.")] = [
        "kmeans"
    ]
    clusters: Annotated[
        list[Annotated[int, Field(ge=2, le=1000)]],
        Field(min_length=1, max_length=50, description="How many to try, each with each algorithm."),
    ] = [2, 3, 4, 5]
    features: Features = None
    seed: Annotated[int, Field(ge=0, lt=2**32, description="Of what is random in the algorithms.")] = 0


class SparkClustering:
    """Tries algorithms and numbers of clusters on scaled rows, each as a run, and registers the best by its silhouette."""

    name = "spark-clustering"
    description = "Tries clusterings of Spark's MLlib and registers the one with the best silhouette."
    engine = Engine.SPARK
    Parameters = SparkClusteringParameters

    def run(self, job: JobContext[SparkClusteringParameters]) -> JobResult:
        """Train. Raises `InvalidInput` where the table cannot be learned from."""
        parameters = job.parameters
        examples = read_plain(job.spark_table(), parameters.features)
        if examples.rows <= max(parameters.clusters):
            raise InvalidInput(
                f"{examples.rows} rows are too few for {max(parameters.clusters)} clusters.", hint="Ask for fewer."
            )
        if examples.texts and "gaussian_mixture" in parameters.algorithms:
            raise InvalidInput(
                f"A mixture of normal distributions takes numbers, and '{examples.names[examples.texts[0]]}' holds texts.",
                hint="Name the `features` to use, without it, or leave `gaussian_mixture` out.",
            )
        job.log(described(examples))
        preparation = prepare(examples, examples.frame, scaled=True, centered=False)
        rows = preparation.apply(examples.frame).select("features").cache()
        candidates = {
            f"{one}-{k}": (one, k) for one in parameters.algorithms for k in dict.fromkeys(parameters.clusters)
        }
        trials = Trials(job, _METRIC)
        for place, (name, (algorithm, k)) in enumerate(candidates.items()):
            estimator = _estimator(algorithm, k, parameters.seed)
            facts = {"algorithm": algorithm, "clusters": k, "metric": _METRIC, **facts_of(estimator)}
            trials.judge(name, facts, {}, lambda estimator=estimator: _scores(estimator, rows))  # type: ignore[misc]
            job.progress(place + 1, len(candidates) + 1, name)
        board = trials.board()
        best = board[0]
        job.log(f"best: {best.name} with {_METRIC} {best.mean:.4f}")
        algorithm, k = candidates[best.name]
        fitted = _estimator(algorithm, k, parameters.seed).fit(rows)
        model = exported("clustering", fitted, preparation, examples, job.spark)
        sample, outputs = check(model, fitted, preparation, examples, examples.frame)
        version = job.register_model(
            parameters.model,
            model,
            sample=sample,
            outputs=outputs,
            experiment_id=best.run_id,
            metrics={_METRIC: best.mean},
            parameters={
                "algorithm": algorithm,
                "clusters": k,
                "features": parameters.features,
                "seed": parameters.seed,
            },
            code=source(),
            description=f"{best.name} of Spark's MLlib, chosen of {len(board)} by {_METRIC}",
        )
        return JobResult(
            run_id=best.run_id,
            model_version_id=version.id,
            metrics={_METRIC: best.mean},
            summary={"best": best.name, "metric": _METRIC, "leaderboard": lines(board)},
        )


def _scores(estimator: Any, rows: Any) -> Iterator[float]:
    """Give the silhouette of a clustering, by squared distances; NaN where all rows fell into one cluster."""
    from pyspark.ml.evaluation import ClusteringEvaluator

    predicted = estimator.fit(rows).transform(rows)
    several = predicted.select("prediction").distinct().count() > 1
    yield float(ClusteringEvaluator().evaluate(predicted)) if several else float("nan")


def _estimator(algorithm: str, clusters: int, seed: int) -> Any:
    from pyspark.ml import clustering as of

    if algorithm == "kmeans":
        return of.KMeans(k=clusters, seed=seed)
    if algorithm == "bisecting_kmeans":
        return of.BisectingKMeans(k=clusters, seed=seed)
    return of.GaussianMixture(k=clusters, seed=seed)


recipe = SparkClustering()

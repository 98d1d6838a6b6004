"""From examples to the vectors that MLlib's learners take, and how that is written down for serving."""

from dataclasses import dataclass
from typing import Any

from modelops.domains.models.mllib.inputs import NumberInput, Scaling, TextInput
from modelops.domains.training.recipes.mllib.examples import Examples

MOST_CATEGORIES = 100
"""Of one text column; the rarer ones are taken together."""

_ACCURACY = 10_000


@dataclass(frozen=True)
class Preparation:
    """How rows become vectors, learned from the rows that a model is trained on.

    Attributes:
        fills: What stands for a missing number, by its place among the features.
        stages: A `PipelineModel` that makes `features` of the filled columns.
        inputs: The same, as it is kept with a model.
        scaling: What is done to the vectors, if they are scaled.
    """

    fills: dict[int, float]
    stages: Any
    inputs: list[NumberInput | TextInput]
    scaling: Scaling | None

    @property
    def width(self) -> int:
        """Return how many places a vector has."""
        return sum(1 if isinstance(one, NumberInput) else len(one.levels) + 1 for one in self.inputs)

    def apply(self, frame: Any) -> Any:
        """Return rows with `features`."""
        return self.stages.transform(_filled(frame, self.fills))


def prepare(examples: Examples, frame: Any, *, scaled: bool) -> Preparation:
    """Learn how rows become vectors.

    Gaps in numbers are filled with the median, to a ten-thousandth of the rows; texts are one-hot encoded, and what is
    missing, rare or new is taken together.

    Args:
        examples: What the columns are.
        frame: The rows to learn from.
        scaled: Whether each place of the vectors is to have the mean 0 and the standard deviation 1.
    """
    from pyspark.ml import Pipeline, PipelineModel
    from pyspark.ml.feature import OneHotEncoder, StandardScaler, StringIndexerModel, VectorAssembler

    fills = _medians(examples, frame)
    filled, levels = _filled(frame, fills), _levels(examples, frame)
    numbers, texts = examples.numbers, examples.texts
    stages: list[Any] = []
    if texts:
        labels = [levels[place] for place in texts]
        indexed, encoded = [f"i{place}" for place in texts], [f"h{place}" for place in texts]
        columns = [f"c{place}" for place in texts]
        stages.append(
            StringIndexerModel.from_arrays_of_labels(
                labels, inputCols=columns, outputCols=indexed, handleInvalid="keep"
            )
        )
        stages.append(OneHotEncoder(inputCols=indexed, outputCols=encoded, dropLast=False))
    places = [f"n{place}" for place in numbers] + [f"h{place}" for place in texts]
    stages.append(VectorAssembler(inputCols=places, outputCol="vector" if scaled else "features"))
    if scaled:
        stages.append(StandardScaler(inputCol="vector", outputCol="features", withMean=True, withStd=True))
    fitted: PipelineModel = Pipeline(stages=stages).fit(filled)
    inputs: list[NumberInput | TextInput] = [
        TextInput(name=name, levels=levels[place]) if place in levels else NumberInput(name=name, fill=fills[place])
        for place, name in enumerate(examples.names)
    ]
    return Preparation(fills, fitted, inputs, _scaling(fitted.stages[-1]) if scaled else None)


def _medians(examples: Examples, frame: Any) -> dict[int, float]:
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    if not examples.numbers:
        return {}
    wanted = [F.percentile_approx(_known(place), 0.5, _ACCURACY).alias(f"c{place}") for place in examples.numbers]
    found = frame.agg(*wanted).first().asDict()
    return {place: float(found[f"c{place}"] or 0.0) for place in examples.numbers}


def _levels(examples: Examples, frame: Any) -> dict[int, list[str]]:
    """Return the commonest values of each text column; one that is empty here has the empty text."""
    from pyspark.ml.feature import StringIndexer

    if not examples.texts:
        return {}
    columns = [f"c{place}" for place in examples.texts]
    indexer = StringIndexer(inputCols=columns, outputCols=[f"i{one}" for one in columns], handleInvalid="keep")
    found = indexer.fit(frame).labelsArray
    return {place: list(labels[:MOST_CATEGORIES]) or [""] for place, labels in zip(examples.texts, found, strict=True)}


def _filled(frame: Any, fills: dict[int, float]) -> Any:
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    return frame.withColumns(
        {f"n{place}": F.coalesce(_known(place), F.lit(value)) for place, value in fills.items()} if fills else {}
    )


def _known(place: int) -> Any:
    """Return a number, null where it is missing or NaN."""
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    number = F.col(f"c{place}").cast("double")
    return F.when(~F.isnan(number), number)


def _scaling(scaler: Any) -> Scaling:
    spreads = [float(one) for one in scaler.std]
    return Scaling(center=[float(one) for one in scaler.mean], factor=[1 / one if one else 0.0 for one in spreads])

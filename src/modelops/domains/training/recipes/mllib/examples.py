"""From a dataset in Spark to what MLlib learns from; what it cannot learn from is refused in words, as `frames` does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelops.contracts.errors import InvalidInput

MOST_CLASSES = 1000
_NAMED = 20
_ROWS_A_BUCKET = 1_000_000


@dataclass(frozen=True)
class Examples:
    """What to learn from.

    Attributes:
        frame: Spark's DataFrame: `c0`, `c1`, … hold the features as they are, `label` the target as a double.
        names: What the features are called, in this order.
        texts: The places of those that are texts; the others are numbers.
        classes: What the labels stand for; None where the target is a number, or there is none.
        rows: How many there are.
        without_target: How many were left out, for want of one.
    """

    frame: Any
    names: list[str]
    texts: list[int]
    classes: list[Any] | None
    rows: int
    without_target: int

    @property
    def numbers(self) -> list[int]:
        """Return the places of the features that are no texts."""
        return [place for place in range(len(self.names)) if place not in self.texts]


def read_classes(frame: Any, target: str, features: Sequence[str] | None, folds: int) -> Examples:
    """Return features and classes of a table.

    Args:
        frame: Spark's DataFrame.
        target: The column with the classes.
        features: The columns to learn from; None means all others.
        folds: How many folds each class must fill.

    Raises:
        InvalidInput: the table cannot be learned from; the error names the column and what to do.
    """
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    wanted = _wanted(frame, target, features)
    known, total = _with_target(frame, target), frame.count()
    column = _class_column(known, target)
    counts = known.groupBy(column.alias("class")).count().limit(MOST_CLASSES + 1).collect()
    found = {row["class"]: row["count"] for row in counts}
    _check_classes(found, target, folds)
    classes = sorted(found)
    label = (F.array_position(F.array(*map(F.lit, classes)), column) - 1).cast("double")
    return _examples(known, wanted, label, classes, total)


def read_numbers(frame: Any, target: str, features: Sequence[str] | None) -> Examples:
    """Return features and a number to predict. Arguments and errors are as of `read_classes`."""
    wanted = _wanted(frame, target, features)
    if not _is_number(_type_of(frame, target)):
        raise InvalidInput(
            f"The target '{target}' holds {_type_of(frame, target)}, which is no number.", hint="Choose another."
        )
    known, total = _with_target(frame, target), frame.count()
    examples = _examples(known, wanted, column_of(target).cast("double"), None, total)
    if examples.rows == 0:
        raise InvalidInput(f"The target '{target}' has no values; there is nothing to learn.", hint="Choose another.")
    return examples


def read_plain(frame: Any, features: Sequence[str] | None) -> Examples:
    """Return features alone. Arguments and errors are as of `read_classes`."""
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    wanted = _wanted(frame, None, features)
    examples = _examples(frame, wanted, F.lit(0.0), None, frame.count())
    if examples.rows == 0:
        raise InvalidInput("The table has no rows; there is nothing to learn.", hint="Choose another version.")
    return examples


def with_folds(examples: Examples, *, folds: int, train_share: float | None, seed: int) -> Any:
    """Return the examples with a column `fold`: from 0 to `folds` - 1, or 0 for what is judged by and 1 for the rest.

    Rows are put into folds by a hash of what they hold, so that a later attempt, and another number of executors, make the
    same ones. Every class, or a table of up to a million rows as a whole, is spread evenly.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    order = F.xxhash64(F.lit(seed), "label", *(f"c{place}" for place in range(len(examples.names))))
    buckets = max(1, examples.rows // _ROWS_A_BUCKET)
    group = F.col("label") if examples.classes is not None else F.pmod(F.col("order"), F.lit(buckets))
    hashed = examples.frame.withColumn("order", order).withColumn("group", group)
    place = F.row_number().over(Window.partitionBy("group").orderBy("order"))
    if train_share is None:
        fold = F.pmod(place + F.col("group").cast("int"), F.lit(folds))
    else:
        whole = F.count(F.lit(1)).over(Window.partitionBy("group"))
        judged = F.greatest(F.lit(1), F.round(whole * (1 - train_share)))
        fold = F.when(place <= judged, 0).otherwise(1)
    return hashed.withColumn("fold", fold.cast("int")).drop("order", "group").cache()


def column_of(name: str) -> Any:
    """Return a column by its name, whatever characters that holds."""
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    return F.col("`" + name.replace("`", "``") + "`")


def _wanted(frame: Any, target: str | None, features: Sequence[str] | None) -> list[str]:
    others = [name for name in frame.columns if name != target]
    wanted = list(features) if features is not None else others
    named = ([] if target is None else [target]) + wanted
    missing = [name for name in named if name not in frame.columns]
    if missing:
        known = ", ".join(frame.columns[:_NAMED]) + (", …" if len(frame.columns) > _NAMED else "")
        raise InvalidInput(f"The table has no column '{missing[0]}'.", hint=f"It has: {known}.")
    if not wanted:
        raise InvalidInput(f"The table has no column beside '{target}' to learn from.", hint="Add some features.")
    return wanted


def _with_target(frame: Any, target: str) -> Any:
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    column = column_of(target)
    known = frame.where(column.isNotNull())
    fractional = _type_of(frame, target) in ("double", "float")
    return known.where(~F.isnan(column)) if fractional else known


def _class_column(frame: Any, target: str) -> Any:
    """Return the target's column, whole numbers, truth values and texts as such; floats that are whole as whole numbers."""
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    kind, column = _type_of(frame, target), column_of(target)
    if kind in ("string", "boolean"):
        return column
    if not _is_number(kind):
        raise InvalidInput(f"The target '{target}' holds {kind}, which names no classes.", hint="Choose another.")
    if kind in ("double", "float") or kind.startswith("decimal"):
        value = column.cast("double")
        if frame.where((value % 1 != 0) | (F.abs(value) >= 2**53)).limit(1).count():
            raise InvalidInput(
                f"The target '{target}' holds fractions: measurements, not classes.",
                hint="Choose a column of labels, or make texts or whole numbers of it first.",
            )
    return column.cast("bigint")


def _check_classes(counts: dict[Any, int], target: str, folds: int) -> None:
    if len(counts) > MOST_CLASSES:
        raise InvalidInput(
            f"The target '{target}' has more than {MOST_CLASSES} classes.", hint="Choose a column of labels."
        )
    if len(counts) < 2:
        found = "one class only" if counts else "no values"
        raise InvalidInput(f"The target '{target}' has {found}; there is nothing to learn.", hint="Choose another.")
    rarest = min(counts, key=lambda one: counts[one])
    if counts[rarest] < folds:
        rows = "1 row" if counts[rarest] == 1 else f"{counts[rarest]} rows"
        raise InvalidInput(
            f"The class '{rarest}' of the target '{target}' has {rows}, fewer than the {folds} folds.",
            hint="Use fewer folds, leave the class out, or choose a target that holds labels rather than measurements.",
        )


def _examples(frame: Any, wanted: list[str], label: Any, classes: list[Any] | None, total: int) -> Examples:
    texts = [place for place, name in enumerate(wanted) if _type_of(frame, name) == "string"]
    columns = [_feature(frame, name).alias(f"c{place}") for place, name in enumerate(wanted)]
    kept = frame.select(*columns, label.alias("label")).cache()
    rows = _check_values(kept, wanted, texts)
    return Examples(kept, wanted, texts, classes, rows, total - rows)


def _feature(frame: Any, name: str) -> Any:
    kind = _type_of(frame, name)
    if kind in ("string", "boolean"):
        return column_of(name)
    if not _is_number(kind):
        raise InvalidInput(
            f"The column '{name}' holds {kind}, which this recipe does not learn from.",
            hint="Name the `features` to use, or make numbers or texts of it first (of a date, say, the days since another).",
        )
    return column_of(name).cast("double") if kind.startswith("decimal") else column_of(name)


def _check_values(frame: Any, names: list[str], texts: list[int]) -> int:
    """Refuse columns without values and such with infinities, in one pass, and return the number of rows."""
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    wanted = [F.count(F.lit(1)).alias("rows")]
    for place in range(len(names)):
        column = F.col(f"c{place}")
        if place in texts:
            wanted.append(F.count(column).alias(f"there{place}"))
            continue
        number = column.cast("double")
        wanted.append(F.count(F.when(~F.isnan(number), 1)).alias(f"there{place}"))
        wanted.append(F.count(F.when(F.abs(number) == float("inf"), 1)).alias(f"infinite{place}"))
    found = frame.agg(*wanted).first().asDict()
    for place, name in enumerate(names):
        if found["rows"] and not found[f"there{place}"]:
            raise InvalidInput(f"The column '{name}' has no values.", hint="Name the `features` to use, without it.")
        if found.get(f"infinite{place}"):
            raise InvalidInput(
                f"The column '{name}' holds infinities.", hint="Replace them by a number, or leave them empty."
            )
    return int(found["rows"])


def _type_of(frame: Any, name: str) -> str:
    return str(frame.schema[name].dataType.simpleString())


def _is_number(kind: str) -> bool:
    return kind in ("tinyint", "smallint", "int", "bigint", "float", "double", "boolean") or kind.startswith("decimal")

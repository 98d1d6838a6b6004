"""Train each algorithm of MLlib on a table with gaps, texts and truth values, and hold what is exported against Spark.

A program of its own, because of what a session of Spark leaves behind in a process. Prints a line of JSON an algorithm.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modelops.domains.models.flavours.mllib import flavour
from modelops.domains.training.recipes.mllib import classification, clustering, regression
from modelops.domains.training.recipes.mllib.examples import read_classes, read_numbers, read_plain
from modelops.domains.training.recipes.mllib.exporting import check, exported
from modelops.domains.training.recipes.mllib.preparing import prepare
from modelops.runtime.engines.spark import Sessions

ROWS = 120


def table():
    chance = np.random.default_rng(0)
    colour = chance.choice(np.array(["red", "green", "blue", None], dtype=object), ROWS)
    size = np.where(chance.random(ROWS) < 0.1, np.nan, chance.normal(size=ROWS))
    weight = np.round(chance.normal(3, 2, size=ROWS), 3)
    amount = weight * 2 + (colour == "red") + chance.normal(scale=0.1, size=ROWS)
    two = np.where((colour == "red") | (size > 0.3), "yes", "no")
    return pa.table(
        {
            "colour of `it`.": pa.array(colour.tolist(), pa.string()),
            "Size": pa.array(size, from_pandas=True),
            "size": pa.array(weight),
            "heavy": pa.array((weight > 3).tolist()),
            "count": pa.array([None if n % 7 == 0 else n % 5 for n in range(ROWS)], pa.uint8()),
            "amount": pa.array(amount),
            "two": pa.array(two.tolist()),
            "three": pa.array(np.digitize(weight, [2, 4]).tolist()),
        }
    )


def main(folder):
    data = table()
    pq.write_table(data, folder / "dataset")
    job = SimpleNamespace(
        folder=folder, task=SimpleNamespace(cpus=2, memory_mb=None, processes=1), id="job_1", log=print
    )
    job.file = lambda name: folder / name
    sessions = Sessions(job)
    frame, session = sessions.table("dataset"), sessions.session()
    features = data.column_names[:5]
    two, three = (read_classes(frame, target, features, 2) for target in ("two", "three"))
    number = read_numbers(frame, "amount", features)
    plain, numeric = read_plain(frame, features), read_plain(frame, ["Size", "size", "amount"])

    def hold(what, task, examples, scaled, estimator):
        preparation = prepare(examples, examples.frame, scaled=scaled)
        ready = preparation.apply(examples.frame).select("features", "label")
        fitted = estimator(preparation.width).fit(ready)
        model = exported(task, fitted, preparation, examples, session)
        rows, outputs = check(model, fitted, preparation, examples, examples.frame)
        kept = folder / what
        kept.mkdir()
        flavour.save(model, kept)
        again = flavour.load(kept).predict(
            {name: np.array(rows[name].to_pylist(), dtype=object) for name in examples.names}
        )
        assert again.tolist() == outputs.tolist()
        print(json.dumps({"what": what, "rows": rows.num_rows, "distinct": len(set(outputs.tolist()))}), flush=True)

    tried = classification.recipe.Parameters(target="two", model="m", trees=4, rounds=3, depth=3, hidden_layers=[4])
    for name in classification.Algorithm.__args__:
        for what, examples in (("two", two), ("three", three)):
            if what == "three" and name in classification._OF_TWO:
                continue
            scaled, classes = name in classification._SCALED, len(examples.classes)
            hold(
                f"{name}-{what}",
                "classification",
                examples,
                scaled,
                lambda width, n=name, c=classes: classification._estimator(n, width, c, tried),
            )
    numbers = regression.recipe.Parameters(target="amount", model="m", trees=4, rounds=3, depth=3)
    for name in regression.Algorithm.__args__:
        scaled = name == "linear_regression"
        hold(f"{name}-r", "regression", number, scaled, lambda _, n=name: regression._estimator(n, numbers))
    for name in clustering.Algorithm.__args__:
        examples = numeric if name == "gaussian_mixture" else plain
        hold(name, "clustering", examples, True, lambda _, n=name: clustering._estimator(n, 3, 1))
    sessions.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Classification of tables of numbers by a small neural network, trained in several processes of PyTorch at once."""

import inspect
from typing import Annotated, Any

from pydantic import Field

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import Name
from modelops.domains.training.recipe import JobContext
from modelops.domains.training.recipes.choosing import Columns, Target
from modelops.domains.training.recipes.frames import Examples, read_examples, text_columns
from modelops.domains.training.recipes.torch_function import Patience
from modelops.domains.training.schemas import Engine, JobResult

_LEAST_ROWS_A_CLASS = 3
"""One to learn from, one to validate with, one to test with."""

Share = Annotated[float, Field(gt=0, lt=0.5)]


class NetworkParameters(Target):
    """What the recipe takes."""

    model: Annotated[Name, Field(description="The name to register the network under.")]
    features: Annotated[
        Columns | None,
        Field(description="The columns to predict from, all of numbers; by default, all others."),
    ] = None
    hidden: Annotated[
        list[Annotated[int, Field(ge=1, le=65_536)]], Field(max_length=20, description="Units of each hidden layer.")
    ] = [32]
    epochs: Annotated[int, Field(ge=1, le=100_000, description="At most.")] = 50
    patience: Annotated[int, Field(ge=1, description="Epochs without a better validation loss before it stops.")] = 10
    batch_size: Annotated[int, Field(ge=1, le=2**20, description="Rows of a step, of all processes together.")] = 32
    learning_rate: Annotated[float, Field(gt=0, le=10, description="Of AdamW.")] = 0.01
    weight_decay: Annotated[float, Field(ge=0, le=1, description="Of AdamW.")] = 0.0001
    test_share: Annotated[Share, Field(description="Of the rows, to test with.")] = 0.2
    validation_share: Annotated[Share, Field(description="Of the rows, to decide with when to stop.")] = 0.1
    seed: Annotated[
        int, Field(ge=0, lt=2**32, description="Of the split, the first weights, and each epoch's order.")
    ] = 0
    collective_timeout_s: Patience = 600.0


class TorchClassification:
    """Trains a multilayer perceptron: each process on its share of every step's rows, with the gradients averaged.

    With equal parameters, data and number of processes, it gives equal weights, interrupted or not.
    """

    name = "torch-classification"
    description = "Trains a small neural network on a table of numbers, in several processes of PyTorch."
    engine = Engine.TORCH
    Parameters = NetworkParameters

    def run(self, job: JobContext[NetworkParameters]) -> JobResult:
        """Train, and register the network where this is the first process. Raises `InvalidInput` where the table cannot be
        learned from."""
        from modelops.domains.training.recipes.networks import Lesson, Training

        parameters = job.parameters
        examples = read_examples(job.table(), parameters.target, parameters.features, _LEAST_ROWS_A_CLASS)
        _check_numbers(examples)
        lesson = Lesson.of(examples, parameters.test_share, parameters.validation_share, parameters.seed)
        told = parameters.model_dump(mode="json", exclude={"model", "collective_timeout_s"})
        with job.start_run("network", {**told, "processes": job.world_size}) as run:
            training = Training(job, lesson)
            epochs = training.learn(run)
            metrics = training.test()
            run.log_metrics(metrics)
            if job.rank > 0:
                return JobResult()
            job.log(f"accuracy {metrics['accuracy']:.4f} on {len(lesson.test)} rows after {epochs} epochs")
            version = job.register_model(
                parameters.model,
                training.finished(),
                sample=examples.features,
                outputs=training.answers(),
                experiment_id=run.id,
                metrics=metrics,
                parameters={**told, "processes": job.world_size, "classes": lesson.names},
                code=_source(),
                description=f"a network of {len(parameters.hidden)} hidden layers, after {epochs} epochs",
            )
        summary = {"epochs": epochs, "processes": job.world_size, "weights": training.digest()}
        return JobResult(run_id=run.id, model_version_id=version.id, metrics=metrics, summary=summary)


def _check_numbers(examples: Examples) -> None:
    texts = text_columns(examples.features)
    if texts:
        raise InvalidInput(
            f"The column '{texts[0]}' holds texts, and a network learns from numbers.",
            hint="Name the `features` to use, or make numbers of it first.",
        )


def _source() -> bytes:
    """Return the code that trains, for its digest."""
    import sys

    from modelops.domains.training.recipes import frames, networks

    modules: tuple[Any, ...] = (frames, networks, sys.modules[__name__])
    return "".join(inspect.getsource(module) for module in modules).encode()


recipe = TorchClassification()

"""`TrainingPipeline`: several algorithms on one dataset, as a pipeline of the platform; the best is registered."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelops.contracts.errors import AlreadyExists, InvalidInput, TrainingError
from modelops.contracts.schemas import Schema
from modelops.domains.pipelines.schemas import PipelineRun, PipelineVersion
from modelops.sdk.client import Client
from modelops.sdk.pipelines import Template
from modelops.sdk.pipelines.whole import WholePipeline
from modelops.sdk.training import steps
from modelops.sdk.training.anomalies import FINDERS

_OWN = {"data_source", "algorithms", "model", "experiment", "workers"}
_OLDER = {"cross_validation_folds": "folds", "cv_folds": "folds", "cross_validation": "folds", "random_state": "seed"}


class Candidate(Schema):
    """An algorithm's scores: on the rows set aside, and by cross-validation on the others (mean and deviation)."""

    algorithm: str
    score_name: str
    score: float
    cv_score: float
    cv_std: float
    run_id: str


class BestModel(Candidate):
    """The candidate with the best mean over the folds, as it is registered.

    `score` is of rows that neither training nor the choice saw.
    """

    model: str
    version: int
    model_version_id: str


class TrainingResult(Schema):
    """What came of a run. `candidates` are in their order, the best first."""

    pipeline: str
    run_id: str
    dataset_version_id: str
    best_model: BestModel
    candidates: list[Candidate]


class TrainingPipeline(WholePipeline[TrainingResult]):
    """Trains several algorithms on a dataset, scores each by cross-validation and on rows set aside, and registers the best.

    It is a pipeline of the platform, with a step for each algorithm. Parameters of a run: `data_source`, `algorithms`,
    `options`.

    Args:
        name: The pipeline's, and that of the model and the experiment, where the config names no others.
        schedule: When it is to run by itself: `0 2 * * *`, `every 6h`. It is set with `register` or the first `run`.
        config: `data_source`, a dataset (`name`, `name:3`), a file or a frame; `algorithms`, of isolation_forest, lof and
            one_class_svm, or of classifiers (logistic_regression, random_forest, hist_gradient_boosting, svm,
            nearest_neighbours); and the options of `steps.Options`: `target`, `label`, `features`, `metric`,
            `validation_split`, `folds`, `contamination`, `trees`, `seed`. Also `model`, `experiment`, `workers`.
        backend: A client, a platform's address, or None for the one of the settings; opened at the first need.
        zone: The time zone of the schedule.

    Raises:
        InvalidInput: the config is not whole, or has what is not known.
    """

    failure = TrainingError

    def __init__(
        self,
        name: str,
        schedule: str | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        backend: Client | str | None = None,
        project: str | None = None,
        zone: str = "UTC",
    ) -> None:
        super().__init__(name, schedule, backend, project, zone)
        self.config = {_OLDER.get(key, key): value for key, value in (config or {}).items()}
        if "data_source" not in self.config:
            raise InvalidInput("The config names no `data_source`.", hint="Name a dataset, a file, or give a frame.")
        self.algorithms = list(
            self.config.get("algorithms", FINDERS if "target" not in self.config else steps.CLASSIFIERS)
        )
        self._check_algorithms()
        options = {key: value for key, value in self.config.items() if key not in _OWN}
        self.options = steps.read_options(options).model_dump(mode="json", exclude_unset=True)

    @property
    def template(self) -> Template:
        """Return the pipeline as it is registered."""
        source = self.config["data_source"]
        return _template(
            self.name,
            source if isinstance(source, str) and not _is_file(source) else self.name,
            self.algorithms,
            self.options,
            model=self.config.get("model", self.name),
            experiment=self.config.get("experiment", self.name),
            workers=self.config.get("workers", 2),
        )

    def register(self) -> PipelineVersion:
        """Register the pipeline, its data if that is a file or a frame, and its schedule."""
        self._store_data()
        return super().register()

    def _result(self, run: PipelineRun) -> TrainingResult:
        told: Any = self.client.pipelines.read_output(run.id, "register", "result")
        candidates = [Candidate.model_validate(one) for one in told["candidates"]]
        facts = {key: told[key] for key in ("model", "version", "model_version_id")}
        return TrainingResult(
            pipeline=run.pipeline,
            run_id=run.id,
            dataset_version_id=told["dataset_version_id"],
            best_model=BestModel(**candidates[0].model_dump(), **facts),
            candidates=candidates,
        )

    def _check_algorithms(self) -> None:
        unknown = [name for name in self.algorithms if name not in (*FINDERS, *steps.CLASSIFIERS)]
        if unknown or not self.algorithms:
            told = f"There is no algorithm '{unknown[0]}'." if unknown else "There is no algorithm to train."
            raise InvalidInput(told, hint=f"There are: {', '.join([*FINDERS, *steps.CLASSIFIERS])}.")
        finders = [name for name in self.algorithms if name in FINDERS]
        if finders and len(finders) < len(self.algorithms):
            raise InvalidInput("Finders of anomalies and classifiers do not compare.", hint="Make a pipeline for each.")
        if not finders and "target" not in self.config:
            raise InvalidInput("Classifiers need a `target`.", hint="Name the column with the classes.")

    def _store_data(self) -> None:
        """Store a file or a frame as a version of the dataset of the pipeline's name; the same content is the same version."""
        source = self.config["data_source"]
        if isinstance(source, str) and not _is_file(source):
            return
        data = self.client.data
        with suppress(AlreadyExists):
            data.create_dataset(self.name)
        data.create_dataset_version(self.name, source)


def _is_file(source: str) -> bool:
    return Path(source).suffix in (".csv", ".parquet", ".arrow") or "/" in source


def _template(
    name: str, source: str, algorithms: list[str], options: dict[str, Any], *, model: str, experiment: str, workers: int
) -> Template:
    def write(data_source: str = source, algorithms: list[str] = algorithms, options: dict[str, Any] = options) -> None:
        loaded: Any = steps.load(data_source, options)
        tried = steps.evaluate.map(
            algorithms, train=loaded.train, validation=loaded.validation, options=options, experiment=experiment
        )
        steps.register(steps.choose(tried), loaded.train, loaded.validation, loaded.dataset_version_id, options, model)

    told = "Trains several algorithms, and registers the best."
    return Template(write, name=name, description=told, workers=workers)

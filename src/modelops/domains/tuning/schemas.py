"""Payloads of studies and trials."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, TypeAdapter

from modelops.contracts.schemas import Json, Key, Name, Schema, Tags, Text, UtcTime
from modelops.domains.experiments.analysis_schemas import Direction, Objective
from modelops.domains.experiments.schemas import MetricKey, Parameter

Scalar = bool | int | float | str | None
"""A choice of a categorical parameter."""

Choices = Annotated[list[Scalar], Field(min_length=1, max_length=1_000)]
When = Annotated[
    dict[Key, Choices],
    Field(max_length=20, description="Only where each of these parameters, named before, has one of these values."),
]


class FloatRange(Schema):
    """A number from `low` to `high`, both included; in steps, or by its logarithm."""

    type: Literal["float"]
    low: Annotated[float, Field(allow_inf_nan=False)]
    high: Annotated[float, Field(allow_inf_nan=False)]
    step: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    log: bool = False
    when: When = {}


class IntRange(Schema):
    """A whole number from `low` to `high`, both included; in steps, or by its logarithm."""

    type: Literal["int"]
    low: Annotated[int, Field(ge=-(2**53), le=2**53)]
    high: Annotated[int, Field(ge=-(2**53), le=2**53)]
    step: Annotated[int, Field(ge=1, le=2**53)] = 1
    log: bool = False
    when: When = {}


class Choice(Schema):
    """One of some values, which have no order."""

    type: Literal["categorical"]
    choices: Choices
    when: When = {}


Dimension = Annotated[FloatRange | IntRange | Choice, Field(discriminator="type")]
"""What values a parameter may take."""

Space = Annotated[dict[Key, Dimension], Field(max_length=200)]
"""The parameters and their ranges. A condition names parameters that stand before."""


class SamplerName(StrEnum):
    """How the next point is chosen."""

    TPE = "tpe"
    RANDOM = "random"
    GRID = "grid"
    QMC = "qmc"
    GP = "gp"
    CMAES = "cmaes"
    NSGA2 = "nsga2"
    NSGA3 = "nsga3"


class PrunerName(StrEnum):
    """How it is told that a trial is not worth going on with."""

    NONE = "none"
    MEDIAN = "median"
    PERCENTILE = "percentile"
    HYPERBAND = "hyperband"
    SUCCESSIVE_HALVING = "successive_halving"
    THRESHOLD = "threshold"
    PATIENT = "patient"
    WILCOXON = "wilcoxon"


Options = Annotated[dict[Key, Json], Field(max_length=50)]


class Sampler(Schema):
    """A sampler. Without a seed the study gets one, so that it can be gone on with as if it had not been interrupted."""

    name: SamplerName = SamplerName.TPE
    seed: Annotated[int | None, Field(ge=0, lt=2**32)] = None
    options: Annotated[Options, Field(description="As Optuna's sampler of that name takes them.")] = {}


class Pruner(Schema):
    """A pruner."""

    name: PrunerName = PrunerName.NONE
    options: Annotated[Options, Field(description="As Optuna's pruner of that name takes them.")] = {}


_metric_key = TypeAdapter(MetricKey)
_MaxTrials = Annotated[int | None, Field(ge=1, le=10_000_000, description="How many trials there may be.")]
_MaxSeconds = Annotated[float | None, Field(gt=0, le=10 * 365 * 86_400, description="For how long trials may begin.")]
_Target = Annotated[float | None, Field(allow_inf_nan=False, description="A value that is good enough.")]
_Patience = Annotated[
    int | None, Field(ge=1, lt=2**31, description="Stop after so many completed trials without a better one.")
]
_MaxFailures = Annotated[int | None, Field(ge=1, lt=2**31, description="Stop after so many failed trials.")]


def _with_key(objective: Objective) -> Objective:
    """Refuse an objective whose name is no key of a metric."""
    _metric_key.validate_python(objective.metric)
    return objective


class StudyCreate(Schema):
    """A new study. Without a space, trials say themselves what they tried."""

    name: Name
    description: Text = ""
    objectives: Annotated[list[Annotated[Objective, AfterValidator(_with_key)]], Field(min_length=1, max_length=8)] = [
        Objective(metric="value", direction=Direction.MIN)
    ]
    space: Space | None = None
    sampler: Sampler = Sampler()
    pruner: Pruner = Pruner()
    experiment: Annotated[
        Name | None, Field(description="Where the runs of its trials are; by default, under the study's name.")
    ] = None
    max_trials: _MaxTrials = None
    max_seconds: _MaxSeconds = None
    target: _Target = None
    patience: _Patience = None
    max_failures: _MaxFailures = None
    retries: Annotated[
        int, Field(ge=0, le=100, description="How often a trial is begun anew after its worker fell silent.")
    ] = 2
    lease_s: Annotated[
        float, Field(ge=1, le=86_400, description="For how long a worker may be silent before its trial is another's.")
    ] = 60.0
    tags: Tags = {}


class StudyUpdate(Schema):
    """What may change on a study; a field left out stays. A larger budget lets a finished study go on."""

    description: Text | None = None
    max_trials: _MaxTrials = None
    max_seconds: _MaxSeconds = None
    target: _Target = None
    patience: _Patience = None
    max_failures: _MaxFailures = None
    tags: Tags | None = None


class StudyState(StrEnum):
    """`running` until its budget is spent (`finished`) or somebody stops it (`stopped`); both can go on."""

    RUNNING = "running"
    STOPPED = "stopped"
    FINISHED = "finished"


class TrialState(StrEnum):
    """`waiting` for a worker, `running`, or ended as one of the others."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


class TrialCounts(Schema):
    """How many trials are in each state."""

    total: int
    waiting: int
    running: int
    complete: int
    pruned: int
    failed: int


class Study(Schema):
    """A study. `best_value` and `best_number` are of its best trial so far, where there is one objective; times in seconds."""

    id: str
    project_id: str
    name: str
    description: str
    objectives: list[Objective]
    space: Space | None
    sampler: Sampler
    pruner: Pruner
    experiment_id: str
    experiment: str
    max_trials: int | None
    max_seconds: float | None
    target: float | None
    patience: int | None
    max_failures: int | None
    retries: int
    lease_s: float
    tags: dict[str, str]
    state: StudyState
    reason: str | None
    trials: TrialCounts
    best_value: float | None
    best_number: int | None
    created_at: UtcTime
    created_by: str
    started_at: UtcTime | None
    ended_at: UtcTime | None
    revision: int


class Trial(Schema):
    """A trial. `space` says what its parameters were chosen from, where the study does not; `values` has one value an objective.

    `intermediate` is by step; in a list of changes, only what was reported since. `system` is what samplers and pruners keep.
    """

    number: int
    state: TrialState
    attempt: int
    parameters: dict[str, Json]
    space: Space
    values: list[float] | None
    intermediate: dict[int, float]
    attributes: dict[str, Json]
    system: dict[str, Json]
    run_id: str | None
    holder: str | None
    reason: str | None
    lease_until: UtcTime | None
    created_at: UtcTime
    started_at: UtcTime | None
    ended_at: UtcTime | None


class Changes(Schema):
    """What changed on a study's trials since a cursor, in the order of change, but for what the asking holder did itself."""

    trials: list[Trial]
    cursor: int
    more: bool


Parameters = Annotated[dict[Key, Parameter], Field(max_length=500)]
Attributes = Annotated[dict[Key, Parameter], Field(max_length=500)]
System = Annotated[dict[Key, Parameter], Field(max_length=2_000)]
Holder = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$", description="Who works on trials.")]
Since = Annotated[int, Field(ge=0, lt=2**63, description="The cursor of the changes known already.")]
Step = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Values = Annotated[dict[Step, float], Field(max_length=10_000)]
Counted = Annotated[int, Field(ge=0, lt=2**31)]
Ago = Annotated[
    float, Field(ge=0, le=10 * 365 * 86_400, description="How many seconds ago, by the teller's own clock.")
]

BLOCK = 100
"""How many trials a worker may hold that it has not begun."""


class TrialEnqueue(Schema):
    """A trial to be run before others, with some or all of its parameters."""

    parameters: Parameters
    attributes: Attributes = {}


class TrialAnswer(Schema):
    """The trial to run, if there is one; `stop` says why there will be none.

    With `wait`, others still run trials, which may be given out again: ask again in a while. `block` has the numbers of the
    trials of a block, whose parameters are told with their ends; `made` is how many trials the study has.
    """

    trial: Trial | None
    block: list[int]
    made: int
    moved: bool
    wait: bool
    stop: str | None
    changes: Changes


class TrialReport(Schema):
    """Intermediate values by step, and what else became known, of a trial under way."""

    holder: Holder
    attempt: Counted
    values: Values = {}
    parameters: Parameters = {}
    space: Space = {}
    attributes: Attributes = {}
    system: System = {}
    began_s: Annotated[Ago | None, Field(description="When a trial of a block began.")] = None
    since: Since = 0


class TrialTell(Schema):
    """How a trial ended: `complete` with a value an objective, `pruned`, or `failed` with the reason; `waiting` gives it back."""

    holder: Holder
    attempt: Counted
    state: TrialState
    values: Annotated[list[float] | None, Field(max_length=8)] = None
    reason: Text | None = None
    intermediate: Values = {}
    parameters: Parameters = {}
    space: Space = {}
    attributes: Attributes = {}
    system: System = {}
    began_s: Annotated[Ago | None, Field(description="When a trial of a block began.")] = None
    ended_s: Annotated[Ago, Field(description="When it ended.")] = 0.0
    since: Since = 0


class TrialEnd(TrialTell):
    """How a trial ended, told with the next question."""

    number: Counted


class TrialAsk(Schema):
    """Asks for a trial: one that waits, else a new one with these parameters.

    With `expected`, a new one is made only while it gets that number; otherwise `moved` tells that others were faster.
    The same `key` gets the same trial again. A `count` above 1 asks for a block of new trials that are as quickly run as
    told: it is given, or a smaller one, while nobody else works on the study and no trial waits.
    """

    holder: Holder
    key: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
    parameters: Annotated[Parameters | None, Field(description="Null takes only a trial that waits.")] = None
    space: Space = {}
    system: System = {}
    expected: Counted | None = None
    count: Annotated[int, Field(ge=0, le=BLOCK, description="How many trials; 0 only tells.")] = 1
    ended: Annotated[
        list[TrialEnd],
        Field(max_length=2 * BLOCK, description="How the holder's trials before ended, told in the same write."),
    ] = []
    unbegun: Annotated[
        list[Counted],
        Field(max_length=2 * BLOCK, description="Trials of the holder's block that it gives back unbegun."),
    ] = []
    since: Since = 0


class TrialHeard(Schema):
    """What a worker hears back: why the study stops, if it does, the trial's run, and what others did meanwhile."""

    stop: str | None
    run_id: str | None
    changes: Changes


class Beat(Schema):
    """Says that a holder is alive and still works on these trials: number -> attempt."""

    holder: Holder
    trials: Annotated[dict[Counted, Counted], Field(max_length=1_000)]


class Beaten(Schema):
    """Which of the trials are no longer the holder's, and why the study stops, if it does."""

    lost: list[int]
    stop: str | None


class ImportanceQuery(Schema):
    """Of what the importance is asked."""

    objective: Annotated[MetricKey | None, Field(description="By default the first.")] = None

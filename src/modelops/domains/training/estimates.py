"""What a training will take and cost, from what earlier jobs of its recipe took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log, log1p
from typing import Any

from sqlalchemy import select

from modelops.contracts.errors import InvalidInput
from modelops.domains.data import service as data
from modelops.domains.training.recipe import load_recipe
from modelops.domains.training.schemas import (
    CostEstimate,
    CostRequest,
    EndCause,
    Predicted,
    Resources,
    TrainingRequirements,
)
from modelops.domains.training.tables import JobAttemptRow, JobRow
from modelops.kernel.context import Context

NEEDED = 5
"""Of fewer finished jobs, nothing is told: an interval from four would be as wide as no answer."""

_MOST = 500
"""Of so many jobs that ended last, the measurements are used."""
_SAME = 1.5
"""By what factor a size may differ from one that all jobs had, and still count as measured."""
_MIB = 2**20
_GIB = 2**30
_HOUR_S = 3600.0


@dataclass(frozen=True)
class _Measured:
    """What a finished attempt took, and what it was of: each feature in words with its logarithm."""

    facts: Mapping[str, float]
    seconds: float
    cpu_seconds: float
    memory_bytes: float


def get_training_requirements(
    ctx: Context,
    recipe: str,
    *,
    dataset: str | None = None,
    rows: int | None = None,
    columns: int | None = None,
    parameters: Mapping[str, Any] | None = None,
    cpus: int | None = 1,
    confidence: float = 0.9,
) -> TrainingRequirements:
    """Tell what time, CPU and memory a training will take, each with an interval, from the recipe's finished jobs.

    Args:
        ctx: The caller's project: only its jobs are measurements.
        recipe: The recipe.
        dataset: A dataset version, for its size.
        rows: The size instead.
        columns: The size instead.
        parameters: Those that differ from the recipe's defaults, such as how many trees.
        cpus: The threads it would have.
        confidence: How sure the intervals are to be.

    Raises:
        InvalidInput: a dataset and a size are given, or parameters that the recipe does not have.
        NotFound: there is no such recipe or dataset.
    """
    ctx.require("jobs.read")
    known = load_recipe(recipe)
    if dataset is not None:
        if rows is not None or columns is not None:
            raise InvalidInput("Both a dataset and a size are given.", hint="Give one of them.")
        version = data.resolve_dataset_version(ctx, dataset)
        rows, columns = version.rows, len(version.columns)
    given = {**defaults_of(known.Parameters), **(parameters or {})}
    unknown = [name for name in given if name not in known.Parameters.model_fields]
    if unknown:
        raise InvalidInput(
            f"The recipe '{recipe}' has no parameter '{unknown[0]}'.",
            hint=f"It takes: {', '.join(known.Parameters.model_fields) or 'none'}.",
        )
    alike = {name: given[name] for name in getattr(known, "alike", ()) if name in given}
    history = _history(ctx, recipe, alike)
    asked = _facts(rows, columns, given, cpus)
    return estimate(recipe, history, asked, rows=rows, columns=columns, confidence=confidence, alike=alike)


def estimate_cost(ctx: Context, body: CostRequest) -> CostEstimate:
    """Tell what a training will cost: what it will take, at the prices of the settings.

    What is reserved is paid, for as long as it takes: the CPUs and the memory of `resources`; where they are not limited,
    what is likely to be used.
    """
    needs = get_training_requirements(
        ctx,
        body.recipe,
        dataset=body.dataset,
        rows=body.rows,
        columns=body.columns,
        parameters=body.parameters,
        cpus=body.resources.cpus,
        confidence=body.confidence,
    )
    settings = ctx.settings
    cpu_price, memory_price = settings.compute_price_per_cpu_hour, settings.compute_price_per_gib_hour
    facts: dict[str, Any] = {
        "requirements": needs,
        "currency": settings.compute_currency,
        "price_per_cpu_hour": cpu_price,
        "price_per_gib_hour": memory_price,
    }
    if not needs.known or needs.seconds is None or needs.memory_bytes is None:
        return CostEstimate(**facts, cost=None, reason=needs.reason)
    if cpu_price is None and memory_price is None:
        why = "No price is set: set `compute_price_per_cpu_hour`, `compute_price_per_gib_hour`, or both."
        return CostEstimate(**facts, cost=None, reason=why)
    per_hour = _price_per_hour(body.resources, needs, cpu_price or 0.0, memory_price or 0.0)
    cost = [per_hour * getattr(needs.seconds, name) / _HOUR_S for name in ("likely", "low", "high")]
    return CostEstimate(**facts, cost=Predicted(likely=cost[0], low=cost[1], high=cost[2]), reason=None)


def estimate(
    recipe: str,
    history: Sequence[_Measured],
    asked: Mapping[str, float],
    *,
    rows: int | None,
    columns: int | None,
    confidence: float,
    alike: Mapping[str, Any],
) -> TrainingRequirements:
    """Predict from measurements, or say why that cannot be."""
    facts: dict[str, Any] = {
        "recipe": recipe,
        "rows": rows,
        "columns": columns,
        "jobs": len(history),
        "jobs_needed": NEEDED,
        "confidence": confidence,
    }
    reason = _why_not(recipe, history, asked, alike)
    if reason is not None:
        return TrainingRequirements(**facts, known=False, reason=reason)
    from modelops.domains.training import regression

    varying = [name for name in asked if len({round(one.facts.get(name, 0.0), 9) for one in history}) > 1]
    usable = [name for name in varying if all(name in one.facts for one in history)]
    import numpy as np

    table = np.array([[one.facts[name] for name in usable] for one in history], float).reshape(len(history), -1)
    found: dict[str, Predicted] = {}
    matters: list[str] = []
    for name in ("seconds", "cpu_seconds", "memory_bytes"):
        values = [max(getattr(one, name), 1e-3) for one in history]
        chosen = regression.choose(table, np.log(values)) if usable else []
        at = np.array([asked[usable[column]] for column in chosen], float)
        interval = regression.predict(table[:, chosen], values, at, confidence)
        found[name] = Predicted(likely=interval.likely, low=interval.low, high=interval.high)
        matters += [usable[column] for column in chosen if usable[column] not in matters]
    return TrainingRequirements(
        **facts,
        **found,
        known=True,
        reason=_what_to_mind(history, asked, matters),
        cpus=max(1, ceil(found["cpu_seconds"].likely / found["seconds"].likely - 0.1)),
        memory_mb=ceil(found["memory_bytes"].high / _MIB),
        depends_on=matters,
        method=regression.METHOD,
        source=regression.SOURCE,
    )


def defaults_of(parameters: Any) -> dict[str, Any]:
    """Return the parameters of a recipe that have a default, with it."""
    fields = parameters.model_fields.items()
    return {name: one.get_default(call_default_factory=True) for name, one in fields if not one.is_required()}


def _history(ctx: Context, recipe: str, alike: Mapping[str, Any]) -> list[_Measured]:
    """Return what the project's jobs of a recipe took, of those that succeeded and are alike."""
    query = (
        select(JobRow, JobAttemptRow)
        .join(JobAttemptRow, JobAttemptRow.job_id == JobRow.id)
        .where(JobRow.project_id == ctx.project_id, JobRow.recipe == recipe)
        .where(JobAttemptRow.cause == EndCause.SUCCEEDED)
        .order_by(JobAttemptRow.ended_at.desc())
        .limit(_MOST)
    )
    found = []
    for job, attempt in ctx.session.execute(query):
        if attempt.started_at is None or attempt.ended_at is None:
            continue
        if any(job.parameters.get(name) != value for name, value in alike.items()):
            continue
        facts = _facts(job.data_rows, job.data_columns, job.parameters, job.resources.get("cpus"))
        seconds = (attempt.ended_at - attempt.started_at).total_seconds()
        used = (attempt.cpu_seconds or 0.0, float(attempt.peak_memory_bytes or 0))
        found.append(_Measured(facts, seconds, *used))
    return found


def _facts(rows: int | None, columns: int | None, parameters: Mapping[str, Any], cpus: int | None) -> dict[str, float]:
    """Return logarithms of what a training may depend on: the data's size, threads, numbers, and lengths of lists."""
    facts = {name: log(value) for name, value in (("rows", rows), ("columns", columns), ("cpus", cpus)) if value}
    for name, value in parameters.items():
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        for key, one in inner:
            number = len(one) if isinstance(one, list) else one
            if isinstance(number, int | float) and not isinstance(number, bool) and number >= 0:
                facts[f"parameters.{name}.{key}".rstrip(".")] = log1p(number)
    return facts


def _why_not(
    recipe: str, history: Sequence[_Measured], asked: Mapping[str, float], alike: Mapping[str, Any]
) -> str | None:
    """Say why nothing can be told; None where something can."""
    if len(history) < NEEDED:
        which = f" with {', '.join(f'{name} {value!r}' for name, value in alike.items())}" if alike else ""
        done = {0: "No job", 1: "Only one job"}.get(len(history), f"Only {len(history)} jobs")
        return f"{done} of the recipe '{recipe}'{which} succeeded in this project; {NEEDED} are needed to tell."
    for name in ("rows", "columns"):
        seen = [one.facts[name] for one in history if name in one.facts]
        if seen and name not in asked:
            return f"How many {name} the data has is not given, and what a training takes depends on that."
        if seen and max(seen) == min(seen) and abs(asked[name] - seen[0]) > log(_SAME):
            return (
                f"All {len(history)} jobs had the same number of {name}, so how that number matters was never measured; "
                "run one with another size."
            )
    return None


def _what_to_mind(history: Sequence[_Measured], asked: Mapping[str, float], matters: Sequence[str]) -> str | None:
    """Say where what was asked lies outside of what was measured."""
    outside = [
        name
        for name in matters
        if not min(one.facts[name] for one in history) - log(_SAME)
        <= asked[name]
        <= max(one.facts[name] for one in history) + log(_SAME)
    ]
    return f"It lies outside of what was measured, by: {', '.join(outside)}." if outside else None


def _price_per_hour(resources: Resources, needs: TrainingRequirements, cpu_price: float, memory_price: float) -> float:
    cpus = resources.cpus or needs.cpus or 1
    likely = needs.memory_bytes.likely if needs.memory_bytes else 0.0
    memory = resources.memory_mb * _MIB if resources.memory_mb else likely
    return cpus * cpu_price + memory / _GIB * memory_price

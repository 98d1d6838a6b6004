"""Studies: what is tried, by whom, and what came of it."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from modelops.contracts.errors import InvalidInput
from modelops.contracts.terminal import (
    AsJson,
    group,
    paged,
    pairs,
    say,
    show,
    show_page,
    show_rows,
    values,
    with_short_names,
)
from modelops.domains.tuning.client import Tuning
from modelops.domains.tuning.schemas import PrunerName, SamplerName

_SHORT = with_short_names(
    create="create_study",
    list="list_studies",
    show="get_study",
    update="update_study",
    delete="delete_study",
    stop="stop_study",
    resume="resume_study",
    enqueue="enqueue_trial",
    trials="list_trials",
    trial="get_trial",
    best="get_best_trials",
    importance="get_importance",
    report="report_study",
)

app = typer.Typer(cls=_SHORT, help="Studies of hyperparameters and their trials.", no_args_is_help=True)

StudyArg = Annotated[str, typer.Argument(help="A study, by name, id, or how its id alone begins.")]
MaxTrials = Annotated[int | None, typer.Option(min=1, help="How many trials there may be.")]
MaxSeconds = Annotated[float | None, typer.Option(min=0, help="For how long trials may begin.")]
Patience = Annotated[int | None, typer.Option(min=1, help="Stop after so many trials without a better one.")]
Target = Annotated[float | None, typer.Option(help="Stop when this value is reached.")]
MaxFailures = Annotated[int | None, typer.Option(min=1, help="Stop after so many failed trials.")]
Tag = Annotated[list[str] | None, typer.Option("--tag", help="KEY=VALUE; repeat it.")]


@app.command()
def create_study(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The study's name.")],
    objective: Annotated[
        list[str] | None, typer.Option("--objective", help="METRIC:max or METRIC:min; repeat it. By default value:min.")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter", help="NAME=LOW..HIGH, NAME=LOW..HIGH/STEP, NAME=log:LOW..HIGH or NAME=A,B,C; repeat it."
        ),
    ] = None,
    space: Annotated[Path | None, typer.Option(help="A JSON file with the space.", dir_okay=False)] = None,
    sampler: Annotated[SamplerName, typer.Option(help="How points are chosen.")] = SamplerName.TPE,
    sampler_option: Annotated[list[str] | None, typer.Option(help="KEY=VALUE of the sampler; repeat it.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The sampler's seed.")] = None,
    pruner: Annotated[PrunerName, typer.Option(help="How hopeless trials are told.")] = PrunerName.NONE,
    pruner_option: Annotated[list[str] | None, typer.Option(help="KEY=VALUE of the pruner; repeat it.")] = None,
    max_trials: MaxTrials = None,
    max_seconds: MaxSeconds = None,
    target: Target = None,
    patience: Patience = None,
    max_failures: MaxFailures = None,
    experiment: Annotated[str | None, typer.Option(help="Where the runs of trials are.")] = None,
    description: str = "",
    tag: Tag = None,
    as_json: AsJson = False,
) -> None:
    """Make a study, such as: --parameter lr=log:1e-5..1e-1 --parameter depth=2..10 --objective accuracy:max."""
    given = _space(space, parameter)
    made = group(ctx, Tuning).create_study(
        name,
        objectives=objective or (),
        space=given,
        sampler={"name": sampler, "seed": seed, "options": values(sampler_option, "an option")},
        pruner={"name": pruner, "options": values(pruner_option, "an option")},
        max_trials=max_trials,
        max_seconds=max_seconds,
        target=target,
        patience=patience,
        max_failures=max_failures,
        experiment=experiment,
        description=description,
        tags=pairs(tag, "a tag"),
    )
    show(made, as_json=as_json)


@app.command()
@paged
def list_studies(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the project's studies, newest first."""
    columns = ["name", "state", "trials.total", "trials.complete", "trials.running", "best_value", "created_at"]
    found = group(ctx, Tuning).list_studies(**page)
    if as_json:
        show_page(found, columns, as_json=True)
        return
    heads = ["name", "state", "trials", "complete", "running", "best", "created"]
    empty = "There are no studies yet. A program makes one: modelops.HyperparameterTuning(…).optimize()"
    show_rows(found.items, columns, as_json=False, heads=heads, empty=empty, more=found.next_cursor)


@app.command()
def get_study(ctx: typer.Context, study: StudyArg, as_json: AsJson = False) -> None:
    """Show a study."""
    show(group(ctx, Tuning).get_study(study), as_json=as_json)


@app.command()
def update_study(
    ctx: typer.Context,
    study: StudyArg,
    max_trials: MaxTrials = None,
    max_seconds: MaxSeconds = None,
    target: Target = None,
    patience: Patience = None,
    max_failures: MaxFailures = None,
    description: str | None = None,
    tag: Tag = None,
    as_json: AsJson = False,
) -> None:
    """Change a study's budget, or what is said of it. A finished one goes on if the budget allows."""
    changed = {
        "max_trials": max_trials,
        "max_seconds": max_seconds,
        "target": target,
        "patience": patience,
        "max_failures": max_failures,
        "description": description,
        "tags": pairs(tag, "a tag") if tag else None,
    }
    fields: dict[str, Any] = {name: value for name, value in changed.items() if value is not None}
    show(group(ctx, Tuning).update_study(study, **fields), as_json=as_json)


@app.command()
def delete_study(ctx: typer.Context, study: StudyArg) -> None:
    """Forget a study and its trials. Their runs stay."""
    group(ctx, Tuning).delete_study(study)
    say("Forgotten. The runs of its trials are in their experiment.")


@app.command()
def stop_study(ctx: typer.Context, study: StudyArg, as_json: AsJson = False) -> None:
    """Stop a study: no trial begins any more."""
    show(group(ctx, Tuning).stop_study(study), as_json=as_json)


@app.command()
def resume_study(ctx: typer.Context, study: StudyArg, as_json: AsJson = False) -> None:
    """Let a stopped study go on."""
    show(group(ctx, Tuning).resume_study(study), as_json=as_json)


@app.command()
def enqueue_trial(
    ctx: typer.Context,
    study: StudyArg,
    parameter: Annotated[list[str] | None, typer.Option("--parameter", help="KEY=VALUE; repeat it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put a trial of known parameters before those that a sampler chooses."""
    show(group(ctx, Tuning).enqueue_trial(study, values(parameter, "a parameter")), as_json=as_json)


@app.command()
@paged
def list_trials(ctx: typer.Context, study: StudyArg, page: Any, as_json: AsJson = False) -> None:
    """List a study's trials, such as: --filter 'state = "failed"' --order-by "value desc"."""
    columns = ["number", "state", "values", "parameters", "holder", "reason", "run_id"]
    found = group(ctx, Tuning).list_trials(study, **page)
    show_page(found, columns, as_json=as_json, empty="The study has no such trials.")


@app.command()
def get_trial(
    ctx: typer.Context,
    study: StudyArg,
    number: Annotated[int, typer.Argument(min=0, help="The trial's number.")],
    as_json: AsJson = False,
) -> None:
    """Show a trial."""
    show(group(ctx, Tuning).get_trial(study, number), as_json=as_json)


@app.command()
def get_best_trials(
    ctx: typer.Context,
    study: StudyArg,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show the best trials, or, of several objectives, those that nothing beats in all at once."""
    found = group(ctx, Tuning).get_best_trials(study, limit=limit)
    columns = ["number", "values", "parameters", "run_id"]
    show_page(found, columns, as_json=as_json, empty="No trial is complete yet.")


@app.command()
def get_importance(
    ctx: typer.Context,
    study: StudyArg,
    objective: Annotated[str | None, typer.Option(help="By default the first.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell which parameters an objective depends on, or why that cannot be told."""
    found = group(ctx, Tuning).get_importance(study, objective=objective)
    if as_json:
        show(found, as_json=True)
        return
    if found.parameters:
        columns = ["parameter", "importance", "lower", "upper", "p_value"]
        heads = ["parameter", "importance", "95 % from", "to", "p-value"]
        show_rows(found.parameters, columns, as_json=False, heads=heads, empty="")
    say(found.message)


@app.command()
def report_study(
    ctx: typer.Context,
    study: StudyArg,
    file: Annotated[Path, typer.Argument(help="Where the HTML goes.")],
) -> None:
    """Write a report on a study: one HTML file with its history, what mattered, and plots."""
    file.write_text(group(ctx, Tuning).report_study(study), encoding="utf-8")
    say(f"Written to {file}")


def _space(file: Path | None, parameters: list[str] | None) -> dict[str, Any] | None:
    """Read a space from a file and from words, in this order; None where neither is given."""
    found: dict[str, Any] = {}
    if file is not None:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as wrong:
            raise InvalidInput(f"The space in {file} cannot be read: {wrong}.") from wrong
    for name, text in pairs(parameters, "a parameter").items():
        found[name] = read_range(text)
    return found or None


def read_range(text: str) -> dict[str, Any]:
    """Read a range in words: `0..1`, `1..10/2`, `log:1e-5..1`, or choices such as `adam,sgd`.

    Raises:
        InvalidInput: it is none.
    """
    body, log = text.removeprefix("log:"), text.startswith("log:")
    low, dots, rest = body.partition("..")
    if not dots:
        if log:
            raise InvalidInput(f"'{text}' is no range.", hint="Write it such as log:1e-5..1e-1.")
        return {"type": "categorical", "choices": [_scalar(one) for one in text.split(",")]}
    high, _, step = rest.partition("/")
    bounds = [_scalar(one) for one in (low, high, *([step] if step else []))]
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in bounds):
        raise InvalidInput(f"'{text}' is no range.", hint="Write it such as 0..1, 1..10/2, log:1e-5..1e-1 or a,b,c.")
    whole = all(isinstance(one, int) for one in bounds)
    found = {"type": "int" if whole else "float", "low": bounds[0], "high": bounds[1], "log": log}
    return {**found, "step": bounds[2]} if step else found


def _scalar(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, dict | list) else value

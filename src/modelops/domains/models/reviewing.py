"""Commands on what a version is worth, and who said so: validations, policies, comparisons, lineage, model cards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from modelops.contracts.errors import InvalidInput
from modelops.contracts.terminal import (
    AsJson,
    group,
    paged,
    pairs,
    print_json,
    say,
    session_of,
    show,
    show_page,
    show_rows,
)
from modelops.domains.models.client import Models
from modelops.domains.models.validation.schemas import CheckResult, PolicySet, Task
from modelops.domains.models.views import CardSet, Compared, Lineage, LineageNode, VersionComparison

app = typer.Typer()

ModelArg = Annotated[str, typer.Argument(help="A model, by name or id.")]
VersionArg = Annotated[str, typer.Argument(help="A version's number, latest, @alias, or id.")]
Comment = Annotated[str, typer.Option(help="Why.")]


@app.command()
def compare_versions(
    ctx: typer.Context,
    version: Annotated[list[str], typer.Argument(help="Two versions or more: name:3, name@alias, mver_….")],
    everything: Annotated[bool, typer.Option("--all", help="Also what they have in common.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show versions side by side: what differs between them."""
    found = group(ctx, Models).compare_versions(*version)
    print_json(found) if as_json else show_comparison(found, everything)


@app.command()
def get_lineage(ctx: typer.Context, model: ModelArg, version: VersionArg = "latest", as_json: AsJson = False) -> None:
    """Show where a version comes from and what came of it, as a tree."""
    found = group(ctx, Models).get_lineage(model, version)
    print_json(found) if as_json else show_lineage(found)


@app.command()
def card(
    ctx: typer.Context,
    model: ModelArg,
    version: VersionArg = "latest",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it there, such as README.md.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a version's model card, in the form of the Hugging Face Hub, or write it to a file."""
    found = group(ctx, Models).get_card(model, version)
    if output is not None:
        output.write_text(found.markdown, encoding="utf-8")
        say(f"The card of {found.model}:{found.version} is in {output}.")
    elif as_json:
        print_json(found)
    else:
        typer.echo(found.markdown, nl=False)


@app.command()
def set_card(
    ctx: typer.Context,
    model: ModelArg,
    version: VersionArg = "latest",
    section: Annotated[
        list[str] | None,
        typer.Option(help="SECTION=TEXT, or SECTION=@FILE: description, intended_use, limitations, …; repeat it."),
    ] = None,
    licence: Annotated[str | None, typer.Option("--license", help="Such as apache-2.0.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag of the Hub's; repeat it.")] = None,
    language: Annotated[list[str] | None, typer.Option(help="Such as en; repeat it.")] = None,
    base_model: Annotated[str | None, typer.Option(help="The model that it was made from.")] = None,
    pipeline_tag: Annotated[str | None, typer.Option(help="A task of the Hub's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write on a version's card what only people know; what is not named stays as it was."""
    models = group(ctx, Models)
    present = models.get_card(model, version)
    said = {name: getattr(present, name) for name in CardSet.model_fields}
    given = {
        "license": licence,
        "tags": tag,
        "language": language,
        "base_model": base_model,
        "pipeline_tag": pipeline_tag,
    }
    said |= {name: value for name, value in given.items() if value}
    said["sections"] = {**present.sections, **{name: _text(text) for name, text in pairs(section, "a section").items()}}
    written = models.set_card(model, version, CardSet(**said), revision=present.revision)
    print_json(written) if as_json else say(f"Written on the card of {written.model}:{written.version}.")


@app.command()
def validate(
    ctx: typer.Context,
    model: ModelArg,
    version: VersionArg = "latest",
    *,
    data: Annotated[str, typer.Option(help="A dataset version (name:3), or a CSV, Parquet or Arrow file.")],
    target: Annotated[str, typer.Option(help="The column with the truth.")],
    check: Annotated[
        list[str] | None, typer.Option(help="Such as latency:budget_ms=5; repeat it. By default, the usual ones.")
    ] = None,
    against: Annotated[str | None, typer.Option(help="Compare with this version; by default, the champion.")] = None,
    task: Annotated[Task | None, typer.Option(help="classification or regression; by default, told from both.")] = None,
    comment: Comment = "",
    store: Annotated[bool, typer.Option("--store/--no-store", help="Whether the result is kept.")] = True,
    as_json: AsJson = False,
) -> None:
    """Check a version on data against the champion, on this machine, and keep the result. Ends with 3 if a check failed."""
    from modelops.domains.models.validating import keep, prepare
    from modelops.domains.models.validation.pipeline import ValidationPipeline

    rest, pipeline = session_of(ctx).rest, ValidationPipeline(check)
    subject = group(ctx, Models).get_version(model, version)
    prepared = prepare(rest, subject.id, data, target, champion=against, task=task)
    checks = pipeline.run(prepared.trial)
    kept = keep(rest, prepared, checks, comment) if store else None
    print_json(kept or checks) if as_json else show_checks(checks)
    if not all(one.passed for one in checks):
        raise typer.Exit(3)


@app.command()
@paged
def list_validations(
    ctx: typer.Context, model: ModelArg, page: Any, version: VersionArg = "latest", as_json: AsJson = False
) -> None:
    """List what checks found of a version, newest first."""
    columns = ["id", "version", "passed", "champion", "rows", "created_by", "created_at", "comment"]
    show_page(group(ctx, Models).list_validations(model, version, **page), columns, as_json=as_json)


@app.command()
def get_validation(
    ctx: typer.Context,
    validation: Annotated[str, typer.Argument(help="Its id, val_….")],
    as_json: AsJson = False,
) -> None:
    """Show what checks found of a version."""
    found = group(ctx, Models).get_validation(validation)
    if as_json:
        print_json(found)
        return
    against = f" against {found.champion}" if found.champion else ""
    say(f"{found.model}:{found.version}{against}, on {found.rows} rows, by {found.created_by}")
    show_checks(found.checks)


@app.command()
def get_policy(ctx: typer.Context, model: ModelArg, as_json: AsJson = False) -> None:
    """Show which checks a model's versions need before they enter a stage."""
    show(group(ctx, Models).get_policy(model), as_json=as_json)


@app.command()
def set_policy(
    ctx: typer.Context,
    model: ModelArg,
    require: Annotated[
        list[str] | None, typer.Option(help="STAGE=CHECK,CHECK, such as Production=metrics,latency; repeat it.")
    ] = None,
    independent: Annotated[
        bool, typer.Option("--independent", help="Count only results that another stored than registered the version.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say which checks must have passed before a stage; what was asked before is replaced, and none asks for nothing."""
    named = {stage: names.split(",") for stage, names in pairs(require, "a rule").items()}
    rules = {stage: {"checks": names, "independent": independent} for stage, names in named.items()}
    show(group(ctx, Models).set_policy(model, PolicySet.model_validate({"rules": rules}).rules), as_json=as_json)


def show_checks(checks: Sequence[CheckResult]) -> None:
    """Print results as a table, and how many failed."""
    rows = [{"check": one.name, "result": "passed" if one.passed else "FAILED", "reason": one.reason} for one in checks]
    show_rows(rows, ["check", "result", "reason"], as_json=False, empty="No checks were run.")
    failed = sum(not one.passed for one in checks)
    say(f"{failed} of {len(checks)} checks failed." if failed else f"All {len(checks)} checks passed.")


def show_comparison(found: VersionComparison, everything: bool) -> None:
    """Print a table for each part in which versions differ, or that they have."""
    shown = False
    for part in ("facts", "metrics", "parameters", "inputs", "outputs", "requirements", "checks"):
        compared: list[Compared] = getattr(found, part)
        rows = [{"name": one.name, **_numbered(one.values)} for one in compared if everything or not one.same]
        if rows:
            columns = ["name", *_numbered(found.versions)]
            show_rows(rows, columns, as_json=False, empty="", heads=[part, *found.versions])
            shown = True
    if not shown:
        say("They do not differ.")


def _numbered(values: Sequence[Any]) -> dict[str, Any]:
    return {str(number): value for number, value in enumerate(values)}


def show_lineage(found: Lineage) -> None:
    """Print where a version comes from and what came of it, as a tree."""
    say(f"{found.model}:{found.version}")
    say("comes from" if found.upstream else "comes from nothing that is known")
    _show_branches(found.upstream, "")
    say("and went into" if found.downstream else "and went into nothing yet")
    _show_branches(found.downstream, "")


def _show_branches(nodes: Sequence[LineageNode], indent: str) -> None:
    for number, node in enumerate(nodes, start=1):
        last = number == len(nodes)
        detail = f" ({node.detail})" if node.detail else ""
        say(f"{indent}{'└─' if last else '├─'} {node.relation} {node.kind} {node.name}{detail}")
        _show_branches(node.children, indent + ("   " if last else "│  "))


def _text(given: str) -> str:
    """Return a section's text; behind an `@` stands the file that holds it."""
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as wrong:
        raise InvalidInput(f"The file '{given[1:]}' cannot be read: {wrong}.") from wrong

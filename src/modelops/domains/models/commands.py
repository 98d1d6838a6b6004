"""The registry: models, versions, stages, aliases and approvals."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from modelops.contracts.terminal import AsJson, group, paged, pairs, say, show, show_page
from modelops.domains.data.client import Data
from modelops.domains.models import composing_commands, reviewing
from modelops.domains.models.client import Models
from modelops.domains.models.exporting import SIGNATURE, export_version, read_bundle
from modelops.domains.models.schemas import Stage

app = typer.Typer(help="Models, versions, stages, aliases and approvals.", no_args_is_help=True)
app.add_typer(reviewing.app)
app.add_typer(composing_commands.app)

ModelArg = Annotated[str, typer.Argument(help="A model, by name or id.")]
VersionArg = Annotated[str, typer.Argument(help="A version's number, latest, @alias, or id.")]
StageArg = Annotated[Stage, typer.Argument(case_sensitive=False, help="Where to.")]
AliasArg = Annotated[str, typer.Argument(help="An alias, such as challenger.")]
Comment = Annotated[str, typer.Option(help="Why.")]
Tag = Annotated[list[str] | None, typer.Option("--tag", help="KEY=VALUE; repeat it.")]

_VERSION_COLUMNS = ["name", "version", "stage", "aliases", "flavour", "serving.runs", "metrics", "created_at"]


@app.command()
def create_model(
    ctx: typer.Context, name: ModelArg, description: str = "", tag: Tag = None, as_json: AsJson = False
) -> None:
    """Make a model, still without versions."""
    show(group(ctx, Models).create_model(name, description=description, tags=pairs(tag, "a tag")), as_json=as_json)


@app.command()
@paged
def list_models(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the project's models."""
    columns = ["name", "latest_version", "aliases", "description", "created_at"]
    empty = "There are no models yet. A training job registers one, or modelops.register_model from Python."
    show_page(group(ctx, Models).list_models(**page), columns, as_json=as_json, empty=empty)


@app.command()
def get_model(ctx: typer.Context, model: ModelArg, as_json: AsJson = False) -> None:
    """Show a model."""
    show(group(ctx, Models).get_model(model), as_json=as_json)


@app.command()
def update_model(
    ctx: typer.Context, model: ModelArg, description: str | None = None, tag: Tag = None, as_json: AsJson = False
) -> None:
    """Change a model's description, or all of its tags."""
    tags = pairs(tag, "a tag") if tag else None
    show(group(ctx, Models).update_model(model, description=description, tags=tags), as_json=as_json)


@app.command()
def rename_model(ctx: typer.Context, model: ModelArg, name: str, as_json: AsJson = False) -> None:
    """Give a model another name; its versions are signed anew under it."""
    show(group(ctx, Models).rename_model(model, name), as_json=as_json)


@app.command()
def delete_model(ctx: typer.Context, model: ModelArg) -> None:
    """Delete a model and its versions, of which none may be in Production."""
    group(ctx, Models).delete_model(model)
    say(f"The model {model} is deleted.")


@app.command()
@paged
def list_versions(ctx: typer.Context, model: ModelArg, page: Any, as_json: AsJson = False) -> None:
    """List a model's versions, newest first."""
    show_page(group(ctx, Models).list_versions(model, **page), _VERSION_COLUMNS, as_json=as_json)


@app.command()
def get_version(ctx: typer.Context, model: ModelArg, version: VersionArg = "latest", as_json: AsJson = False) -> None:
    """Show a version: where it came from, what it takes, who signed it."""
    show(group(ctx, Models).get_version(model, version), as_json=as_json)


@app.command()
def update_version(
    ctx: typer.Context,
    model: ModelArg,
    version: VersionArg,
    description: str | None = None,
    tag: Tag = None,
    as_json: AsJson = False,
) -> None:
    """Change a version's description, or all of its tags."""
    tags = pairs(tag, "a tag") if tag else None
    show(group(ctx, Models).update_version(model, version, description=description, tags=tags), as_json=as_json)


@app.command()
def delete_version(ctx: typer.Context, model: ModelArg, version: VersionArg) -> None:
    """Delete a version that is not in Production; its number is not given again."""
    group(ctx, Models).delete_version(model, version)
    say(f"The version {version} of {model} is deleted.")


@app.command()
def verify_version(
    ctx: typer.Context, model: ModelArg, version: VersionArg = "latest", as_json: AsJson = False
) -> None:
    """Check a version's signature, and its stored files against their digests."""
    show(group(ctx, Models).verify_version(model, version), as_json=as_json)


@app.command()
def sign_version(
    ctx: typer.Context,
    model: ModelArg,
    version: VersionArg = "latest",
    bundle: Annotated[Path | None, typer.Option(help="Write the signature to this file.")] = None,
    public_key: Annotated[Path | None, typer.Option(help="Write the platform's key to this file, as PEM.")] = None,
    as_json: AsJson = False,
) -> None:
    """Have the platform sign a version's files in the OpenSSF model-signing format."""
    signed = group(ctx, Models).sign_version(model, version)
    if bundle is not None:
        bundle.write_text(json.dumps(signed.bundle), encoding="utf-8")
    if public_key is not None:
        public_key.write_text(signed.public_key, encoding="utf-8")
    show(signed, as_json=as_json)


@app.command()
def verify_bundle(
    ctx: typer.Context,
    model: ModelArg,
    version: VersionArg,
    bundle: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="A signature, such as model.sig.")],
    public_key: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The key to believe, PEM.")],
    as_json: AsJson = False,
) -> None:
    """Check whether somebody's OpenSSF signature is over exactly a version's files."""
    checked = group(ctx, Models).verify_bundle(
        model, version, bundle=read_bundle(bundle), public_key=public_key.read_text(encoding="utf-8", errors="replace")
    )
    show(checked, as_json=as_json)


@app.command()
def download_version(
    ctx: typer.Context,
    model: ModelArg,
    version: VersionArg,
    folder: Annotated[Path, typer.Argument(file_okay=False, help="Where to; made if it is new, else empty.")],
    as_json: AsJson = False,
) -> None:
    """Download a version's files, verified, with their OpenSSF signature in model.sig."""
    found = export_version(group(ctx, Models), group(ctx, Data), model, version, folder)
    hint = f"{len(found.files)} files of {found.name}:{found.version} and {SIGNATURE} are in {folder}."
    show(found, as_json=True) if as_json else say(hint)


@app.command()
def set_stage(
    ctx: typer.Context,
    model: ModelArg,
    stage: StageArg,
    version: Annotated[int | None, typer.Option(min=1, help="By default, the latest.")] = None,
    comment: Comment = "",
    as_json: AsJson = False,
) -> None:
    """Move a version to a stage."""
    moved = group(ctx, Models).set_stage(model, stage, version=version, comment=comment)
    show(moved, as_json=True) if as_json else say(f"{moved.name}:{moved.version} is in {moved.stage}.")


@app.command()
@paged
def list_stage_history(ctx: typer.Context, model: ModelArg, page: Any, as_json: AsJson = False) -> None:
    """List the moves of a model's versions, newest first."""
    columns = ["changed_at", "version", "from_stage", "to_stage", "changed_by", "approval_id", "comment"]
    show_page(group(ctx, Models).list_stage_history(model, **page), columns, as_json=as_json)


@app.command()
def set_alias(
    ctx: typer.Context,
    model: ModelArg,
    alias: AliasArg,
    version: Annotated[int, typer.Argument(min=1, help="The version it points at.")],
    as_json: AsJson = False,
) -> None:
    """Point an alias at a version."""
    show(group(ctx, Models).set_alias(model, alias, version), as_json=as_json)


@app.command()
def delete_alias(ctx: typer.Context, model: ModelArg, alias: AliasArg) -> None:
    """Take an alias away."""
    group(ctx, Models).delete_alias(model, alias)
    say(f"{model}@{alias} is gone.")


@app.command()
@paged
def list_metrics(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the metrics that versions were registered with."""
    show_page(group(ctx, Models).list_metrics(**page), ["name", "version", "stage", "metrics"], as_json=as_json)


@app.command()
def request_approval(
    ctx: typer.Context,
    model: ModelArg,
    version: VersionArg = "latest",
    stage: Annotated[Stage, typer.Option(case_sensitive=False, help="What for.")] = Stage.PRODUCTION,
    comment: Comment = "",
    as_json: AsJson = False,
) -> None:
    """Ask for a version to be approved; another member decides."""
    asked = group(ctx, Models).request_approval(model, version, stage=stage, comment=comment)
    hint = f"Asked. Another member decides: mops models decide-approval {asked.id} --approve"
    show(asked, as_json=True) if as_json else say(hint)


@app.command()
@paged
def list_approvals(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List requests for approval, newest first."""
    columns = ["id", "model", "version", "stage", "state", "requested_by", "request_comment"]
    columns += ["decided_by", "decision_comment"]
    show_page(group(ctx, Models).list_approvals(**page), columns, as_json=as_json)


@app.command()
def decide_approval(
    ctx: typer.Context,
    approval: Annotated[str, typer.Argument(help="The request's id, apr_….")],
    approve: Annotated[bool, typer.Option("--approve/--reject", help="The decision.")],
    comment: Comment = "",
    as_json: AsJson = False,
) -> None:
    """Approve or reject a request; who asked cannot."""
    decided = group(ctx, Models).decide_approval(approval, approve=approve, comment=comment)
    show(decided, as_json=True) if as_json else say(f"{decided.model}:{decided.version} is {decided.state}.")

"""Commands on versions that are made of others."""

from typing import Annotated

import typer

from modelops.contracts.terminal import AsJson, group, pairs, say, show
from modelops.domains.models.client import Models
from modelops.domains.models.compositions import Method, PassOn
from modelops.domains.models.schemas import ModelVersion

app = typer.Typer()

NameArg = Annotated[str, typer.Argument(help="The name of the new version's model; made if it is new.")]
Tag = Annotated[list[str] | None, typer.Option("--tag", help="KEY=VALUE; repeat it.")]


@app.command()
def register_ensemble(
    ctx: typer.Context,
    name: NameArg,
    member: Annotated[list[str], typer.Option(help="A version: name, name:3, name@alias. Repeat it.")],
    method: Annotated[
        Method, typer.Option(help="How they become one; a stack is fitted from Python.")
    ] = Method.AVERAGE,
    weight: Annotated[list[float] | None, typer.Option(help="One a member, in their order. Repeat it.")] = None,
    description: str = "",
    tag: Tag = None,
    as_json: AsJson = False,
) -> None:
    """Register an ensemble of registered versions, which averages what they say or lets them vote."""
    facts = {"description": description, "tags": pairs(tag, "a tag")}
    made = group(ctx, Models).register_ensemble(name, member, method=method, weights=weight or None, **facts)
    show(made, as_json=True) if as_json else _told(made, f"{len(member)} versions")


@app.command()
def register_chain(
    ctx: typer.Context,
    name: NameArg,
    step: Annotated[list[str], typer.Option(help="A version: name, name:3, name@alias. Repeat it, in order.")],
    pass_on: Annotated[
        PassOn, typer.Option(help="What a step that has probabilities gives to the next.")
    ] = PassOn.PREDICTIONS,
    description: str = "",
    tag: Tag = None,
    as_json: AsJson = False,
) -> None:
    """Register a chain of registered versions: what one predicts is what the next one takes."""
    facts = {"description": description, "tags": pairs(tag, "a tag")}
    made = group(ctx, Models).register_chain(name, step, pass_on=pass_on, **facts)
    show(made, as_json=True) if as_json else _told(made, f"{len(step)} steps")


def _told(made: ModelVersion, of: str) -> None:
    say(f"{made.name}:{made.version} is registered, of {of}. Deploy it: mops deployments create-deployment {made.name}")

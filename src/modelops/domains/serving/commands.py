"""Deployments: which model version answers where."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from modelops.contracts.terminal import AsJson, group, note, paged, pairs, say, show, show_page, show_rows, values
from modelops.domains.serving.client import Serving
from modelops.domains.serving.options import change_of, policy_of, read_strategy, read_traffic, show_rollout
from modelops.domains.serving.rollouts import Rollout
from modelops.domains.serving.schemas import (
    Deployment,
    DeploymentState,
    ExplainMethod,
    LogFormat,
    ServingLimits,
    Target,
    TrafficPolicy,
)
from modelops.domains.serving.watching import watch_deployments

app = typer.Typer(help="Deployments: which model version answers where.", no_args_is_help=True)

DeploymentArg = Annotated[str, typer.Argument(help="A deployment, by name or id.")]
ModelArg = Annotated[str, typer.Argument(help="A model version: NAME (its latest), NAME:3 or NAME@ALIAS.")]
ModelOpt = Annotated[str | None, typer.Option(help="Another model version: NAME, NAME:3 or NAME@ALIAS.")]
ReplicasOpt = Annotated[int | None, typer.Option(min=0, max=64, help="How many runtimes; 0 stops it.")]
CpusOpt = Annotated[int | None, typer.Option(min=1, help="Threads of each replica.")]
MemoryOpt = Annotated[int | None, typer.Option(min=64, help="Memory of each replica, in MiB.")]
ConcurrencyOpt = Annotated[int | None, typer.Option(min=1, help="Requests that each replica takes at once.")]
AutoscaleOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--autoscale",
        help="What replicas follow: min=0,max=4,target_inflight=8; by=hpa,cpu_percent=70; JSON, `@FILE`, or off.",
    ),
]
LimitOpt = Annotated[
    list[str] | None, typer.Option("--limit", help="Another limit, such as rate_per_s=50, or =null; repeat it.")
]
ChallengerOpt = Annotated[
    list[str] | None, typer.Option("--challenger", help="Answers a share: NAME=MODEL:VERSION:PERCENT; repeat it.")
]
ShadowOpt = Annotated[
    list[str] | None, typer.Option("--shadow", help="Is asked copies: NAME=MODEL:VERSION:PERCENT; repeat it.")
]
StickyOpt = Annotated[str | None, typer.Option("--sticky-header", help="Its value decides who answers a caller.")]
StrategyOpt = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="How changes come about: all_at_once, rolling, canary, blue_green, or JSON; `@FILE` reads one.",
    ),
]
StepOpt = Annotated[
    list[str] | None,
    typer.Option("--step", help="A canary's step, PERCENT:SECONDS, or PERCENT to stay until resumed; repeat it."),
]
TargetOpt = Annotated[Target | None, typer.Option(help="Where its replicas run; by default as the platform is set.")]
TagOpt = Annotated[list[str] | None, typer.Option(help="A tag, KEY=VALUE; repeat it.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it serves; fail when it does not.")]
TimeoutOpt = Annotated[float, typer.Option(min=1, help="Seconds to wait at most.")]
RowsArg = Annotated[str, typer.Argument(help="Rows as a JSON array; `@FILE` reads a file, `-` standard input.")]

_COLUMNS = ["name", "state", "model", "model_version", "ready_replicas", "replicas", "active_revision", "id"]
_MISSED = frozenset({DeploymentState.FAILED, DeploymentState.ROLLED_BACK})


@app.command()
def create_deployment(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens.")],
    model: ModelArg,
    replicas: ReplicasOpt = 1,
    autoscale: AutoscaleOpt = None,
    cpus: CpusOpt = None,
    memory_mb: MemoryOpt = None,
    max_concurrency: ConcurrencyOpt = None,
    limit: LimitOpt = None,
    challenger: ChallengerOpt = None,
    shadow: ShadowOpt = None,
    sticky_header: StickyOpt = None,
    strategy: StrategyOpt = None,
    step: StepOpt = None,
    target: TargetOpt = None,
    description: str = "",
    tag: TagOpt = None,
    wait: Wait = False,
    timeout_s: TimeoutOpt = 300.0,
    as_json: AsJson = False,
) -> None:
    """Deploy a model version."""
    serving = group(ctx, Serving)
    made = serving.create_deployment(
        name,
        model,
        replicas=1 if replicas is None else replicas,
        autoscaling=policy_of(autoscale),
        limits=_limits(ServingLimits(), cpus, memory_mb, max_concurrency, limit),
        traffic=read_traffic(TrafficPolicy(), challenger, shadow, sticky_header),
        strategy=read_strategy(strategy, step),
        target=target,
        description=description,
        tags=pairs(tag, "a tag"),
    )
    _show(serving, made, wait, timeout_s, as_json)


@app.command()
@paged
def list_deployments(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the project's deployments."""
    empty = "There are no deployments: `mops deployments create-deployment NAME MODEL` makes one."
    show_page(group(ctx, Serving).list_deployments(**page), _COLUMNS, as_json=as_json, empty=empty)


@app.command()
def get_deployment(ctx: typer.Context, deployment: DeploymentArg, as_json: AsJson = False) -> None:
    """Show a deployment and its replicas."""
    _print(group(ctx, Serving).get_deployment(deployment), as_json)


@app.command()
def update_deployment(
    ctx: typer.Context,
    deployment: DeploymentArg,
    model: ModelOpt = None,
    replicas: ReplicasOpt = None,
    autoscale: AutoscaleOpt = None,
    cpus: CpusOpt = None,
    memory_mb: MemoryOpt = None,
    max_concurrency: ConcurrencyOpt = None,
    limit: LimitOpt = None,
    challenger: ChallengerOpt = None,
    shadow: ShadowOpt = None,
    sticky_header: StickyOpt = None,
    champion_only: Annotated[bool, typer.Option("--champion-only", help="Take challengers and shadows away.")] = False,
    strategy: StrategyOpt = None,
    step: StepOpt = None,
    description: str | None = None,
    tag: TagOpt = None,
    wait: Wait = False,
    timeout_s: TimeoutOpt = 300.0,
    as_json: AsJson = False,
) -> None:
    """Change a deployment without an interruption: another model, limits, traffic, more or fewer replicas."""
    serving = group(ctx, Serving)
    limits = None
    if limit or any(given is not None for given in (cpus, memory_mb, max_concurrency)):
        limits = _limits(serving.get_deployment(deployment).limits, cpus, memory_mb, max_concurrency, limit)
    traffic = TrafficPolicy() if champion_only else None
    if challenger or shadow or sticky_header is not None:
        traffic = read_traffic(traffic or serving.get_deployment(deployment).traffic, challenger, shadow, sticky_header)
    changed = serving.update_deployment(
        deployment,
        model=model,
        replicas=replicas,
        autoscaling=change_of(autoscale, lambda: serving.get_deployment(deployment).autoscaling),
        limits=limits,
        traffic=traffic,
        strategy=read_strategy(strategy, step),
        description=description,
        tags=pairs(tag, "a tag") if tag else None,
    )
    _show(serving, changed, wait, timeout_s, as_json)


@app.command()
def delete_deployment(
    ctx: typer.Context,
    deployment: DeploymentArg,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until nothing of it runs.")] = False,
    timeout_s: TimeoutOpt = 120.0,
    as_json: AsJson = False,
) -> None:
    """End a deployment."""
    serving = group(ctx, Serving)
    deleted = serving.delete_deployment(deployment)
    if wait:
        serving.wait_until_gone(deleted.id, timeout_s)
    if as_json:
        show(deleted, as_json=True)
    else:
        say(f"{deleted.name} is {'gone' if wait else 'being deleted'}.")


@app.command()
@paged
def list_revisions(ctx: typer.Context, deployment: DeploymentArg, page: Any, as_json: AsJson = False) -> None:
    """List a deployment's revisions, newest first."""
    columns = ["number", "state", "model", "model_version", "created_at", "created_by", "reason"]
    show_page(group(ctx, Serving).list_revisions(deployment, **page), columns, as_json=as_json)


@app.command()
def rollback_deployment(
    ctx: typer.Context,
    deployment: DeploymentArg,
    revision: Annotated[int | None, typer.Option(min=1, help="By default, the one that served before.")] = None,
    wait: Wait = False,
    timeout_s: TimeoutOpt = 300.0,
    as_json: AsJson = False,
) -> None:
    """Go back to an earlier revision."""
    serving = group(ctx, Serving)
    _show(serving, serving.rollback_deployment(deployment, revision=revision), wait, timeout_s, as_json)


@app.command()
@paged
def list_rollouts(ctx: typer.Context, deployment: DeploymentArg, page: Any, as_json: AsJson = False) -> None:
    """List a deployment's rollouts, newest first."""
    columns = ["revision", "from_revision", "state", "step", "steps", "share", "created_at", "created_by", "reason"]
    show_page(
        group(ctx, Serving).list_rollouts(deployment, **page), columns, as_json=as_json, empty="Nothing changed yet."
    )


@app.command()
def get_rollout(
    ctx: typer.Context,
    deployment: DeploymentArg,
    revision: Annotated[int | None, typer.Option(min=1, help="By default, the last one's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how a revision takes over: where it stands, what was measured, what came about."""
    show_rollout(group(ctx, Serving).get_rollout(deployment, revision=revision), as_json)


@app.command()
def pause_rollout(ctx: typer.Context, deployment: DeploymentArg, as_json: AsJson = False) -> None:
    """Keep a rollout where it is; a failing analysis still aborts it."""
    show_rollout(group(ctx, Serving).pause_rollout(deployment), as_json)


@app.command()
def resume_rollout(ctx: typer.Context, deployment: DeploymentArg, as_json: AsJson = False) -> None:
    """Let a paused rollout go on."""
    show_rollout(group(ctx, Serving).resume_rollout(deployment), as_json)


@app.command()
def promote_rollout(
    ctx: typer.Context,
    deployment: DeploymentArg,
    wait: Wait = False,
    timeout_s: TimeoutOpt = 300.0,
    as_json: AsJson = False,
) -> None:
    """Skip what is left of a rollout's steps: the candidate takes over now."""
    serving = group(ctx, Serving)
    _after(serving, deployment, serving.promote_rollout(deployment), wait, timeout_s, as_json)


@app.command()
def abort_rollout(
    ctx: typer.Context,
    deployment: DeploymentArg,
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until what served before answers all again.")] = False,
    timeout_s: TimeoutOpt = 300.0,
    as_json: AsJson = False,
) -> None:
    """Give a rollout up: what served before answers all again."""
    serving = group(ctx, Serving)
    _after(serving, deployment, serving.abort_rollout(deployment, reason=reason), wait, timeout_s, as_json)


@app.command()
def record_business_metric(
    ctx: typer.Context,
    deployment: DeploymentArg,
    metric: Annotated[str, typer.Argument(help="Which metric, such as `revenue`.")],
    variant: Annotated[str, typer.Argument(help="Whose answers led to the values: `champion`, `candidate`, …")],
    values: Annotated[list[float], typer.Argument(help="The values, such as one per order.")],
    as_json: AsJson = False,
) -> None:
    """Post values that a variant's answers led to, for the analysis of a canary."""
    show(group(ctx, Serving).record_business_metric(deployment, metric, variant, values), as_json=as_json)


@app.command()
def predict(ctx: typer.Context, deployment: DeploymentArg, instances: RowsArg, as_json: AsJson = False) -> None:
    """Predict rows, such as '[[5.1, 3.5, 1.4, 0.2]]'."""
    show(group(ctx, Serving).predict(deployment, _rows(instances)), as_json=as_json)


@app.command()
def explain(
    ctx: typer.Context,
    deployment: DeploymentArg,
    instances: RowsArg,
    method: Annotated[ExplainMethod | None, typer.Option(help="By default, the cheapest that fits the model.")] = None,
    max_evaluations: Annotated[
        int | None, typer.Option(min=1, max=2**20, help="Rows that the model may be asked for, to explain one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain the predictions of rows by additive attributions (SHAP values)."""
    said = group(ctx, Serving).explain(deployment, _rows(instances), method=method, max_evaluations=max_evaluations)
    if as_json:
        show(said, as_json=True)
        return
    for number, row in enumerate(said.attributions):
        say(f"Row {number}, in {said.explains} ({said.method}):")
        base = {"feature": "(base value)", **dict(zip(said.outputs, said.base_values, strict=True))}
        columns = [
            {"feature": name, **{output: row[k][index] for k, output in enumerate(said.outputs)}}
            for index, name in enumerate(said.feature_names)
        ]
        show_rows([*columns, base], ["feature", *said.outputs], as_json=False, empty="")


@app.command()
def get_replica_log(
    ctx: typer.Context,
    deployment: DeploymentArg,
    index: Annotated[int, typer.Argument(min=0, help="A replica, counted from 0.")] = 0,
    revision: Annotated[int | None, typer.Option(min=1, help="By default, the one that matters now.")] = None,
    offset: Annotated[int, typer.Option(min=0, help="Bytes to skip.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1_048_576, help="Bytes at most.")] = 65_536,
    as_json: AsJson = False,
) -> None:
    """Print a replica's output."""
    log = group(ctx, Serving).get_replica_log(deployment, index, revision=revision, offset=offset, limit=limit)
    show(log, as_json=True) if as_json else say(log.text.rstrip("\n"))


@app.command()
def watch(
    ctx: typer.Context,
    deployment: Annotated[str | None, typer.Argument(help="By default, all of the project.")] = None,
    every_s: Annotated[float, typer.Option("--every", min=0.2, max=3600, help="Seconds from tick to tick.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line each tick.")] = False,
) -> None:
    """Watch what deployments do: requests, latencies, what waits, replicas. Ctrl-C ends it."""
    watch_deployments(group(ctx, Serving), deployment, every_s=every_s, once=once, as_json=as_json)


@app.command()
@paged
def list_prediction_logs(ctx: typer.Context, deployment: DeploymentArg, page: Any, as_json: AsJson = False) -> None:
    """List a deployment's files of logged predictions, newest first."""
    columns = ["began_at", "ended_at", "rows", "size", "variant", "model", "version", "revision", "expires_at"]
    empty = "Nothing is logged: `mops deployments update-deployment NAME --limit log_sample=0.1` logs a tenth."
    show_page(group(ctx, Serving).list_prediction_logs(deployment, **page), columns, as_json=as_json, empty=empty)


@app.command()
def download_prediction_logs(
    ctx: typer.Context,
    deployment: DeploymentArg,
    to: Annotated[Path, typer.Argument(help="The file to write.")],
    since: Annotated[datetime | None, typer.Option(help="Requests from then on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Requests before then (UTC).")] = None,
    variant: Annotated[str | None, typer.Option(help="Those of one variant.")] = None,
    format: Annotated[LogFormat, typer.Option(help="What to write.")] = LogFormat.PARQUET,  # noqa: A002 - the option
    as_json: AsJson = False,
) -> None:
    """Write logged predictions into a file, as one table. They may be personal data."""
    serving = group(ctx, Serving)
    serving.download_prediction_logs(deployment, to, since=since, until=until, variant=variant, format=format)
    if as_json:
        show_rows([{"file": str(to), "size": to.stat().st_size}], ["file", "size"], as_json=True, empty="")
    else:
        say(f"{to} is there.")


def _limits(
    before: ServingLimits,
    cpus: int | None,
    memory_mb: int | None,
    max_concurrency: int | None,
    others: list[str] | None,
) -> ServingLimits:
    chosen = {"cpus": cpus, "memory_mb": memory_mb, "max_concurrency": max_concurrency}
    given = {name: value for name, value in chosen.items() if value is not None}
    return ServingLimits.model_validate(before.model_dump() | given | values(others, "a limit"))


def _rows(text: str) -> Any:
    """Read rows from an argument: JSON, `@FILE` or `-`."""
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        rows = json.loads(text)
    except (OSError, ValueError) as wrong:
        raise typer.BadParameter(f"The rows cannot be read: {wrong}.") from wrong
    return rows["instances"] if isinstance(rows, dict) and set(rows) == {"instances"} else rows


def _after(serving: Serving, deployment: str, rollout: Rollout, wait: bool, timeout_s: float, as_json: bool) -> None:
    """Show a rollout that was steered; with `wait`, once the deployment has settled."""
    if wait:
        serving.wait_until_settled(deployment, timeout_s, on_change=_progress)
        rollout = serving.get_rollout(deployment, revision=rollout.revision)
    show_rollout(rollout, as_json)


def _show(serving: Serving, deployment: Deployment, wait: bool, timeout_s: float, as_json: bool) -> None:
    """Show a deployment; with `wait`, once it has settled, and end with 1 where that is not as it was wanted."""
    if wait:
        deployment = serving.wait_until_settled(deployment.id, timeout_s, on_change=_progress)
    _print(deployment, as_json)
    if wait and deployment.state in _MISSED:
        raise typer.Exit(1)


def _progress(deployment: Deployment) -> None:
    if sys.stderr.isatty():
        ready = f"{deployment.ready_replicas} of {deployment.replicas} ready"
        note(f"{deployment.name}: {deployment.state} ({ready}) {deployment.reason or ''}".rstrip())


def _print(deployment: Deployment, as_json: bool) -> None:
    """Print a deployment, and its replicas as a table of their own."""
    if as_json:
        show(deployment, as_json=True)
        return
    show(
        {
            name: value
            for name, value in deployment.model_dump(mode="json").items()
            if name not in ("replica_status", "variants")
        },
        as_json=False,
    )
    if len(deployment.variants) > 1:
        show_rows(deployment.variants, ["name", "role", "share", "model", "model_version"], as_json=False, empty="")
    columns = ["revision", "index", "phase", "ready", "endpoint", "pid", "restarts", "reason"]
    show_rows(deployment.replica_status, columns, as_json=False, empty="No replica runs.")

"""The token that the platform itself calls replicas with."""

from modelops.domains.identity import service as identity
from modelops.domains.serving.replicas.gateway import TOKEN_TTL_S, Gateway
from modelops.kernel.context import Context

PERMISSION = "deployments.predict"


def platform_token(ctx: Context) -> str:
    """Return the platform's token for calls to the current project's replicas, issued anew before it expires."""
    return ctx.port(Gateway).token(ctx.project_id, ctx.clock.monotonic(), lambda: issue_token(ctx))


def issue_token(ctx: Context) -> str:
    """Issue such a token."""
    return identity.call_token(ctx, [PERMISSION], ttl_s=TOKEN_TTL_S)

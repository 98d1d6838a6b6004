"""What other libraries' spans say in attributes of their own, said in MLflow's, so that usage, type and texts are found.

Sources: OpenTelemetry's semantic conventions for generative AI, OpenInference's, and OpenLLMetry's (Traceloop).
"""

from typing import Any

import msgspec

from modelops.domains.mlflow.traces.spans import INPUTS, KIND, OUTPUTS, USAGE, Span

_TOKENS = {
    "input_tokens": ("gen_ai.usage.input_tokens", "llm.token_count.prompt", "gen_ai.usage.prompt_tokens"),
    "output_tokens": ("gen_ai.usage.output_tokens", "llm.token_count.completion", "gen_ai.usage.completion_tokens"),
    "total_tokens": ("llm.token_count.total", "llm.usage.total_tokens"),
    "cache_read_input_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "llm.token_count.prompt_details.cache_read",
    ),
    "cache_creation_input_tokens": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
}
_TEXTS = {
    INPUTS: ("gen_ai.input.messages", "gen_ai.tool.call.arguments", "input.value", "traceloop.entity.input"),
    OUTPUTS: ("gen_ai.output.messages", "gen_ai.tool.call.result", "output.value", "traceloop.entity.output"),
    "mlflow.llm.model": (
        "gen_ai.response.model",
        "gen_ai.request.model",
        "llm.response.model_name",
        "llm.model_name",
    ),
    "mlflow.llm.provider": ("gen_ai.provider.name", "llm.provider", "gen_ai.system"),
}
_OPERATIONS = {
    "chat": "CHAT_MODEL",
    "create_agent": "AGENT",
    "embeddings": "EMBEDDING",
    "execute_tool": "TOOL",
    "generate_content": "LLM",
    "invoke_agent": "AGENT",
    "text_completion": "LLM",
}


def translate(span: Span) -> Span:
    """Return the span with what MLflow calls its type, inputs, outputs, model and usage, where it does not say so itself."""
    found: dict[str, Any] = {}
    for name, keys in _TEXTS.items():
        if name not in span.attributes and (value := _first(span, keys)) is not None:
            found[name] = value
    if span.attributes.get(KIND) in (None, "UNKNOWN") and (kind := _kind(span)):
        found[KIND] = kind
    if USAGE not in span.attributes and (usage := _usage(span)):
        found[USAGE] = usage
    return msgspec.structs.replace(span, attributes=span.attributes | found) if found else span


def _first(span: Span, keys: tuple[str, ...]) -> Any:
    return next((span.attributes[key] for key in keys if span.attributes.get(key) is not None), None)


def _kind(span: Span) -> str | None:
    if operation := _OPERATIONS.get(span.text("gen_ai.operation.name")):
        return operation
    return (span.text("openinference.span.kind") or span.text("traceloop.span.kind")).upper() or None


def _usage(span: Span) -> dict[str, int]:
    usage = {}
    for name, keys in _TOKENS.items():
        value = _first(span, keys)
        if isinstance(value, str) and value.isdecimal() and len(value) < 16:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            usage[name] = value
    if "total_tokens" not in usage and "input_tokens" in usage and "output_tokens" in usage:
        usage["total_tokens"] = usage["input_tokens"] + usage["output_tokens"]
    return usage if usage.keys() & {"input_tokens", "output_tokens", "total_tokens"} else {}

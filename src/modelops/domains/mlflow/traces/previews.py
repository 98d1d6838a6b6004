"""What a listing shows of a trace's request and answer: of a chat its last message, of anything else its JSON, cut."""

import json
from typing import Any

from modelops.domains.mlflow.traces.spans import plain

_LONGEST = 1_000


def preview(value: Any, role: str) -> str | None:
    """Return a text of at most 1,000 characters, or None for nothing.

    Args:
        value: A span's inputs or outputs.
        role: Whose message of a chat is looked for, `user` or `assistant`; if there is none, the last counts.
    """
    if value is None:
        return None
    document = plain(value)
    if isinstance(value, str):
        try:
            document = json.loads(value)
        except (ValueError, RecursionError):
            document = None
    text = _last_message(document, role) or (
        value if isinstance(value, str) else json.dumps(document, ensure_ascii=False)
    )
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _last_message(document: Any, role: str) -> str | None:
    messages = _messages(document)
    if not messages:
        return None
    chosen = next((one for one in reversed(messages) if one["role"] == role), messages[-1])
    content = chosen["content"]
    parts = content if isinstance(content, list) else [content]
    for part in parts:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str) and text:
            return text
    return None


def _messages(document: Any) -> list[dict[str, Any]]:
    """Return a chat's messages, in the forms of chat completions and of responses."""
    for _ in range(3):  # an agent's request holds the chat's request
        if not isinstance(document, dict):
            return []
        for name in ("messages", "input", "output"):
            if isinstance(document.get(name), list):
                return [item for item in document[name] if _is_message(item)]
        choices = document.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            message: Any = choices[0].get("message")
            return [message] if _is_message(message) else []
        document = document.get("request")
    return []


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and "role" in item and "content" in item

"""Events in words, for people: in a chat, and by e-mail."""

import json

from modelops.contracts.events import Event

_LONGEST_VALUE = 500
_MOST_LINES = 30


def headline(event: Event) -> str:
    """Return what happened, on one line: `Pipelines: run ended: nightly-3f2a1c`."""
    _, _, rest = event.type.partition(".")
    room, _, fact = rest.partition(".")
    named = event.data.get("name") or event.data.get("model") or event.data.get("pipeline") or event.subject
    return " ".join(f"{room.capitalize()}: {fact.replace('_', ' ')}: {named}".split())[:200]


def details(event: Event) -> list[str]:
    """Return the rest, a line a field."""
    lines = [f"{name}: {_short(value)}" for name, value in event.data.items() if value is not None]
    return [
        *lines[:_MOST_LINES],
        f"about: {event.subject}",
        f"at: {event.time:%Y-%m-%d %H:%M:%S} UTC",
        f"event: {event.id}",
    ]


def slack_message(event: Event) -> bytes:
    """Return what an incoming webhook of Slack's takes; what it would read as a command or a link is written out."""
    text = "\n".join([f"*{_escape(headline(event))}*", *map(_escape, details(event))])
    return json.dumps({"text": text}).encode()


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

"""Parts of a report: sections, figures and tables in HTML."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from modelops.domains.experiments.scales import write_value

_LONG = 120


def section(title: str, content: str) -> str:
    """Return a section under its heading; nothing where it has no content, which is HTML."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def figure(drawn: str, caption: str) -> str:
    """Return a drawing with a sentence below it."""
    return f"<figure>{drawn}<figcaption>{escape(caption)}</figcaption></figure>" if drawn else ""


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table that says what it is; a wide one scrolls by itself, also by keyboard. Every cell is escaped."""
    listed = list(rows)
    numeric = [any(_is_number(row[place]) for row in listed) for place in range(len(heads))]
    head = "".join(
        f'<th scope="col"{classes}>{escape(text)}</th>'
        for text, classes in zip(heads, (' class="n"' if is_number else "" for is_number in numeric), strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(_cell(value, is_head=place == 0, is_number=numeric[place]) for place, value in enumerate(row))
        + "</tr>"
        for row in listed
    )
    return (
        f'<div class="table" role="region" tabindex="0" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(value: Any, *, is_head: bool, is_number: bool) -> str:
    text = write_value(value)
    short = text if len(text) <= _LONG else text[: _LONG - 1] + "…"
    if is_head:
        return f'<th scope="row">{escape(short)}</th>'
    return f'<td class="n">{escape(short)}</td>' if is_number else f"<td>{escape(short)}</td>"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

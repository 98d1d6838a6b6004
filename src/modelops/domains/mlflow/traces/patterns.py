"""Regular expressions that a search may run over other people's texts: those whose time cannot explode.

Python's engine, which SQLite uses here, tries every way to match, and holds up all other work of the process meanwhile. So a
pattern repeats little, and repeats no group in which something is repeated or chosen.
"""

import re

from modelops.contracts.errors import InvalidInput

_MOST_ENDLESS, _MOST, _LONGEST = 2, 6, 500
_SKIPPED = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_REPEAT = re.compile(r"[*+?]|\{\d*,?\d*\}")
_OPENING = re.compile(r"\((?:\?(?:P?<[^>]*>|[:=!aiLmsux-]+:?|<[=!]|P=|\())?")


def check_pattern(pattern: str) -> str:
    """Return the pattern.

    Raises:
        InvalidInput: it is none, or could take too long.
    """
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as wrong:
        raise InvalidInput(f"'{pattern[:100]}' is not a regular expression: {wrong}.") from wrong
    repeats = _repeats(pattern)
    if len(pattern) > _LONGEST or len(repeats) > _MOST or sum(map(_is_endless, repeats)) > _MOST_ENDLESS:
        raise _too_costly(pattern)
    return pattern


def _repeats(pattern: str) -> list[str]:
    """Return the repetitions of a pattern."""
    found: list[str] = []
    simple = [True]  # of each group that is open, whether nothing is repeated or chosen in it
    at, closed = 0, True
    while at < len(pattern):
        if skipped := _SKIPPED.match(pattern, at):
            at, closed = skipped.end(), True
        elif opening := _OPENING.match(pattern, at):
            simple.append(True)
            at, closed = opening.end(), True
        elif repeat := _REPEAT.match(pattern, at):
            if not closed:
                raise _too_costly(pattern)
            found.append(repeat[0])
            simple[-1] = False
            at = repeat.end()
            if pattern[at : at + 1] in ("?", "+"):  # it is lazy or possessive
                at += 1
        else:
            closed = True
            if pattern[at] == ")" and len(simple) > 1:
                closed = simple.pop()
                simple[-1] &= closed
            elif pattern[at] == "|":
                simple[-1] = False
            at += 1
    return found


def _is_endless(repeat: str) -> bool:
    return repeat in ("*", "+") or repeat.endswith(",}")


def _too_costly(pattern: str) -> InvalidInput:
    return InvalidInput(
        f"The regular expression '{pattern[:100]}' could take too long.",
        hint=f"Repeat at most {_MOST} times, {_MOST_ENDLESS} of them endlessly, and no group that repeats or chooses itself.",
    )

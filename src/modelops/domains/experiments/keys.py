"""Metric keys and the numbers that stand for them in every point."""

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from modelops.kernel.database import Database, Raw
from modelops.kernel.scope import Scope

_KEPT = 200_000
_known: WeakKeyDictionary[Database, dict[str, int]] = WeakKeyDictionary()


async def number_keys(scope: Scope, keys: Iterable[str]) -> dict[str, int]:
    """Return a mapping in which each of these keys has its number; new ones get theirs, committed, first."""
    database = scope.place.database
    known = _known.setdefault(database, {})
    unknown = {key for key in keys if key not in known}
    if unknown:
        found = await scope.write(lambda raw: _number(raw, sorted(unknown)), permission="runs.write")
        if len(known) + len(found) > _KEPT:
            known = _known[database] = {}
            unknown = {key for key in keys if key not in found}
            found |= await scope.write(lambda raw: _number(raw, sorted(unknown)), permission="runs.write")
        known.update(found)
    return known


def number_within(raw: Raw, keys: list[str]) -> dict[str, int]:
    """Return the number of each key, within a write of the caller that gives new ones theirs (for the domains above)."""
    found = find_numbers(raw, keys)
    missing = sorted(key for key in keys if key not in found)
    return {**found, **_number(raw, missing)} if missing else found


def _number(raw: Raw, keys: list[str]) -> dict[str, int]:
    raw.executemany("INSERT INTO metric_keys (key) VALUES (?) ON CONFLICT DO NOTHING", [(key,) for key in keys])
    return find_numbers(raw, keys)


def find_numbers(raw: Raw, keys: list[str]) -> dict[str, int]:
    """Return the numbers of those keys that have one."""
    if not keys:
        return {}
    holes = ", ".join("?" * len(keys))
    return dict(raw.execute(f"SELECT key, number FROM metric_keys WHERE key IN ({holes})", keys).fetchall())  # noqa: S608

"""Statements that both databases know, which insert rows or change those that are there."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

T = TypeVar("T")
_CHUNK = 500


def insert(session: Session, row: Any) -> Any:
    """Return the dialect's insert, which can tell what to do about a row that is there."""
    on_postgres = session.get_bind().dialect.name == "postgresql"
    return postgresql.insert(row) if on_postgres else sqlite.insert(row)


def upsert(session: Session, row: Any, values: Sequence[dict[str, Any]], keys: list[str], **options: Any) -> None:
    """Insert rows, and overwrite those whose keys are there. Of two with the same keys, the last counts.

    Args:
        options: As `on_conflict_do_update` takes them, such as `where`.
    """
    unique = list({tuple(value[key] for key in keys): value for value in values}.values())
    for chunk in chunks(unique):
        statement = insert(session, row)
        changed = {name: statement.excluded[name] for name in chunk[0] if name not in keys}
        session.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed, **options), chunk)


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """Cut into lists that a statement can take."""
    held = list(items)
    return (held[start : start + _CHUNK] for start in range(0, len(held), _CHUNK))

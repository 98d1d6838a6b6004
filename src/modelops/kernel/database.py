"""The database: SQLite or PostgreSQL behind one set of tables, and units of work on it.

A unit of work is one transaction. On SQLite (WAL, `synchronous=FULL`) a writing one begins IMMEDIATE, so it never fails
half-way for a lock, and waits its turn in this process rather than in SQLite's polling.
"""

import functools
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    create_engine,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import TypeDecorator

_BUSY_S = 10
"""How long a statement waits for another process that writes to the SQLite file."""

_TURN_S = 30
"""How long a unit of work waits for others of its process that write to the SQLite file: longer, and the file is held by somebody
else, for whom each of those before it waits."""

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

JsonColumn = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""A JSON document: JSONB on PostgreSQL, text on SQLite."""

BigId = BigInteger().with_variant(Integer, "sqlite")
"""A 64-bit key that counts up by itself on both databases."""


def sparse_index(table: str, *columns: str, unique: bool = False) -> Index:
    """Return an index of those rows alone that have a value in the last of these columns; the others cost it nothing."""
    present = text(f'"{columns[-1]}" IS NOT NULL')
    name = f"{'uq' if unique else 'ix'}_{table}_{'_'.join(columns)}"
    return Index(name, *columns, unique=unique, sqlite_where=present, postgresql_where=present)


class Moment(TypeDecorator[datetime]):
    """An aware UTC datetime in Python; `timestamptz` on PostgreSQL, naive UTC text on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        """Return what a value is in Python."""
        return datetime

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC; a naive datetime is a mistake of the caller."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A moment needs a time zone.")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware datetime."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The base of every row."""

    metadata = MetaData(naming_convention=_NAMES)


class Tracked:
    """Mixin: when and by whom a row was made."""

    created_at: Mapped[datetime] = mapped_column(Moment)
    created_by: Mapped[str] = mapped_column(String(100))


class Revised:
    """Mixin: a row that changes, counted so that two writers cannot overwrite each other unseen (its ETag)."""

    revision: Mapped[int] = mapped_column(default=1)

    def touch(self) -> None:
        """Count a change."""
        self.revision += 1


class InProject:
    """Mixin: a row that belongs to a project. `Context.query` filters by it."""

    project_id: Mapped[str] = mapped_column(String(40), index=True)


class Database:
    """An open database. Thread-safe; `close` it.

    Args:
        url: SQLAlchemy URL of SQLite or PostgreSQL.
        pool: Connections kept to PostgreSQL.
        echo: Log each statement.
    """

    def __init__(self, url: str | URL, *, pool: int = 20, echo: bool = False) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        options: dict[str, Any] = {"echo": echo, "pool_pre_ping": not self.is_sqlite, "hide_parameters": not echo}
        if self.is_sqlite:
            options["connect_args"] = {"timeout": _BUSY_S, "check_same_thread": False}
            options["pool_size"] = 0  # as many as threads need; they are files, not connections to a server
            options["pool_use_lifo"] = True  # the last to write still has the pages in its cache
        else:
            options |= {"pool_size": pool, "max_overflow": pool, "pool_timeout": 10}
            options["connect_args"] = {"connect_timeout": 5, "options": "-c timezone=utc"}
        self.engine: Engine = create_engine(self.url, **options)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        self._writer = self.engine.execution_options(modelops_write=True)
        self._turn = threading.Lock()
        self._kept: Any = None

    @contextmanager
    def work(self, *, write: bool = True) -> Iterator[Session]:
        """Open a unit of work: committed when the block ends, rolled back when it raises.

        Args:
            write: False promises not to write; such units never wait for a writer.
        """
        turn = self._turn_to_write() if write and self.is_sqlite else _NO_TURN
        with turn, Session(self._writer if write else self.engine, expire_on_commit=False) as session:
            with session.begin():
                yield session

    @contextmanager
    def raw(self, *, write: bool = False) -> Iterator["Raw"]:
        """Open a unit of work on the driver itself, for statements that are run very often."""
        turn = self._turn_to_write() if write and self.is_sqlite else _NO_TURN
        with turn, self._connection(write) as connection:
            raw = Raw(connection.cursor(), on_sqlite=self.is_sqlite)
            if self.is_sqlite:  # psycopg begins by itself
                raw.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield raw
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    @contextmanager
    def _turn_to_write(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=_TURN_S):
            raise PoolTimeout("Too many write before it.")
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def _connection(self, write: bool) -> Iterator[Any]:
        """Lend a connection of the driver. SQLite's for writing is always the same, and keeps the pages that it wrote."""
        if not (write and self.is_sqlite):
            with closing(self.engine.raw_connection()) as connection:
                yield connection
            return
        connection, self._kept = self._kept or self.engine.raw_connection(), None
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._kept = connection

    def close(self) -> None:
        """Close every connection."""
        with self._turn:
            if self._kept is not None:
                self._kept.close()
                self._kept = None
        self.engine.dispose()


class Raw:
    """A transaction on the driver's own cursor: plain tuples in and out, `?` for each parameter, on both databases.

    A `?` inside a quoted text of a statement is not a parameter on SQLite, but would be one on PostgreSQL: write none.
    """

    def __init__(self, cursor: Any, *, on_sqlite: bool) -> None:
        self.on_sqlite = on_sqlite
        self._cursor = cursor

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        """Run a statement and return its cursor; read it before the next statement."""
        return self._cursor.execute(self._spelt(statement), parameters)

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each row."""
        self._cursor.executemany(self._spelt(statement), rows)

    def moment(self, moment: datetime) -> Any:
        """Return a moment as `Moment` stores it."""
        if moment.tzinfo is not UTC:
            moment = moment.astimezone(UTC)
        return moment.isoformat(" ", "microseconds")[:26] if self.on_sqlite else moment

    def _spelt(self, statement: str) -> str:
        return statement if self.on_sqlite else _in_format_style(statement)


def raw_of(session: Session) -> Raw:
    """Return the driver's cursor within a session's transaction; what the session holds back is written first."""
    session.flush()
    connection = session.connection()
    driver: Any = connection.connection.dbapi_connection
    return Raw(driver.cursor(), on_sqlite=connection.dialect.name == "sqlite")


def read_moment(stored: Any) -> datetime:
    """Return a moment that a raw statement read."""
    if isinstance(stored, str):
        return datetime.fromisoformat(stored).replace(tzinfo=UTC)
    return stored.astimezone(UTC)  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=1024)
def _in_format_style(statement: str) -> str:
    return statement.replace("%", "%%").replace("?", "%s")


class _NoTurn:
    def __enter__(self) -> None: ...

    def __exit__(self, *exc: object) -> None: ...


_NO_TURN = _NoTurn()


def sqlite_url(path: Path) -> URL:
    """Return the URL of an SQLite file."""
    return URL.create("sqlite+pysqlite", database=str(path))


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin_sqlite`, not by the driver
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={_BUSY_S * 1000}",
        "wal_autocheckpoint=4000",  # pages: those that change often are copied once for many commits
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    writes = connection.get_execution_options().get("modelops_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

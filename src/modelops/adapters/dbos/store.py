"""What is kept of stories: DBOS's system database. The one module that knows DBOS, whose import costs a third of a second.

Whatever changes a story under way is DBOS's own statement with its token of ownership; those that look over many stories at
once are ours. Everything here blocks, and is thread-safe.
"""

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import event

from modelops.adapters.dbos import values
from modelops.contracts.errors import Conflict, Unavailable
from modelops.contracts.schemas import Json
from modelops.kernel.database import Database, Raw, sqlite_url
from modelops.kernel.failures import DATABASE_ERRORS, translate
from modelops.kernel.workflows import StoryState, Told

APPLICATION = "modelops"
_VERSION = "1"
"""Of our workflows as DBOS counts them: one for all, since what a story does is data of its own tables."""
_SCHEMA = "dbos"
_QUEUE = "_dbos_internal_queue"
"""Where DBOS's own tools look for what may be claimed."""
_BATCH = 200
LIMITS = {"idle_in_transaction_session_timeout": "10s", "lock_timeout": "1s"}
"""On PostgreSQL: a process that was frozen in a transaction keeps what it locked for so long, and others do not wait for it."""
_FORGET = 20
"""Stories deleted at once: each may have ten thousand steps."""
_POOL = 5
"""Connections to PostgreSQL: a thread or two that look after stories, and those that keep their steps."""
_STATES = {
    "ENQUEUED": StoryState.RUNNING,
    "PENDING": StoryState.RUNNING,
    "SUCCESS": StoryState.SUCCEEDED,
    "CANCELLED": StoryState.CANCELED,
}


class Lost(Exception):
    """The story is not this telling's any more: another took it, or it was canceled."""


@dataclass(frozen=True)
class Kept:
    """A finished step: the text of its result, or of its failure."""

    name: str
    output: str | None
    failure: str | None

    def value(self) -> Json:
        """Return what the step returned, or raise as it did.

        Raises:
            StepFailed: it raised.
        """
        if self.failure is not None:
            raise values.decode_failure(self.failure)
        return values.decode(self.output)


@dataclass(frozen=True)
class Claimed:
    """A story that is this executor's to tell now; `owner` is the token that proves it."""

    story: str
    workflow: str
    owner: str


@dataclass(frozen=True)
class Memory:
    """What is known of a story when it is told: its argument, and its steps that have ended, by their numbers."""

    argument: Json
    kept: Mapping[int, Kept]


class Place:
    """Where the stories lie: a file beside the platform's on SQLite, a schema of the platform's database on PostgreSQL."""

    def __init__(self, database: Database, home: Path) -> None:
        self.database = database
        self.file = home / "workflows.db"

    def exists(self) -> bool:
        """Tell, cheaply and without DBOS, whether any story was ever begun here."""
        if self.database.is_sqlite:
            return self.file.exists()
        with translated(), self.database.raw() as raw:
            found = raw.execute(f"SELECT to_regclass('{_SCHEMA}.workflow_output')").fetchone()
        return found is not None and found[0] is not None

    def open(self, executor: str) -> "Store":
        """Open it, made or brought to the newest form where that is needed.

        Raises:
            Unavailable: the database does not answer.
        """
        with translated():
            if self.database.is_sqlite:
                return Store(Database(sqlite_url(self.file)), executor)
            database = Database(self.database.url, pool=_POOL)
            event.listen(database.engine, "connect", _limit)
            return Store(database, executor)


class Store:
    """The stories, open for one executor."""

    def __init__(self, database: Database, executor: str) -> None:
        from dbos._serialization import DBOSPortableJSON
        from dbos._sys_db import SystemDatabase

        logging.getLogger("dbos").setLevel(logging.WARNING)
        self.executor = executor
        self._database = database
        self._turn: Any = threading.Lock() if database.is_sqlite else contextlib.nullcontext()
        common: dict[str, Any] = {
            "system_database_url": database.url.render_as_string(hide_password=False),
            "engine_kwargs": {},
            "schema": _SCHEMA,
            "serializer": DBOSPortableJSON,
            "executor_id": executor,
            "use_listen_notify": False,
            "app_name": APPLICATION,
            "retry_connection_errors": False,
        }
        # DBOS's migrations of SQLite begin their transaction themselves, which an engine of ours has done before.
        first = SystemDatabase.create(engine=None if database.is_sqlite else database.engine, **common)
        try:
            first.run_migrations()
        finally:
            first.destroy()
        self._system = SystemDatabase.create(engine=database._writer, **common)
        self._system.create_application_version(_VERSION)

    def close(self) -> None:
        """Close its connections."""
        self._system.destroy()
        self._database.close()

    def begin(self, story: str, workflow: str, argument: str) -> str | None:
        """Write a story down as this executor's. Returns its token, or None where it was begun before.

        Raises:
            Conflict: it was begun as another workflow.
        """
        from dbos._error import DBOSConflictingWorkflowError

        owner = str(uuid.uuid4())
        with self._writing():
            try:
                _, fresh = self._system.init_workflow(
                    _status(story, workflow, argument, self.executor),  # type: ignore[arg-type]
                    creator_xid=owner,
                )
            except DBOSConflictingWorkflowError as wrong:
                raise Conflict(f"The story '{story}' was begun as another workflow than '{workflow}'.") from wrong
        return owner if fresh else None

    def keep(self, story: str, owner: str, number: int, kept: Kept, began_ms: int, ended_ms: int) -> None:
        """Keep a step's end; the same end may be kept twice.

        Raises:
            Lost: the story is not the owner's any more.
        """
        from dbos._error import DBOSWorkflowConflictIDError

        with self._writing():
            try:
                self._system.record_operation_result(
                    {
                        "workflow_uuid": story,
                        "function_id": number,
                        "function_name": kept.name,
                        "output": kept.output,
                        "error": kept.failure,
                        "serialization": "portable_json",
                        "started_at_epoch_ms": began_ms,
                        "child_workflow_id": None,
                    },
                    completed_at_epoch_ms=ended_ms,
                    owner_xid=owner,
                )
            except DBOSWorkflowConflictIDError as wrong:
                raise Lost from wrong

    def end(self, story: str, owner: str, *, output: str | None = None, failure: str | None = None) -> None:
        """Write how a story ended, unless it is not the owner's any more."""
        with self._writing():
            self._system.update_workflow_outcome(
                story, "SUCCESS" if failure is None else "ERROR", output=output, error=failure, owner_xid=owner
            )

    def cancel(self, story: str) -> None:
        """End a story that has not ended: whoever tells it finds its token gone."""
        with self._writing():
            self._system.cancel_workflows([story])

    def tell(self, story: str) -> Told | None:
        """Return what is known of a story."""
        rows = self._read(
            "SELECT s.status, s.executor_id, o.output, o.error FROM dbos.workflow_status s"
            " LEFT JOIN dbos.workflow_output o ON o.workflow_uuid = s.workflow_uuid WHERE s.workflow_uuid = ?",
            story,
        )
        if not rows:
            return None
        status, executor, output, failure = rows[0]
        said = None if failure is None else values.sentence(failure)
        return Told(_STATES.get(status, StoryState.FAILED), executor or "", values.decode(output), said)

    def claim(self, workflows: Collection[str]) -> list[Claimed]:
        """Take stories that nobody tells, of workflows that this executor knows: a batch, the oldest first."""
        free = (
            "SELECT workflow_uuid FROM dbos.workflow_status WHERE status = 'ENQUEUED' AND application_name = ?"
            " AND name IN (*) ORDER BY created_at, workflow_uuid LIMIT ?"
        )
        if not workflows or not self._read(free, APPLICATION, *workflows, 1, among=workflows):
            return []
        owner, now = str(uuid.uuid4()), int(time.time() * 1000)
        locked = free if self._database.is_sqlite else free + " FOR UPDATE SKIP LOCKED"
        statement = (
            "UPDATE dbos.workflow_status SET status = 'PENDING', executor_id = ?, owner_xid = ?,"  # noqa: S608
            " recovery_attempts = recovery_attempts + 1, started_at_epoch_ms = ?, updated_at = ?"
            f" WHERE workflow_uuid IN ({locked}) RETURNING workflow_uuid, name"
        )
        with self._raw() as raw:
            taken = raw.execute(
                self._spelt(statement, workflows), (self.executor, owner, now, now, APPLICATION, *workflows, _BATCH)
            ).fetchall()
        return [Claimed(story, workflow, owner) for story, workflow in taken]

    def recall(self, story: str) -> Memory:
        """Read a story's argument and its kept steps."""
        [(argument,)] = self._read("SELECT inputs FROM dbos.workflow_input WHERE workflow_uuid = ?", story)
        steps = self._read(
            "SELECT function_id, function_name, output, error FROM dbos.operation_outputs WHERE workflow_uuid = ?",
            story,
        )
        kept = {number: Kept(name, output, failure) for number, name, output, failure in steps}
        return Memory(values.decode_argument(argument), kept)

    def executors(self) -> set[str]:
        """Return the executors that have stories under way."""
        found = self._read(
            "SELECT DISTINCT executor_id FROM dbos.workflow_status WHERE status = 'PENDING' AND application_name = ?"
            " AND executor_id IS NOT NULL",
            APPLICATION,
        )
        return {executor for (executor,) in found}

    def release(self, executor: str, story: str | None = None) -> int:
        """Let anybody claim what an executor has under way, or one story; its tokens are worth nothing from now on."""
        which = "SELECT workflow_uuid FROM dbos.workflow_status WHERE status = 'PENDING' AND executor_id = ?"
        parameters = [int(time.time() * 1000), _QUEUE, executor]
        if story is not None:
            which += " AND workflow_uuid = ?"
            parameters.append(story)
        if not self._database.is_sqlite:
            which += " FOR UPDATE SKIP LOCKED"  # what a frozen process holds comes later
        statement = (
            "UPDATE dbos.workflow_status SET status = 'ENQUEUED', owner_xid = NULL, started_at_epoch_ms = NULL,"  # noqa: S608
            f" updated_at = ?, queue_name = coalesce(queue_name, ?) WHERE workflow_uuid IN ({which})"
        )
        with self._raw() as raw:
            return int(raw.execute(self._spelt(statement), parameters).rowcount)

    def mine(self) -> dict[str, str]:
        """Return the stories that this executor has under way, each with the token of whoever may tell it."""
        found = self._read(
            "SELECT workflow_uuid, owner_xid FROM dbos.workflow_status"
            " WHERE status = 'PENDING' AND executor_id = ? AND application_name = ?",
            self.executor,
            APPLICATION,
        )
        return dict(found)

    def owns(self, story: str, owner: str) -> bool:
        """Tell whether a story is its owner's still."""
        return self._read("SELECT owner_xid FROM dbos.workflow_status WHERE workflow_uuid = ?", story) == [(owner,)]

    def forget(self, before_ms: int) -> bool:
        """Delete a few of the stories that ended before a moment, with their steps. Returns whether there may be more."""
        old = self._read(
            "SELECT workflow_uuid FROM dbos.workflow_status WHERE completed_at < ? AND application_name = ? LIMIT ?",
            before_ms,
            APPLICATION,
            _FORGET,
        )
        if old:
            with self._writing():
                self._system.delete_workflows([story for (story,) in old])
        return len(old) == _FORGET

    def _read(self, statement: str, *parameters: Any, among: Collection[str] = ()) -> list[Any]:
        with self._raw(write=False) as raw:
            found: list[Any] = raw.execute(self._spelt(statement, among), parameters).fetchall()
            return found

    def _spelt(self, statement: str, among: Collection[str] = ()) -> str:
        """Return a statement as the database takes it: on SQLite there is no schema; `(*)` is as many as there are among."""
        if self._database.is_sqlite:
            statement = statement.replace(f"{_SCHEMA}.", "")
        return statement.replace("(*)", f"({', '.join('?' * len(among))})")

    @contextlib.contextmanager
    def _raw(self, *, write: bool = True) -> Iterator[Raw]:
        with translated(), self._turn if write else contextlib.nullcontext(), self._database.raw(write=write) as raw:
            yield raw

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with translated(), self._turn:
            yield


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise a database's failures as errors that tell what to do."""
    try:
        yield
    except DATABASE_ERRORS as wrong:
        known = translate(wrong)
        raise (known if known is not wrong else Unavailable(f"The database failed ({wrong}).")) from wrong


def _limit(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        for limit, value in LIMITS.items():
            cursor.execute(f"SET {limit} = '{value}'")
    connection.commit()


def _status(story: str, workflow: str, argument: str, executor: str) -> dict[str, Any]:
    nothing = (
        "class_name config_name authenticated_user assumed_role authenticated_roles created_at updated_at queue_name"
        " recovery_attempts workflow_timeout_ms workflow_deadline_epoch_ms deduplication_id queue_partition_key"
        " forked_from parent_workflow_id started_at_epoch_ms delay_until_epoch_ms attributes schedule_name"
        " debounce_deadline_epoch_ms shard_key"
    )
    return dict.fromkeys(nothing.split()) | {
        "workflow_uuid": story,
        "status": "PENDING",
        "name": workflow,
        "executor_id": executor,
        "app_version": _VERSION,
        "app_id": "",
        "priority": 0,
        "inputs": argument,
        "serialization": "portable_json",
        "is_debounced": False,
        "application_name": APPLICATION,
    }

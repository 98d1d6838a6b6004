"""A database's failures, told as the errors that say what to do."""

import sqlite3

import psycopg
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from modelops.contracts.errors import InvalidInput, StorageFull, Unavailable

DATABASE_ERRORS = (DBAPIError, PoolTimeout, sqlite3.Error, psycopg.Error)
"""What a database's failure is raised as: by SQLAlchemy, or by a driver that is used directly."""


def translate(wrong: Exception) -> Exception:
    """Return a database's failure as the error that tells the user what to do; others as they are."""
    text = str(getattr(wrong, "orig", wrong)).lower()
    if "disk is full" in text or "no space left" in text or "disk full" in text:
        return StorageFull("The disk of the database is full; nothing was changed.")
    if isinstance(wrong, PoolTimeout) or "locked" in text or "busy" in text:
        return Unavailable("The database is busy.")
    if isinstance(wrong, OperationalError | sqlite3.OperationalError | psycopg.OperationalError):
        return Unavailable(f"The database does not answer ({text.strip().splitlines()[0][:200]}).")
    if ("nul" in text and ("0x00" in text or "characters" in text)) or "out of range" in text or "too large" in text:
        return InvalidInput("A value cannot be stored: a text with a NUL character, or a number out of range.")
    return wrong

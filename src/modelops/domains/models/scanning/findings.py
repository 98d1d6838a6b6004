"""What a scan of a file tells."""

from enum import StrEnum

from pydantic import Field

from modelops.contracts.schemas import Schema

SCANNER = 1
"""The version of the scanner. What another one found is not believed: files are scanned again."""

MOST_NAMES = 2_000


class Unreadable(Exception):
    """The file cannot be followed to its end, or does what no honest writer does; so nothing can be said of it."""


class Reading(StrEnum):
    """How a loader would open a file, as its path and the package tell.

    `pickle` and `joblib` must be followed to the end. `text` is opened by nothing that runs code. `source` is Python code
    and `compiled` a processor's or an interpreter's. `any` is told by its content.
    """

    PICKLE = "pickle"
    JOBLIB = "joblib"
    TEXT = "text"
    SOURCE = "source"
    COMPILED = "compiled"
    ANY = "any"


class FileScan(Schema):
    """What one file holds.

    Attributes:
        imports: What it would import, as `module:name`, sorted.
        code: Where it brings Python code: the path within the file, where it is an archive, and what it is.
        unsafe: What no list can vouch for, in the same words.
        unreadable: Why it could not be followed to its end; None where it could.
    """

    imports: list[str] = Field(default=[])
    code: list[str] = Field(default=[])
    unsafe: list[str] = Field(default=[])
    unreadable: str | None = None


class Notes:
    """Collects what is found while a file is walked."""

    def __init__(self) -> None:
        self.imports: set[str] = set()
        self.code: set[str] = set()
        self.unsafe: set[str] = set()

    def note(self, kind: set[str], what: str) -> None:
        """Keep a finding.

        Raises:
            Unreadable: there are more than any model has.
        """
        kind.add(what[:500])
        if len(kind) > MOST_NAMES:
            raise Unreadable(f"it holds more than {MOST_NAMES:,} different names")

    def done(self, unreadable: str | None = None) -> FileScan:
        """Return what was found."""
        return FileScan(
            imports=sorted(self.imports), code=sorted(self.code), unsafe=sorted(self.unsafe), unreadable=unreadable
        )

"""What a replica was last sent, and how far each of its processes is with it: files in its folder.

`revision.json` is what all of its processes have served, and start again with. `wanted.json` is what the replica was last
sent. `progress-N.json` tells of one process.
"""

import logging
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from pydantic import ValidationError

from modelops.domains.serving.schemas import RevisionDocument
from modelops.runtime.serving.files import write_atomically

_log = logging.getLogger(__name__)


class Wanted(msgspec.Struct, frozen=True):
    """A document that the replica was sent. `mark` names this sending of it, and no other."""

    mark: str
    document: RevisionDocument


class Progress(msgspec.Struct):
    """How far one process is.

    Attributes:
        served: What it serves, as the members of `ServedVariant`.
        handled: The mark of what it has come to serve, or failed to.
        failure: Why it failed to.
        trying: The mark of what it loads, and how often it began to: a load may end the process.
    """

    revision: int
    served: list[dict[str, Any]]
    handled: str = ""
    failure: str | None = None
    trying: str = ""
    tries: int = 0


_decoder = msgspec.json.Decoder(Progress)


def read_wanted(workdir: Path) -> Wanted | None:
    """Return what the replica was last sent; None where that is nothing, or the file is damaged."""
    try:
        found = msgspec.json.decode((workdir / "wanted.json").read_bytes())
        return Wanted(found["mark"], RevisionDocument.model_validate(found["document"]))
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, KeyError, TypeError, ValidationError) as wrong:
        _log.warning("wanted.json is passed over: %s", wrong)
        return None


def write_wanted(workdir: Path, document: RevisionDocument) -> Wanted:
    """Keep what the replica was sent, durably."""
    wanted = Wanted(uuid4().hex, document)
    content = {"mark": wanted.mark, "document": document.model_dump(mode="json")}
    write_atomically(workdir / "wanted.json", msgspec.json.encode(content))
    return wanted


def read_progress(workdir: Path, process: int) -> Progress | None:
    """Return how far a process is; None where it has not told."""
    try:
        return _decoder.decode(_path(workdir, process).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def write_progress(workdir: Path, process: int, progress: Progress) -> None:
    """Tell how far a process is, durably."""
    write_atomically(_path(workdir, process), msgspec.json.encode(progress))


def forget_progress(workdir: Path) -> None:
    """Forget how far the processes of an earlier run were."""
    for path in workdir.glob("progress-*.json"):
        path.unlink(missing_ok=True)


def keep_as_served(workdir: Path, document: RevisionDocument) -> None:
    """Have the replica start with a document from now on."""
    write_atomically(workdir / "revision.json", document.model_dump_json().encode())


def catch_up(workdir: Path) -> None:
    """Have the replica start with what all of its processes served last, though they ended before that was kept."""
    wanted = read_wanted(workdir)
    told = [_decoder.decode(path.read_bytes()) for path in workdir.glob("progress-*.json")]
    if wanted is not None and told and all(one.handled == wanted.mark and one.failure is None for one in told):
        keep_as_served(workdir, wanted.document)


def _path(workdir: Path, process: int) -> Path:
    return workdir / f"progress-{process}.json"

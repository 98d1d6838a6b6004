"""Forms that were compiled where a package was loaded, kept for the next time that it is."""

import hashlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from modelops.domains.models.compiling import Compiled, libraries, open_compiled, write_form
from modelops.domains.models.flavours import Predictor
from modelops.domains.models.rules import COMPILED_GRAPH, COMPILED_RECORD
from modelops.domains.models.schemas import CompiledForm
from modelops.domains.serving.schemas import VariantDocument

_DIGEST = "digest"

_log = logging.getLogger(__name__)


def open_form(
    cache: Path, folder: Path, variant: VariantDocument, predictor: Predictor, sample: Sequence[Sequence[Any]] | None
) -> Compiled:
    """Return a loaded model in the form that its package names; where it names none, in the form that was compiled for this
    package with these libraries before, and else in one that is compiled now, and kept.

    What was kept is not taken where its bytes have changed, nor where it does not say what the model says.
    """
    if (folder / COMPILED_RECORD).is_file():
        return open_compiled(folder, predictor, variant.signature, sample)
    place = cache / "forms" / _key(variant)
    if _is_whole(place):
        kept = open_compiled(place, predictor, variant.signature, sample)
        told = json.loads((place / COMPILED_RECORD).read_bytes())["runs"]
        if kept.record.runs == told:
            return kept
        _log.warning("the form '%s' that was compiled before does not hold any more, and is compiled anew", told)
    compiled = open_compiled(folder, predictor, variant.signature, sample)
    if compiled.record.runs is not CompiledForm.PLAIN or compiled.record.refused:
        _keep(place, compiled)
    return compiled


def _key(variant: VariantDocument) -> str:
    known = [
        variant.digest,
        variant.flavour,
        variant.signature.model_dump(mode="json"),
        libraries(),
        platform.python_version(),
    ]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _keep(place: Path, compiled: Compiled) -> None:
    """Keep a form for others; where that fails, they compile it themselves."""
    fresh = place.with_name(f".{place.name}.{uuid4().hex}.part")
    try:
        fresh.mkdir(parents=True)
        write_form(fresh, compiled.record, compiled.graph)
        (fresh / _DIGEST).write_text(_digest(fresh))
        shutil.rmtree(place, ignore_errors=True)
        os.rename(fresh, place)
    except OSError as wrong:  # also where a sibling was faster
        _log.info("the compiled form was not kept: %s", wrong)
        shutil.rmtree(fresh, ignore_errors=True)


def _is_whole(place: Path) -> bool:
    try:
        return (place / _DIGEST).read_text() == _digest(place)
    except (OSError, UnicodeDecodeError):
        return False


def _digest(place: Path) -> str:
    """Return the digest of a form's files."""
    hashed = hashlib.sha256()
    for name in (COMPILED_RECORD, COMPILED_GRAPH):
        path = place / name
        content = path.read_bytes() if path.is_file() or name == COMPILED_RECORD else b""
        hashed.update(len(content).to_bytes(8, "big") + content)
    return hashed.hexdigest()

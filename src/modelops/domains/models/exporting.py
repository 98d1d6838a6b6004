"""A version on its way out: its files in a folder, verified, with the OpenSSF signature that others can check."""

import json
from pathlib import Path
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.domains.data.client import Data
from modelops.domains.models.client import Models
from modelops.domains.models.packages import check_paths, verify_files
from modelops.domains.models.schemas import ModelVersion

SIGNATURE = "model.sig"

_MOST_BYTES = 16 * 1024 * 1024


def export_version(models: Models, data: Data, model: str, version: int | str, folder: Path) -> ModelVersion:
    """Download a version's files into a folder that is empty or new, and write their signature beside them.

    Raises:
        InvalidInput: the folder is not empty, or the package has a file where the signature goes.
        ArtifactCorrupted: what came is not what was registered.
    """
    found = models.get_version(model, version)
    check_paths(found.files)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InvalidInput(f"The folder '{folder}' is not empty.", hint="Name another; nothing was written.")
    if any(file.path == SIGNATURE for file in found.files):
        raise InvalidInput(f"The package itself holds a file '{SIGNATURE}'.")
    for file in found.files:
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        data.download_artifact(file.digest, folder / file.path)
    verify_files(folder, found.files)
    signed = models.sign_version(found.name, found.version)
    (folder / SIGNATURE).write_text(json.dumps(signed.bundle), encoding="utf-8")
    return found


def read_bundle(path: Path) -> dict[str, Any]:
    """Read a signature's file.

    Raises:
        InvalidInput: it holds no JSON object.
    """
    content = path.read_bytes()[: _MOST_BYTES + 1]
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as wrong:
        raise InvalidInput(f"'{path}' is no signature: {wrong}.") from wrong
    if not isinstance(document, dict):
        raise InvalidInput(f"'{path}' is no signature: it holds no JSON object.")
    return document

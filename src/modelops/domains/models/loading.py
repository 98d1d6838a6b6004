"""From a registered version to the model itself: download, verify, and only then open."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from modelops.contracts.rest import Rest
from modelops.domains.data.client import Data
from modelops.domains.identity.client import Identity
from modelops.domains.models.flavours import flavour
from modelops.domains.models.packages import statement_of, verify_package, verify_statement
from modelops.domains.models.schemas import ModelVersion

if TYPE_CHECKING:
    from modelops.domains.models.flavours import Predictor


def load_version(rest: Rest, version: ModelVersion) -> "Predictor":
    """Download a version's files, verify its signature and each of them, and load it.

    Raises:
        SignatureInvalid: the platform did not sign it so; nothing was opened.
        ArtifactCorrupted: a file is not what was signed; nothing was opened.
    """
    signing = Identity(rest).list_signing_keys().items
    keys = {key.id: key.public_key for key in signing if key.purpose == "models"}
    subject, signature = statement_of(version), version.platform_signature
    verify_statement(subject, signature, keys)
    data = Data(rest)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for file in version.files:
            (place / file.path).parent.mkdir(parents=True, exist_ok=True)
            data.download_artifact(file.digest, place / file.path)
        verify_package(place, subject, signature, keys)
        return flavour(version.flavour).load(place)

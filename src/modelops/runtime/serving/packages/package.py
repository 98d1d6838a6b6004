"""A package on its way into memory: fetched, verified, and only then loaded."""

import json
import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from modelops.contracts.errors import DeploymentError, MLOpsError
from modelops.domains.models.flavours import Predictor, flavour
from modelops.domains.models.instances import check_instances
from modelops.domains.models.packages import Statement, verify_files, verify_statement
from modelops.domains.models.schemas import ServingForm
from modelops.domains.monitoring.schemas import Reference
from modelops.domains.serving.schemas import RevisionDocument, VariantDocument
from modelops.runtime.serving.config import ReplicaConfig
from modelops.runtime.serving.packages.compiled import open_form
from modelops.runtime.serving.packages.download import fetch_package

SAMPLE, REFERENCE = "sample.json", "reference.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Package:
    """A loaded package.

    Attributes:
        sample: Up to 100 rows of training data as `check_instances` takes them; None where the package has none.
        reference: The profile of the training data, for monitoring; None where the package has none.
        form: What `predictor` runs, and why.
    """

    predictor: Predictor
    sample: list[list[Any]] | None
    reference: Reference | None
    form: ServingForm


def load_package(config: ReplicaConfig, document: RevisionDocument, variant: VariantDocument, folder: Path) -> Package:
    """Fetch, verify and load the package of a variant. No file is opened before everything was verified.

    Args:
        folder: Where its files are put; it must stay while the package is served, since models may read on in it.

    Raises:
        MLOpsError: in a sentence for the deployment's owner, why this package cannot be served.
    """
    subject = _subject(document, variant)
    verify_statement(subject, variant.platform_signature, document.trusted_keys)
    reader = flavour(variant.flavour)
    fetch_package(config, document.platform_url, variant.files, folder)
    checked = verify_files(folder, subject.files)
    _log.info(
        "verified %d files, %d bytes, signed by %s", len(subject.files), checked, variant.platform_signature.key_id
    )
    reference, sample = _reference(folder, variant), _sample(folder, variant)
    try:
        predictor = reader.load(folder)
    except MLOpsError:
        raise
    except Exception as wrong:
        raise DeploymentError(
            f"The model cannot be loaded: {type(wrong).__name__}: {wrong}.",
            hint="Install the packages it was saved with (the version's `requirements`), in the same versions.",
        ) from wrong
    _check_features(variant, predictor)
    _drop_warning_filters()
    served = open_form(config.cache, folder, variant, predictor, sample)
    _log.info("the model runs as %s: %s", served.record.runs, served.record.why)
    return Package(predictor=served.predictor, sample=sample, reference=reference, form=served.record)


def _drop_warning_filters() -> None:
    """Drop the filters of warnings that libraries brought along, save those that are for every warning.

    For each tree of a forest scikit-learn sets all that there are anew, which took half of a prediction's time.
    """
    if sys.warnoptions:  # somebody asked for them
        return
    for_all = [one for one in warnings.filters if one[2] is Warning and not (one[1] or one[3])]
    warnings.resetwarnings()
    warnings.filters[:] = for_all  # type: ignore[index]  # a list, which each function there changes in this way
    warnings.simplefilter("ignore", DeprecationWarning, append=True)


def _subject(document: RevisionDocument, variant: VariantDocument) -> Statement:
    return Statement(
        name=variant.model,
        version=variant.version,
        project_id=document.project_id,
        model_version_id=variant.model_version_id,
        flavour=variant.flavour,
        digest=variant.digest,
        files=variant.files,
        signature=variant.signature,
    )


def _reference(folder: Path, variant: VariantDocument) -> Reference | None:
    content = _optional(folder, REFERENCE)
    if content is None:
        return None
    try:
        reference = Reference.model_validate_json(content)
    except ValidationError as wrong:
        raise DeploymentError(
            f"The package's {REFERENCE} is not a reference profile: {wrong.errors()[0]['msg']}."
        ) from wrong
    if [column.name for column in reference.inputs] != [feature.name for feature in variant.signature.inputs]:
        raise DeploymentError(f"The package's {REFERENCE} describes other inputs than the model's signature.")
    return reference


def _sample(folder: Path, variant: VariantDocument) -> list[list[Any]] | None:
    content = _optional(folder, SAMPLE)
    if content is None:
        return None
    try:
        table = json.loads(content)
        rows: list[list[Any]] = table["rows"]
        check_instances(variant.signature, rows)
        same = table["columns"] == [feature.name for feature in variant.signature.inputs]
    except (ValueError, KeyError, TypeError) as wrong:
        raise DeploymentError(f"The package's {SAMPLE} is not a table of rows: {wrong!r}.") from wrong
    except MLOpsError as wrong:
        raise DeploymentError(f"The package's {SAMPLE} does not fit the model's signature: {wrong.detail}") from wrong
    if not same:
        raise DeploymentError(
            f"The package's {SAMPLE} has other columns than the model's signature, or in another order."
        )
    return rows


def _optional(folder: Path, name: str) -> bytes | None:
    path = folder / name
    return path.read_bytes() if path.is_file() else None


def _check_features(variant: VariantDocument, predictor: Predictor) -> None:
    # Same names in another order would be silently wrong predictions: callers' lists are in the signature's order.
    fitted, declared = predictor.feature_names, [feature.name for feature in variant.signature.inputs]
    if fitted is None or fitted == declared:
        return
    if len(fitted) != len(declared) or set(fitted) == set(declared):
        raise DeploymentError(
            f"The model was fitted on {len(fitted)} features {fitted[:5]}…, and its signature names {len(declared)}, "
            f"{declared[:5]}…, in another number or order.",
            hint="Register the version with the signature of the data it was fitted on.",
        )

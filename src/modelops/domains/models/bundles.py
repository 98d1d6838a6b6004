"""Signatures in the OpenSSF model-signing format: a Sigstore bundle around an in-toto statement of a package's files.

Formats: https://github.com/ossf/model-signing-spec (predicate `https://model_signing/signature/v1.0`),
https://github.com/in-toto/attestation (statement v1), https://docs.sigstore.dev/about/bundle/ (bundle v0.3).
Keys are on the curves P-256, P-384 or P-521, with the hash that Sigstore pairs with each.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from modelops.contracts import signing
from modelops.contracts.errors import InvalidInput, SignatureInvalid
from modelops.domains.models.schemas import PackageFile

PAYLOAD_TYPE = "application/vnd.in-toto+json"

_BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


def statement(name: str, files: Sequence[PackageFile]) -> bytes:
    """Return the in-toto statement about a package, as the bytes that are signed."""
    ordered = sorted(files, key=lambda file: file.path.split("/"))
    digests = [(file.path, file.digest.removeprefix("sha256:")) for file in ordered]
    document = {
        "_type": _STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": _root([digest for _, digest in digests])}}],
        "predicateType": _PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": ["model.sig"],
            },
            "resources": [{"name": path, "algorithm": "sha256", "digest": digest} for path, digest in digests],
        },
    }
    return signing.canonical(document)


def bundle(payload: bytes, signature: bytes, public_key: str) -> dict[str, Any]:
    """Return the bundle of a statement and its signature (in DER) by a key (PEM)."""
    return {
        "mediaType": _BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": fingerprint(public_key)}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }


def fingerprint(public_key: str) -> str:
    """Return the SHA-256 of a key's PEM, in hex, by which bundles name it."""
    pem = _key(public_key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def verify(document: Mapping[str, Any], public_key: str, files: Sequence[PackageFile]) -> str:
    """Check that a bundle is a key's signature over exactly these files; return the key's fingerprint.

    Raises:
        InvalidInput: the key or the bundle is none, or of a kind that is not known here.
        SignatureInvalid: the signature is not the key's, or it is over other files.
    """
    payload, signature = _opened(document)
    key = _key(public_key)
    try:
        key.verify(signature, signing.preauth(PAYLOAD_TYPE, payload), ec.ECDSA(_HASHES[key.curve.name]))
    except InvalidSignature as wrong:
        raise SignatureInvalid("The bundle is not signed by this key, or was changed afterwards.") from wrong
    signed = _resources(payload)
    held = {file.path: file.digest.removeprefix("sha256:") for file in files}
    if signed != held:
        differing = sorted(path for path in signed.keys() | held.keys() if signed.get(path) != held.get(path))
        raise SignatureInvalid(
            f"The bundle is over other files than the version's; they differ in: {', '.join(differing[:5])}."
        )
    return fingerprint(public_key)


def _opened(document: Mapping[str, Any]) -> tuple[bytes, bytes]:
    try:
        envelope = document["dsseEnvelope"]
        (only,) = envelope["signatures"]
        payload, signature = (base64.b64decode(text, validate=True) for text in (envelope["payload"], only["sig"]))
    except (KeyError, TypeError, ValueError, binascii.Error) as wrong:
        raise InvalidInput(f"This is no Sigstore bundle with one signature: {wrong!r}.") from wrong
    if envelope.get("payloadType") != PAYLOAD_TYPE:
        raise InvalidInput("The bundle holds no in-toto statement.")
    return payload, signature


def _resources(payload: bytes) -> dict[str, str]:
    try:
        document = json.loads(payload)
        kinds = (document["_type"], document["predicateType"])
        (subject,) = document["subject"]
        root, predicate = subject["digest"]["sha256"], document["predicate"]
        method = (predicate["serialization"]["method"], predicate["serialization"]["hash_type"])
        listed = [(one["name"], one["digest"]) for one in predicate["resources"]]
        found, files = _root([digest for _, digest in listed]), dict(listed)
    except (ValueError, KeyError, TypeError, RecursionError) as wrong:
        raise InvalidInput(f"The bundle's statement is not one about a model: {wrong!r}.") from wrong
    if kinds != (_STATEMENT_TYPE, _PREDICATE_TYPE) or method != ("files", "sha256"):
        raise InvalidInput(
            "The bundle's statement is of a kind that is not known here.",
            hint="Sign whole files with SHA-256, as `model_signing sign key` does.",
        )
    if found != root or len(files) != len(listed):
        raise SignatureInvalid("The bundle's statement contradicts itself.")
    return files


def _root(digests: Sequence[str]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hexdigest()


def _key(public_key: str) -> ec.EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(public_key.encode())
    except (ValueError, UnsupportedAlgorithm) as wrong:
        raise InvalidInput("The public key is no PEM document.") from wrong
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise InvalidInput("The public key is not on the curve P-256, P-384 or P-521.")
    return key

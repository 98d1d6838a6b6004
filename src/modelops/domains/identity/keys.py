"""The platform's own keys: they sign access tokens and model versions, and rotate. All but those for bundles are Ed25519.

Private halves lie sealed in the database, so that every process of a platform can sign.
"""

from functools import lru_cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import select

from modelops.contracts.signing import Signature, encode, key_id, preauth, sign
from modelops.domains.identity.schemas import KeyPurpose
from modelops.domains.identity.tables import SigningKeyRow
from modelops.kernel.context import Context
from modelops.kernel.database import Raw
from modelops.kernel.secrets import SecretBox
from modelops.kernel.work import Workplace


def active_key(ctx: Context, purpose: KeyPurpose) -> tuple[str, Ed25519PrivateKey]:
    """Return the id and the private half of the Ed25519 key that signs now, made at the first need."""
    row = _active(ctx, purpose)
    return row.id, _ed25519(ctx.port(SecretBox), row.id, row.private_key)


def check_secret_key(ctx: Context) -> None:
    """See that this process's secret key opens what lies in the database, if anything does yet.

    Raises:
        InvalidInput: it was made with another.
    """
    row = ctx.session.scalars(select(SigningKeyRow).order_by(SigningKeyRow.created_at.desc()).limit(1)).one_or_none()
    if row is not None:
        _opened(ctx.port(SecretBox), row.id, row.private_key)


def _active(ctx: Context, purpose: KeyPurpose) -> SigningKeyRow:
    return ctx.session.scalars(
        select(SigningKeyRow)
        .where(SigningKeyRow.purpose == purpose, SigningKeyRow.retired_at.is_(None))
        .order_by(SigningKeyRow.created_at.desc())
        .limit(1)
    ).one_or_none() or add_key(ctx, purpose)


@lru_cache(maxsize=64)
def _ed25519(box: SecretBox, name: str, sealed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(_opened(box, name, sealed))


def _opened(box: SecretBox, name: str, sealed: str) -> bytes:
    return box.open(sealed, _label(name))


def _label(name: str) -> str:
    return f"signing-key:{name}"


def add_key(ctx: Context, purpose: KeyPurpose) -> SigningKeyRow:
    """Make a new key, which signs from now on."""
    name, public, sealed = _new_key(ctx.port(SecretBox), purpose)
    row = SigningKeyRow(
        id=name, purpose=purpose, public_key=public, private_key=sealed, created_at=ctx.clock.now(), retired_at=None
    )
    ctx.session.add(row)
    ctx.session.flush()
    return row


def _new_key(box: SecretBox, purpose: KeyPurpose) -> tuple[str, str, str]:
    secret, public = _ecdsa_pair() if purpose is KeyPurpose.BUNDLES else _ed25519_pair()
    name = key_id(public)
    return name, encode(public), box.seal(secret, _label(name))


def sign_document(ctx: Context, purpose: KeyPurpose, payload_type: str, payload: bytes) -> Signature:
    """Sign a document with the platform's key of a purpose."""
    name, private = active_key(ctx, purpose)
    return sign(private, payload_type, payload, name=name)


def sign_raw(raw: Raw, place: Workplace, purpose: KeyPurpose, payload_type: str, payload: bytes) -> Signature:
    """Sign as `sign_document`, in a raw transaction that writes."""
    box: SecretBox = place.ports[SecretBox]
    found = raw.execute(
        "SELECT id, private_key FROM signing_keys WHERE purpose = ? AND retired_at IS NULL ORDER BY created_at DESC LIMIT 1",
        (purpose,),
    ).fetchone()
    if found is None:
        name, public, sealed = _new_key(box, purpose)
        raw.execute(
            "INSERT INTO signing_keys (id, purpose, public_key, private_key, created_at) VALUES (?, ?, ?, ?, ?)",
            (name, purpose, public, sealed, raw.moment(place.clock.now())),
        )
        found = name, sealed
    return sign(_ed25519(box, *found), payload_type, payload, name=found[0])


def sign_for_bundle(ctx: Context, payload_type: str, payload: bytes) -> tuple[bytes, str]:
    """Sign a document by ECDSA on P-256 with SHA-256; return the signature in DER and the public key as PEM."""
    row = _active(ctx, KeyPurpose.BUNDLES)
    secret = _opened(ctx.port(SecretBox), row.id, row.private_key)
    private = ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.sign(preauth(payload_type, payload), ec.ECDSA(hashes.SHA256())), pem.decode()


def public_keys(ctx: Context, purpose: KeyPurpose) -> dict[str, str]:
    """Return every public key of a purpose, retired ones too: key id -> base64url of the raw 32 bytes."""
    rows = ctx.session.scalars(select(SigningKeyRow).where(SigningKeyRow.purpose == purpose))
    return {row.id: row.public_key for row in rows}


def _ed25519_pair() -> tuple[bytes, bytes]:
    private = Ed25519PrivateKey.generate()
    return private.private_bytes_raw(), private.public_key().public_bytes_raw()


def _ecdsa_pair() -> tuple[bytes, bytes]:
    private = ec.generate_private_key(ec.SECP256R1())
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return private.private_numbers().private_value.to_bytes(32, "big"), point

"""The platform's own keys: they sign access tokens and model versions, and rotate. All but those for bundles are Ed25519.

Private halves lie sealed in the database, so that every process of a platform can sign.
"""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import select

from modelops.contracts.signing import Signature, encode, key_id, preauth, sign
from modelops.domains.identity.schemas import KeyPurpose
from modelops.domains.identity.tables import SigningKeyRow
from modelops.kernel.context import Context
from modelops.kernel.secrets import SecretBox


def active_key(ctx: Context, purpose: KeyPurpose) -> tuple[str, Ed25519PrivateKey]:
    """Return the id and the private half of the Ed25519 key that signs now, made at the first need."""
    row, raw = _active(ctx, purpose)
    return row.id, Ed25519PrivateKey.from_private_bytes(raw)


def _active(ctx: Context, purpose: KeyPurpose) -> tuple[SigningKeyRow, bytes]:
    row = ctx.session.scalars(
        select(SigningKeyRow)
        .where(SigningKeyRow.purpose == purpose, SigningKeyRow.retired_at.is_(None))
        .order_by(SigningKeyRow.created_at.desc())
        .limit(1)
    ).one_or_none() or add_key(ctx, purpose)
    return row, ctx.port(SecretBox).open(row.private_key, f"signing-key:{row.id}")


def add_key(ctx: Context, purpose: KeyPurpose) -> SigningKeyRow:
    """Make a new key, which signs from now on."""
    secret, public = _ecdsa_pair() if purpose is KeyPurpose.BUNDLES else _ed25519_pair()
    name = key_id(public)
    row = SigningKeyRow(
        id=name,
        purpose=purpose,
        public_key=encode(public),
        private_key=ctx.port(SecretBox).seal(secret, f"signing-key:{name}"),
        created_at=ctx.clock.now(),
    )
    ctx.session.add(row)
    ctx.session.flush()
    return row


def sign_document(ctx: Context, purpose: KeyPurpose, payload_type: str, payload: bytes) -> Signature:
    """Sign a document with the platform's key of a purpose."""
    _, private = active_key(ctx, purpose)
    return sign(private, payload_type, payload)


def sign_for_bundle(ctx: Context, payload_type: str, payload: bytes) -> tuple[bytes, str]:
    """Sign a document by ECDSA on P-256 with SHA-256; return the signature in DER and the public key as PEM."""
    _, raw = _active(ctx, KeyPurpose.BUNDLES)
    private = ec.derive_private_key(int.from_bytes(raw, "big"), ec.SECP256R1())
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

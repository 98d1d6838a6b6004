"""The platform's own Ed25519 keys: they sign access tokens and model versions, and rotate.

Private halves lie sealed in the database, so that every process of a platform can sign.
"""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from modelops.contracts.signing import Signature, encode, key_id, sign
from modelops.domains.identity.schemas import KeyPurpose
from modelops.domains.identity.tables import SigningKeyRow
from modelops.kernel.context import Context
from modelops.kernel.secrets import SecretBox


def active_key(ctx: Context, purpose: KeyPurpose) -> tuple[str, Ed25519PrivateKey]:
    """Return the id and the private half of the key that signs now, made at the first need."""
    row = ctx.session.scalars(
        select(SigningKeyRow)
        .where(SigningKeyRow.purpose == purpose, SigningKeyRow.retired_at.is_(None))
        .order_by(SigningKeyRow.created_at.desc())
        .limit(1)
    ).one_or_none() or add_key(ctx, purpose)
    raw = ctx.port(SecretBox).open(row.private_key, f"signing-key:{row.id}")
    return row.id, Ed25519PrivateKey.from_private_bytes(raw)


def add_key(ctx: Context, purpose: KeyPurpose) -> SigningKeyRow:
    """Make a new key, which signs from now on."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    name = key_id(public)
    row = SigningKeyRow(
        id=name,
        purpose=purpose,
        public_key=encode(public),
        private_key=ctx.port(SecretBox).seal(private.private_bytes_raw(), f"signing-key:{name}"),
        created_at=ctx.clock.now(),
    )
    ctx.session.add(row)
    ctx.session.flush()
    return row


def sign_document(ctx: Context, purpose: KeyPurpose, payload_type: str, payload: bytes) -> Signature:
    """Sign a document with the platform's key of a purpose."""
    _, private = active_key(ctx, purpose)
    return sign(private, payload_type, payload)


def public_keys(ctx: Context, purpose: KeyPurpose) -> dict[str, str]:
    """Return every public key of a purpose, retired ones too: key id -> base64url of the raw 32 bytes."""
    rows = ctx.session.scalars(select(SigningKeyRow).where(SigningKeyRow.purpose == purpose))
    return {row.id: row.public_key for row in rows}

"""The door for messages from outside: who sent one is told by its signature alone, and each begins something once.

Two ways to sign are taken. Standard Webhooks: the signature covers id, time and body. GitHub's (`X-Hub-Signature-256`, which
many others send too): an HMAC-SHA256 of the body alone, by the bytes of the whole secret.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import select

from modelops.contracts.errors import Conflict, InvalidInput, NotFound, SignatureInvalid
from modelops.contracts.messages import verify_webhook
from modelops.contracts.schemas import Json
from modelops.domains.pipelines.beginnings.beginning import as_beginning, find_beginning, record, skip
from modelops.domains.pipelines.beginnings.owners import as_platform
from modelops.domains.pipelines.beginnings.schemas import Beginning
from modelops.domains.pipelines.beginnings.targets import read_target
from modelops.domains.pipelines.triggers.facts import Facts, check_content, fits
from modelops.domains.pipelines.triggers.firing import cause_of, fire
from modelops.domains.pipelines.triggers.tables import TriggerRow
from modelops.kernel.context import Context
from modelops.kernel.secrets import SecretBox
from modelops.kernel.work import Workplace

MOST_BYTES = 1024 * 1024
"""The size of a message, at most."""

_LONGEST_ID = 200
_TELL_AGAIN = timedelta(seconds=10)
_IDS = ("webhook-id", "x-github-delivery")
_TYPES = ("x-github-event", "x-gitlab-event")


class HookRefused(NotFound):
    """There is no such hook, or the message is not signed with its secret: which of them, only its owner is told."""

    code, title = "pipelines.hook_refused", "The hook refuses"
    default_hint = "Check the address and the secret; `mops pipelines get-trigger` tells its owner what was wrong."


def receive_hook(place: Workplace, token: str, headers: Mapping[str, str], body: bytes) -> Beginning:
    """Take a message and begin what its trigger says; a message that comes again is answered as it was at first.

    Args:
        place: Where to work: the sender is nobody that the platform knows.
        token: From the address.
        headers: By their names in lower case.
        body: As it came.

    Raises:
        HookRefused: nothing is behind the address, or the signature does not hold.
        Conflict: the trigger is paused.
        InvalidInput: the message is no JSON object.
    """
    with place.work(write=False) as ctx:
        row = _find(ctx, token)
        secret = ctx.port(SecretBox).open(row.sealed_secret or "", _label(row.id)).decode()
    try:
        _verify(headers, body, secret, place.clock.now().timestamp())
    except SignatureInvalid as wrong:
        _note_refusal(place, token, wrong.detail)
        raise HookRefused("There is no such hook, or the message is not signed with its secret.") from None
    facts = _facts(headers, _read(body))
    with place.work() as ctx:
        row = _find(ctx, token, lock=True)
        inside = as_platform(ctx, row.project_id)
        known = find_beginning(inside, row.id, f"message {facts['id']}")
        if known is not None:
            return as_beginning(known)
        if row.paused:
            raise Conflict(f"The trigger '{row.name}' is paused.", hint="Send it again when it is let go on.")
        begun = _begin(inside, row, facts)
        ctx.session.flush()
        return begun


def hash_token(token: str) -> str:
    """Return what of a hook's token is kept."""
    return hashlib.sha256(token.encode()).hexdigest()


def seal(ctx: Context, trigger: str, secret: str) -> str:
    """Return a hook's secret as it is kept."""
    return ctx.port(SecretBox).seal(secret.encode(), _label(trigger))


def _begin(ctx: Context, row: TriggerRow, facts: Facts) -> Beginning:
    key, now = f"message {facts['id']}", ctx.clock.now()
    if fits(row.condition, facts):
        return as_beginning(fire(ctx, row, key, now, facts))
    made, _ = record(ctx, cause_of(row), key, now, read_target(row.target), begins_at=now)
    skip(ctx, made, "The trigger's condition does not hold.")
    return as_beginning(made)


def _verify(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> None:
    if "webhook-signature" in headers:
        verify_webhook(headers, body, secret, now=now)
        return
    given = headers.get("x-hub-signature-256", "")
    expected = "sha256=" + hmac.digest(secret.encode(), body, hashlib.sha256).hex()
    if not given:
        raise SignatureInvalid("The message carries neither `webhook-signature` nor `X-Hub-Signature-256`.")
    if not hmac.compare_digest(expected.encode(), given.encode()):
        raise SignatureInvalid("The signature `X-Hub-Signature-256` does not fit.")


def _read(body: bytes) -> dict[str, Json]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput("The message is no JSON object.", hint="Have it sent as application/json.")
    check_content(found)
    return found


def _facts(headers: Mapping[str, str], data: dict[str, Json]) -> Facts:
    """Return what is known of a message. Where it has no id of its own, the same content is the same message."""
    text = json.dumps(data, sort_keys=True)
    own = next((headers[name] for name in _IDS if headers.get(name)), None)
    named = own or hashlib.sha256(text.encode()).hexdigest()
    if len(named) > _LONGEST_ID or not named.isprintable():
        named = hashlib.sha256(named.encode()).hexdigest()
    kind = next((headers[name] for name in _TYPES if headers.get(name)), data.get("type"))
    return {"id": named, "type": kind, "data": data}


def _find(ctx: Context, token: str, *, lock: bool = False) -> TriggerRow:
    query = select(TriggerRow).where(TriggerRow.token_hash == hash_token(token))
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    row = ctx.session.scalars(query).one_or_none()
    if row is None:
        raise HookRefused("There is no such hook, or the message is not signed with its secret.")
    return row


def _note_refusal(place: Workplace, token: str, why: str) -> None:
    """Tell the owner what was wrong, but not so often that whoever knows the address can keep the database busy."""
    with place.work() as ctx:
        row, now = _find(ctx, token, lock=True), ctx.clock.now()
        if row.refused_at is None or now - row.refused_at >= _TELL_AGAIN or now < row.refused_at:
            row.refused_at, row.refused_reason = now, why


def _label(trigger: str) -> str:
    return f"trigger:{trigger}"

"""The keys of sealed boxes: a random key a box, kept beside it, wrapped by AES-256-GCM under a master key.

Masters never touch a blob: to change them, only the wrapped keys are written anew.
"""

import base64
import binascii
import json
import os
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from modelops.adapters.objects.box import DamagedError
from modelops.contracts.errors import InvalidInput

_BYTES = 32
_LINE = re.compile(r"([A-Za-z0-9_.-]{1,50})\s*:\s*([A-Za-z0-9+/_=-]+)")
_LABEL = b"modelops blob key v1\0"


@dataclass(frozen=True)
class WrappedKey:
    """A box's key as it is kept: `master` names the master key that wraps it."""

    master: str
    wrapped: bytes

    def pack(self) -> bytes:
        """Return the bytes that are kept."""
        return json.dumps(
            {"version": 1, "master": self.master, "wrapped": base64.b64encode(self.wrapped).decode()}
        ).encode()

    @classmethod
    def parse(cls, data: bytes) -> "WrappedKey":
        """Reverse `pack`. Raises DamagedError."""
        try:
            kept = json.loads(data)
            if kept["version"] != 1:
                raise DamagedError("The wrapped key is of another version.")
            return cls(str(kept["master"]), base64.b64decode(kept["wrapped"], validate=True))
        except (ValueError, KeyError, TypeError) as wrong:
            raise DamagedError("The wrapped key cannot be read.") from wrong


class UnknownMasterError(Exception):
    """The master key that wraps a box's key is not at hand."""

    def __init__(self, master: str) -> None:
        super().__init__(master)
        self.master = master


class Keyring:
    """Master keys by their ids; the first wraps what is new, all of them open.

    Args:
        text: `id:base64` of 32 random bytes, one a line or parted by commas; a line that begins with `#` is a remark.

    Raises:
        InvalidInput: it holds no key, one of another form, or an id twice. The error shows no key.
    """

    def __init__(self, text: str) -> None:
        lines = [line.strip() for line in text.splitlines() if not line.lstrip().startswith("#")]
        entries = [entry.strip() for line in lines for entry in line.split(",") if entry.strip()]
        self._masters: dict[str, AESGCM] = {}
        for number, entry in enumerate(entries, start=1):
            name, key = _parse(entry, number)
            if name in self._masters:
                raise InvalidInput(
                    f"The encryption key '{name}' is given twice.", hint="Give each key an id of its own."
                )
            self._masters[name] = AESGCM(key)
        if not self._masters:
            raise InvalidInput("There is no encryption key.", hint=_HINT)
        self.first = next(iter(self._masters))

    def wrap(self, key: bytes, label: bytes) -> WrappedKey:
        """Wrap a box's key under the first master; it opens only under the same label."""
        nonce = os.urandom(12)
        return WrappedKey(self.first, nonce + self._masters[self.first].encrypt(nonce, key, _LABEL + label))

    def unwrap(self, kept: WrappedKey, label: bytes) -> bytes:
        """Reverse `wrap`.

        Raises:
            UnknownMasterError: its master is not among these.
            DamagedError: it was changed, is of another box, or its master is another of the same id.
        """
        master = self._masters.get(kept.master)
        if master is None:
            raise UnknownMasterError(kept.master)
        try:
            return master.decrypt(kept.wrapped[:12], kept.wrapped[12:], _LABEL + label)
        except (InvalidTag, ValueError) as wrong:
            raise DamagedError(f"The wrapped key does not open with the master key '{kept.master}'.") from wrong


_HINT = 'Write `ID:KEY`, the key 32 random bytes in base64: `echo "k1:$(openssl rand -base64 32)"`.'


def _parse(entry: str, number: int) -> tuple[str, bytes]:
    match = _LINE.fullmatch(entry)
    try:
        raw = base64.b64decode(match[2].replace("-", "+").replace("_", "/"), validate=True) if match else b""
    except binascii.Error:
        raw = b""
    if match is None or len(raw) != _BYTES:
        raise InvalidInput(f"The encryption key number {number} is not of the form that is needed.", hint=_HINT)
    return match[1], raw

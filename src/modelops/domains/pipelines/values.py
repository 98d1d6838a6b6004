"""JSON values in the blob store. No transaction is open while one is read or written."""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from modelops.contracts.errors import ArtifactCorrupted, MLOpsError, NotFound, TooLarge
from modelops.contracts.ports import BlobStore
from modelops.contracts.schemas import Json
from modelops.contracts.signing import canonical
from modelops.domains.pipelines.document import ValueType
from modelops.domains.pipelines.rules import MOST_DECIDING_BYTES
from modelops.domains.pipelines.schemas import ValueRef

JSON_TYPE = "application/json"

_KEPT = 8
_KEPT_CHARACTERS = 16 * 1024**2
_AT_ONCE = 8
"""So many small values are written at once: their flushes to the disk, or their ways to it, go together."""


class _Memory:
    """The lists that fan-outs under way are made of: read once, not once for each member."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Json] = OrderedDict()

    def get(self, store: BlobStore, digest: str) -> Json:
        with self._lock:
            if digest in self._known:
                self._known.move_to_end(digest)
                return self._known[digest]
        value = _read(store, digest)
        with self._lock:
            self._known[digest] = value
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return value


class _Texts:
    """Small values that were reported or read last, as text: steps that take them are given them without a look at the store."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, str] = OrderedDict()
        self._characters = 0

    def get(self, digest: str) -> str | None:
        with self._lock:
            if digest in self._known:
                self._known.move_to_end(digest)
            return self._known.get(digest)

    def put(self, digest: str, text: str) -> None:
        with self._lock:
            if digest in self._known:
                return
            self._known[digest] = text
            self._characters += len(text)
            while self._characters > _KEPT_CHARACTERS:
                self._characters -= len(self._known.popitem(last=False)[1])


_MEMORY = _Memory()
_TEXTS = _Texts()


def read_json(store: BlobStore, digest: str) -> Json:
    """Return a JSON value; those read last are remembered, and must not be changed.

    Raises:
        TooLarge: it has more than 16 MiB.
        ArtifactCorrupted: it is gone, damaged, or no JSON.
    """
    return _MEMORY.get(store, digest)


def put_json(store: BlobStore, value: Json) -> ValueRef:
    """Store a JSON value and return where it lies."""
    blob = store.put([canonical(value)])
    return ValueRef(type=ValueType.JSON, digest=blob.digest, size=blob.size)


def small_refs(texts: Iterable[str]) -> dict[str, ValueRef]:
    """Return, by text, where small JSON values lie once they are stored."""
    found = {}
    for text in texts:
        content = text.encode()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        found[text] = ValueRef(type=ValueType.JSON, digest=digest, size=len(content))
    return found


def put_small(store: BlobStore, texts: Mapping[str, str]) -> None:
    """Store small JSON values, given as text by digest; they are safe when this returns."""
    if len(texts) == 1:
        for digest, text in texts.items():
            store.put([text.encode()], expected=digest)
    elif texts:
        with ThreadPoolExecutor(min(_AT_ONCE, len(texts))) as threads:
            list(threads.map(lambda digest: store.put([texts[digest].encode()], expected=digest), texts))


def remember_small(texts: Mapping[str, str]) -> None:
    """Keep small JSON values that are stored by now at hand, for the steps that take them."""
    for digest, text in texts.items():
        _TEXTS.put(digest, text)


def read_small(store: BlobStore, digest: str) -> str | None:
    """Return a small JSON value as text; None where it cannot be read: whoever needs it learns why when fetching it."""
    text = _TEXTS.get(digest)
    if text is None:
        try:
            text = b"".join(store.read(digest)).decode()
        except (MLOpsError, UnicodeDecodeError):
            return None
        _TEXTS.put(digest, text)
    return text


def _read(store: BlobStore, digest: str) -> Json:
    content = bytearray()
    try:
        for chunk in store.read(digest):
            content += chunk
            if len(content) > MOST_DECIDING_BYTES:
                raise TooLarge("What a run's course depends on has 16 MiB of JSON at most.")
    except NotFound as gone:
        raise ArtifactCorrupted(f"The bytes of '{digest}' are gone from the store.") from gone
    try:
        value: Json = json.loads(content)
    except ValueError as wrong:
        raise ArtifactCorrupted(f"'{digest}' is to be JSON, and cannot be read as such: {wrong}.") from wrong
    return value

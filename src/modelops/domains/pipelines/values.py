"""JSON values in the blob store. No transaction is open while one is read or written."""

import json
import threading
from collections import OrderedDict

from modelops.contracts.errors import ArtifactCorrupted, NotFound, TooLarge
from modelops.contracts.ports import BlobStore
from modelops.contracts.schemas import Json
from modelops.contracts.signing import canonical
from modelops.domains.pipelines.document import ValueType
from modelops.domains.pipelines.rules import MOST_DECIDING_BYTES
from modelops.domains.pipelines.schemas import ValueRef

JSON_TYPE = "application/json"

_KEPT = 8


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


_MEMORY = _Memory()


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

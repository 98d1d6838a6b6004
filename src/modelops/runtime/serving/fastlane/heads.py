"""What the head of a request says, for heads that the fast lane takes.

A head is read by the same parser as in the ordinary lane, once; a caller's next requests mostly have the same head, byte
for byte.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httptools

from modelops.contracts.tracing import read_traceparent
from modelops.runtime.serving.variants.served import Door, Draw, Kind
from modelops.runtime.serving.variants.variant import Way

MOST_BYTES = 4096
"""Longer heads take the ordinary lane."""

_NUMBER = re.compile(rb"[0-9]{1,15}")
_BREAKING = re.compile(rb"(?<!\r)\n|\r(?!\n)|\r\n[ \t]|\x00")
_ONCE = frozenset({b"authorization", b"content-length", b"x-request-timeout-ms", b"inference-header-content-length"})
_ELSEWHERE = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"trailer", b"te", b"content-encoding"})


@dataclass(slots=True)
class Head:
    """A plain head: POST, HTTP/1.1, a body of known length.

    Attributes:
        raw: Its bytes, with the empty line.
        whole: The length of head and body in bytes.
        door: Where it comes in.
        naming: What it says in the headers that variants are chosen by, by their names in lower case.
        length: The body's length in bytes.
        keep_alive: Whether the connection goes on after the reply.
        caller: Who asks, once the token was verified.
        expires: Until when the token holds, in seconds of `time.perf_counter`; -inf until it was verified.
        generation: The gatekeeper's generation in which it was.
        way: Where such requests go; None where that is drawn for each.
        draw: What draws it then.
        brings_tensors: Whether the body may be JSON and the bytes of tensors behind it.
        sampled: Whether its `traceparent` wants it traced; None where it does not say.
    """

    raw: bytes
    whole: int
    door: Door
    naming: Mapping[str, str]
    length: int
    authorization: str
    request_id: str | None
    timeout_ms: int | None
    json_length: int | None
    keep_alive: bool
    brings_tensors: bool
    sampled: bool | None
    caller: str = ""
    expires: float = -math.inf
    generation: int = -1
    way: Way | None = None
    draw: Draw | None = None


def read_head(raw: bytes, doors: Mapping[str, Door], choosing: Sequence[str] = ()) -> Head | None:
    """Return what a head says; None where it is not plain, or not for one of the doors.

    Args:
        raw: All up to and with an empty line; only the first one ends a head.
        doors: By the path as it stands in the request's first line.
        choosing: The names of the headers that variants are chosen by, in lower case.
    """
    if raw.find(b"\r\n\r\n") != len(raw) - 4 or _BREAKING.search(raw):  # one head, and not the end of several
        return None
    reader = _Reader()
    parser = httptools.HttpRequestParser(reader)
    try:
        parser.feed_data(raw)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    door = doors.get(reader.url.decode("latin-1"))
    is_plain = reader.complete and not reader.surprised and not reader.names & _ELSEWHERE
    if door is None or not is_plain or parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
        return None
    values = reader.values
    length = _number(values.get(b"content-length"))
    timeout, json_length = values.get(b"x-request-timeout-ms"), values.get(b"inference-header-content-length")
    if length is None or any(given is not None and _number(given) is None for given in (timeout, json_length)):
        return None
    request_id = values.get(b"x-request-id")
    return Head(
        raw=raw,
        whole=len(raw) + length,
        door=door,
        naming={name: found.decode("latin-1") for name in choosing if (found := values.get(name.encode()))},
        length=length,
        authorization=values.get(b"authorization", b"").decode("latin-1"),
        request_id=None if request_id is None else request_id.decode("latin-1"),
        timeout_ms=_number(timeout),
        json_length=_number(json_length),
        keep_alive=parser.should_keep_alive(),
        brings_tensors=json_length is not None and door.kind is Kind.OPEN,
        sampled=_sampled(values.get(b"traceparent")),
    )


class _Reader:
    """Takes the parser's calls. `surprised` is set by a header that may stand once and stands twice, and by a body."""

    def __init__(self) -> None:
        self.url = bytearray()
        self.values: dict[bytes, bytes] = {}
        self.names: set[bytes] = set()
        self.complete = self.surprised = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self.surprised |= name in self.names and name in _ONCE
        self.names.add(name)
        self.values.setdefault(name, value)  # the first one counts, as in the ordinary lane

    def on_headers_complete(self) -> None:
        self.complete = True

    def on_body(self, _body: bytes) -> None:
        self.surprised = True


def _sampled(traceparent: bytes | None) -> bool | None:
    caller = read_traceparent(traceparent.decode("latin-1")) if traceparent else None
    return None if caller is None else caller.sampled


def _number(text: bytes | None) -> int | None:
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None

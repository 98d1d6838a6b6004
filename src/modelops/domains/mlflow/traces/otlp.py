"""OTLP over HTTP: spans of any program that OpenTelemetry traces."""

import zlib

from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from modelops.contracts.errors import InvalidInput, TooLarge
from modelops.domains.mlflow.protocol import door, refuse
from modelops.domains.mlflow.traces.otlp_json import read_json
from modelops.domains.mlflow.traces.otlp_protobuf import read_protobuf, write_answer
from modelops.domains.mlflow.traces.places import make_default
from modelops.domains.mlflow.traces.recording import record_spans
from modelops.domains.mlflow.traces.spans import Batch
from modelops.kernel.door import Answer
from modelops.kernel.scope import Scope, request_id_of

_PROTOBUF, _JSON = "application/x-protobuf", "application/json"
_UNPACKED = 64 * 1024**2


@door.route("POST", "/v1/traces")
async def export_spans(scope: Scope) -> Answer:
    """Take spans in OTLP, in protobuf or JSON; answered when they are kept, and with how many cannot be."""
    headers = scope.request.headers
    experiment = headers.get("x-mlflow-experiment-id")
    if not experiment:
        return _unfit(scope, "The header x-mlflow-experiment-id is missing: it names the experiment of the spans.")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (_PROTOBUF, _JSON):
        raise InvalidInput(f"Invalid Content-Type: {kind}.", hint=f"Send {_PROTOBUF} or {_JSON}.")
    body = await scope.request.body()
    batch = await run_in_threadpool(_read, body, headers.get("content-encoding", ""), kind)
    if not batch.spans and batch.refused:
        return _unfit(scope, f"None of the {len(batch.refused)} spans can be kept. {batch.refused[0]}")
    await run_in_threadpool(_record, scope, batch, experiment, headers.get("x-mlflow-run-id"))
    if kind == _PROTOBUF:
        return Response(write_answer(batch.refused), media_type=_PROTOBUF)
    if not batch.refused:
        return {}
    return {"partialSuccess": {"rejectedSpans": str(len(batch.refused)), "errorMessage": batch.refused[0]}}


def _read(body: bytes, encoding: str, kind: str) -> Batch:
    content = _inflate(body, encoding.strip().lower())
    batch = read_json(content) if kind == _JSON else read_protobuf(content)
    if not batch.spans and not batch.refused:
        raise InvalidInput("Invalid OpenTelemetry format - no spans found.")
    return batch


def _record(scope: Scope, batch: Batch, experiment: str, run: str | None) -> None:
    make_default(scope, experiment)
    with scope.work() as ctx:
        record_spans(ctx, experiment, batch.spans, run)


def _inflate(body: bytes, encoding: str) -> bytes:
    """Return a body as it was before its `Content-Encoding`.

    Raises:
        InvalidInput: it is not of that encoding, or the encoding is none of OTLP's.
        TooLarge: it is longer than 64 MiB.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise InvalidInput(f"The encoding '{encoding}' is not known.", hint="Send gzip, deflate, or none.")
    reader = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either header
    try:
        found = reader.decompress(body, _UNPACKED + 1)
    except zlib.error as wrong:
        raise InvalidInput(f"The body is not {encoding}: {wrong}.") from wrong
    if len(found) > _UNPACKED:
        raise TooLarge(f"The body is longer than {_UNPACKED} bytes once unpacked.", hint="Send fewer spans at once.")
    if not reader.eof:
        raise InvalidInput(f"The body is not whole {encoding}.")
    return found


def _unfit(scope: Scope, why: str) -> Response:
    """Refuse as MLflow does what it can read and not take: with 422 instead of 400."""
    answer = refuse(InvalidInput(why), request_id_of(scope.request))
    answer.status_code = 422
    return answer

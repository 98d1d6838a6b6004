"""A collector of traces: takes OTLP over HTTP, and keeps the spans."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    def __init__(self):
        self.spans, self.changed = [], threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self, condition, timeout=30):
        """Return the spans once they are as wanted."""
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self.spans), timeout), [span.name for span in self.spans]
            return list(self.spans)

    def take(self, body):
        request = ExportTraceServiceRequest.FromString(body)
        with self.changed:
            for part in request.resource_spans:
                about = {pair.key: _value(pair.value) for pair in part.resource.attributes}
                for scope in part.scope_spans:
                    self.spans += [_span(span, about) for span in scope.spans]
            self.changed.notify_all()

    def _handler(collector):  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        return Handler


def _span(span, about):
    return SimpleNamespace(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=span.kind,
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        failed=span.status.code == 2,
        attributes={pair.key: _value(pair.value) for pair in span.attributes},
        resource=about,
    )


def _value(value):
    return getattr(value, value.WhichOneof("value"))

"""A server that stands for all replicas of a scripted world: it answers, and tells at `/stats` what it did."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER = {
    "predictions": [1],
    "probabilities": None,
    "classes": None,
    "model": "m",
    "version": 1,
    "revision": 1,
    "replica": "0",
}
BOUNDS_S = [0.01, 0.1]


def exposition(
    *, inflight=0, waiting=0, requests=0, failed=0, explanations=0, latencies=(0, 0, 0), total_s=0.0, waits=(0, 0, 0)
):
    """Return figures as a replica tells them; histograms are over 0.01 s and 0.1 s, counts per bucket."""
    champion = {
        "requests": requests,
        "errors": failed,
        "rejected": 2,
        "shadow_dropped": 0,
        "latencies": latencies,
        "latency_sum_s": total_s,
        "waits": waits,
        "wait_sum_s": 0.0,
    }
    processes = [{"pid": 1, "inflight": inflight, "queue_depth": 0}, {"pid": 2, "inflight": 0, "queue_depth": waiting}]
    found = {
        "bounds_s": BOUNDS_S,
        "explanations": explanations,
        "processes": processes,
        "variants": {"champion": champion},
    }
    return json.dumps(found)


class Replicas:
    """The server. `metrics(path)` returns what `/stats` tells, None for a replica that is broken; `answer(path)` returns
    status and document of a prediction, None to break off."""

    def __init__(self):
        self.metrics = lambda path: exposition()
        self.answer = lambda path: (200, ANSWER)
        self.asked = []
        replicas = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                text = replicas.metrics(self.path)
                self._send(500 if text is None else 200, (text or "").encode())

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                replicas.asked.append(self.path)
                found = replicas.answer(self.path)
                if found is None:
                    self.close_connection = True
                    return
                self._send(found[0], json.dumps(found[1]).encode(), "application/json")

            def _send(self, status, content, kind="text/plain"):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}/{{name}}/{{index}}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

"""Predictions on their way to replicas: small HTTP servers that answer as the test says."""

import json
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import jwt
import pytest

from modelops.contracts.errors import DeploymentError, InvalidInput, TooLarge, Unavailable
from modelops.domains.serving.errors import NoReplicaReady, RuntimeTimeout
from modelops.domains.serving.replicas.gateway import Gateway
from modelops.domains.serving.schemas import ServingLimits

ANSWER = {
    "predictions": [1],
    "probabilities": None,
    "classes": None,
    "model": "m",
    "version": 1,
    "revision": 1,
    "replica": "0",
}


class Runtime:
    """A server on this machine. `answer(path, headers, body)` returns status and document; None breaks off."""

    def __init__(self, answer=lambda path, headers, body: (200, ANSWER)):
        self.answer, self.seen = answer, []
        runtime = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                runtime.seen.append((self.path, dict(self.headers.items()), body))
                found = runtime.answer(self.path, self.headers, body)
                if found is None:
                    self.close_connection = True
                    return
                content = json.dumps(found[1]).encode()
                self.send_response(found[0])
                self.send_header("Content-Type", "application/json" if found[0] == 200 else "application/problem+json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def problem(status, code):
    return status, {"status": status, "code": code, "detail": "It is so.", "hint": "Do this.", "errors": [1]}


@pytest.fixture
def runtime():
    with ExitStack() as stack:

        def start(*answer):
            found = Runtime(*answer)
            stack.callback(found.close)
            return found

        yield start


@pytest.fixture
def gateway():
    found = Gateway()
    yield found
    found.close()


@pytest.fixture
def deployed(sqlite_platform, world, register):
    """Deploy on these endpoints: `deployed(url, …)` returns the platform."""

    def deploy(*urls, **options):
        scripted = world(sqlite_platform)
        client = sqlite_platform.client()
        register(client)
        made = client.serving.create_deployment("d", "m:1", replicas=len(urls), **options)
        for _ in range(4):
            sqlite_platform.controller.turn()
        endpoints(sqlite_platform, scripted, f"{made.id}-r1", urls)
        return sqlite_platform

    return deploy


def endpoints(platform, scripted, workload, urls):
    found = scripted.workloads[workload]
    scripted.obedient = False
    for index, url in enumerate(urls):
        found.replicas[index] = replace(found.replicas[index], endpoint=url)
    platform.controller.turn()


def test_a_prediction_comes_back_as_the_replica_gave_it(deployed, runtime):
    one = runtime()
    serving = deployed(one.url).client().serving
    assert serving.predict("d", [[1.5, None]]).predictions == [1]
    path, headers, body = one.seen[0]
    assert (path, json.loads(body)) == ("/predict", {"instances": [[1.5, None]]})
    claims = jwt.decode(headers["authorization"].split()[1], options={"verify_signature": False})
    assert claims["permissions"] == ["deployments.predict"]
    assert (claims["kind"], claims["aud"]) == ("call", "modelops")
    assert claims["project"] == serving.get_deployment("d").project_id
    one.answer = lambda *_: (200, {**ANSWER, "feature_names": ["x"]})
    with pytest.raises(ValueError):
        serving.explain("d", [[1]])
    assert one.seen[-1][0] == "/explain"


def test_what_is_sent_is_not_touched(deployed, runtime):
    one = runtime()
    platform = deployed(one.url)
    http = platform.http(authorization=f"Bearer {platform.admin_key}", x_request_id="r-1", traceparent="00-1")
    http.post("/v1/deployments/d/predict", content=b'{"instances": [[1]], "\\ud800": 1e999}')
    assert one.seen[0][2] == b'{"instances": [[1]], "\\ud800": 1e999}'
    assert one.seen[0][1]["x-request-id"] == "r-1"
    assert one.seen[0][1]["traceparent"] == "00-1"
    assert platform.admin_key not in str(one.seen[0][1])


@pytest.mark.parametrize(
    ("status", "code", "kind"), [(422, "invalid_input", InvalidInput), (413, "too_large", TooLarge)]
)
def test_refusals_are_passed_on(deployed, runtime, status, code, kind):
    platform = deployed(runtime(lambda *_: problem(status, code)).url)
    with pytest.raises(kind, match="It is so") as caught:
        platform.client().serving.predict("d", [[1]])
    assert (caught.value.hint, caught.value.extra) == ("Do this.", {"errors": [1]})
    http = platform.http(authorization=f"Bearer {platform.admin_key}")
    answer = http.post("/v1/deployments/d/predict", json={"instances": [[1]]})
    assert answer.headers["content-type"] == "application/problem+json"


def test_replicas_take_turns(deployed, runtime):
    one, two = runtime(), runtime()
    serving = deployed(one.url, two.url).client().serving
    for _ in range(10):
        serving.predict("d", [[1]])
    assert len(one.seen) == len(two.seen) == 5


def test_a_replica_that_is_gone_is_passed_over(deployed, runtime):
    gone, one = Runtime(), runtime()
    gone.close()
    serving = deployed(gone.url, one.url).client().serving
    assert [serving.predict("d", [[1]]).predictions for _ in range(4)] == [[1]] * 4


def test_one_that_breaks_off_or_is_busy_is_passed_over(deployed, runtime):
    broken, busy, one = runtime(lambda *_: None), runtime(lambda *_: problem(503, "unavailable")), runtime()
    serving = deployed(broken.url, busy.url, one.url).client().serving
    assert [serving.predict("d", [[1]]).predictions for _ in range(6)] == [[1]] * 6
    assert broken.seen
    assert busy.seen


def test_a_request_that_breaks_replicas_does_not_break_all(gateway, runtime):
    servers = [runtime(lambda *_: None) for _ in range(4)]
    with pytest.raises(NoReplicaReady, match="broke off"):
        gateway.call([one.url for one in servers], "/predict", b"{}", {}, 5.0)
    assert sum(len(one.seen) for one in servers) == 2


def test_when_all_are_busy_the_caller_learns_it(deployed, runtime):
    servers = [runtime(lambda *_: problem(503, "unavailable")) for _ in range(2)]
    with pytest.raises(Unavailable, match="It is so"):
        deployed(*[one.url for one in servers]).client().serving.predict("d", [[1]])


def test_when_none_is_there(deployed):
    gone = Runtime()
    gone.close()
    platform = deployed(gone.url)
    with pytest.raises(NoReplicaReady, match="cannot be reached"):
        platform.client().serving.predict("d", [[1]])
    http = platform.http(authorization=f"Bearer {platform.admin_key}")
    answer = http.post("/v1/deployments/d/predict", json={"instances": [[1]]})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["hint"]


def test_a_stopped_deployment_says_so(deployed, runtime):
    platform = deployed(runtime().url)
    serving = platform.client().serving
    serving.update_deployment("d", replicas=0)
    for _ in range(2):
        platform.controller.turn()
    with pytest.raises(DeploymentError, match="is stopped") as caught:
        serving.predict("d", [[1]])
    assert caught.value.status == 409


def test_a_replica_that_does_not_answer_in_time(gateway, runtime):
    ended = threading.Event()
    slow = runtime(lambda *_: ended.wait(10) and None)
    with pytest.raises(RuntimeTimeout, match=r"0\.05 s"):
        gateway.call([slow.url], "/predict", b"{}", {}, 0.05)
    ended.set()


def test_the_platforms_own_trouble_is_not_the_callers(deployed, runtime):
    """A replica that refuses the platform's token must not look like a caller who is not signed in."""
    one = runtime(lambda *_: problem(401, "unauthenticated"))
    with pytest.raises(NoReplicaReady, match="refused the platform's token"):
        deployed(one.url).client().serving.predict("d", [[1]])
    tokens = {headers["authorization"] for _, headers, _ in one.seen}
    assert len(tokens) == 2


def test_bodies_have_the_deployments_own_limit(deployed, runtime):
    one = runtime()
    platform = deployed(one.url, limits=ServingLimits(max_body_bytes=10 * 1024**2))
    http = platform.http(authorization=f"Bearer {platform.admin_key}")
    assert http.post("/v1/deployments/d/predict", content=b" " * 9 * 1024**2).status_code == 200
    answer = http.post("/v1/deployments/d/predict", content=b" " * (10 * 1024**2 + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert len(one.seen) == 1


def test_a_token_is_used_until_it_is_old(gateway):
    issued = []

    def issue():
        issued.append(1)
        return f"t{len(issued)}"

    assert [gateway.token("p", at, issue) for at in (0.0, 400.0, 481.0, 482.0)] == ["t1", "t1", "t2", "t2"]
    assert gateway.token("q", 482.0, issue) == "t3"
    gateway.forget_token("p")
    assert gateway.token("p", 482.0, issue) == "t4"


def test_a_deployment_that_moved_meanwhile_is_looked_up_again(deployed, runtime, world, monkeypatch):
    """The old replicas went between the look-up and the call."""
    from modelops.contracts.ports import Deployer
    from modelops.domains.serving import traffic

    gone, one = Runtime(), runtime()
    gone.close()
    platform = deployed(gone.url)
    scripted = platform.place.ports[Deployer]
    ask = traffic._ask

    def moved(scope, target, path, body):
        monkeypatch.setattr(traffic, "_ask", ask)
        endpoints(platform, scripted, scripted.names()[0], [one.url])
        return ask(scope, target, path, body)

    monkeypatch.setattr(traffic, "_ask", moved)
    assert platform.client().serving.predict("d", [[1]]).predictions == [1]


def test_many_at_once(deployed, runtime):
    def slowly(*_):
        time.sleep(0.01)
        return 200, ANSWER

    one, two = runtime(slowly), runtime(slowly)
    platform = deployed(one.url, two.url)
    answers = []

    def ask():
        with platform.http(authorization=f"Bearer {platform.admin_key}") as http:
            answers.append(http.post("/v1/deployments/d/predict", json={"instances": [[1]]}).status_code)

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 40


def test_the_document_describes_the_body(sqlite_platform):
    document = httpx.Response(200, content=sqlite_platform.http().get("/openapi.json").content).json()
    for verb in ("predict", "explain"):
        operation = document["paths"][f"/v1/deployments/{{deployment}}/{verb}"]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        assert schema["required"] == ["instances"]
        assert "$ref" not in json.dumps(schema)
        assert operation["operationId"] == f"serving.{verb}"
        assert "500" in operation["responses"]

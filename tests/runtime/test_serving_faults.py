"""Callers and models that misbehave over real sockets: each has a clear answer or a closed connection, and others go on."""

import json
import socket
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from modelops.domains.models.flavours import callable as functions
from modelops.domains.models.schemas import Feature, ModelSignature
from modelops.domains.serving.schemas import ServingLimits

ONE_NUMBER = ModelSignature(inputs=[Feature(name="x")])


class Tired:
    """Sleeps when it is asked for 5, until it is let go; says for 6 what is no JSON."""

    def __init__(self, folder):
        self.asked, self.let_go = str(folder / "asked"), str(folder / "let-go")

    def __call__(self, rows):
        import time
        from pathlib import Path

        if (rows == 5).any():
            Path(self.asked).touch()
            while not Path(self.let_go).exists():
                time.sleep(0.005)
        if (rows == 6).any():
            return [object()] * len(rows)
        return rows[:, 0]


class Asleep:
    """A replica whose model was asked for 5 and sleeps; at the end it is let go, and answers."""

    def __init__(self, replica, tired, wait_until):
        self._replica, self._tired, self._until = replica, tired, wait_until
        self.answers = []

    def __enter__(self):
        for path in (self._tired.asked, self._tired.let_go):
            Path(path).unlink(missing_ok=True)
        self._asking = threading.Thread(target=lambda: self.answers.append(self._replica.predict([[5]]).status_code))
        self._asking.start()
        self._until(Path(self._tired.asked).exists)
        return self

    def __exit__(self, *_):
        Path(self._tired.let_go).touch()
        self._asking.join()


@pytest.fixture(scope="module")
def tired(module_bench):
    return Tired(module_bench.folder)


@pytest.fixture(scope="module")
def replica(module_bench, tired):
    files = module_bench.package(functions.flavour, tired)
    return module_bench.serve(module_bench.document(files, ONE_NUMBER, "callable"))


def connect(replica):
    place = urlsplit(replica.url)
    return closing(socket.create_connection((place.hostname, place.port), timeout=30))


def request(replica, value=1, extra=""):
    body = json.dumps({"instances": [[value]]})
    token = replica.client.headers["authorization"]
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def reply(connection):
    """Read one reply; its status, or None where the connection ended before."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        if not piece:
            return None
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split()[1])


def test_one_who_sends_slowly_keeps_nobody_waiting(replica):
    whole = request(replica)
    with connect(replica) as slow:
        for index in range(0, len(whole) - 1, 40):
            slow.sendall(whole[index : min(index + 40, len(whole) - 1)])
            assert replica.predict([[2]]).json()["predictions"] == [2.0]
        slow.sendall(whole[-1:])
        assert reply(slow) == 200
        slow.sendall(whole)
        assert reply(slow) == 200


def test_connections_that_say_nothing_or_half_are_no_harm(replica, tired, wait_until):
    with connect(replica) as silent, connect(replica) as half, connect(replica) as rude:
        half.sendall(request(replica)[:-3])
        with Asleep(replica, tired, wait_until) as asleep:
            rude.sendall(request(replica))
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            rude.close()  # a reset, with its request in the queue
        assert asleep.answers == [200]
        half.shutdown(socket.SHUT_WR)
        assert half.recv(1) == b""
        assert silent.fileno() > 0
    assert replica.predict([[2]]).status_code == 200


def test_one_who_never_reads_is_not_written_to_without_end(replica):
    with connect(replica) as deaf:
        deaf.settimeout(0.5)
        whole = request(replica) * 200
        sent = 0
        try:
            for _ in range(2_000):
                sent += deaf.send(whole)
        except TimeoutError:
            pass
        assert sent < 2_000 * len(whole), "the server reads on though nobody takes its replies"
        assert replica.predict([[2]]).status_code == 200


def test_a_model_that_sleeps_delays_those_who_ask_it_and_no_more(replica, tired, wait_until):
    with connect(replica) as early, connect(replica) as other, Asleep(replica, tired, wait_until) as asleep:
        early.sendall(request(replica, 1, "X-Request-Timeout-Ms: 50\r\n"))
        other.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert reply(other) == 200
        assert reply(early) == 504
        assert not asleep.answers, "the one who waited too long was told while the model still slept"
    assert asleep.answers == [200]


def test_what_is_no_json_fails_alone(replica):
    answer = replica.predict([[6]])
    assert (answer.status_code, answer.json()["code"]) == (500, "model_failed")
    assert replica.predict([[2]]).status_code == 200


def test_many_connections_at_once(replica):
    whole = request(replica)
    place = urlsplit(replica.url)
    connections = [socket.create_connection((place.hostname, place.port), timeout=30) for _ in range(400)]
    try:
        for connection in connections:
            connection.sendall(whole)
        assert {reply(connection) for connection in connections} == {200}
    finally:
        for connection in connections:
            connection.close()


def test_a_caller_above_its_rate_is_told_when_to_come_back(bench, tired):
    files = bench.package(functions.flavour, tired)
    limits = ServingLimits(rate_per_s=0.01, rate_burst=3)
    replica = bench.serve(bench.document(files, ONE_NUMBER, "callable", limits=limits))

    answers = [replica.predict([[1]]) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[3].json()["code"] == "rate_limited"
    assert 90 <= int(answers[3].headers["retry-after"]) <= 100
    with connect(replica) as short:
        whole = request(replica)
        short.sendall(whole)
        assert reply(short) == 429
    other = {"Authorization": f"Bearer {bench.tokens.token(sub='usr_2')}"}
    assert replica.predict([[1]], headers=other).status_code == 200


def test_the_operator_s_limit_of_requests_holds(bench, tired, wait_until):
    files = bench.package(functions.flavour, tired)
    replica = bench.serve(bench.document(files, ONE_NUMBER, "callable"), SERVING_MAX_CONCURRENCY="1")
    with connect(replica) as other, Asleep(replica, tired, wait_until) as asleep:
        other.sendall(request(replica))
        assert reply(other) == 503
    assert asleep.answers == [200]

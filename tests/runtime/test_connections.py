"""Ten thousand connections to one replica, slow and silent ones among them; and what happens where there is no room."""

import asyncio
import resource
import socket
import time
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
from sklearn.linear_model import LogisticRegression
from tests.runtime.wires import InProcess
from uvicorn.server import ServerState

from modelops.domains.models.flavours.sklearn import flavour
from modelops.domains.models.signatures import infer_signature
from modelops.runtime.serving.connections import Room
from modelops.runtime.serving.fastlane import protocol

X = np.random.default_rng(0).normal(size=(40, 2))
BODY = b'{"instances": [[1, 2]]}'
MANY, OF_EACH_SLOW_KIND = 10_000, 100


@pytest.fixture(scope="module")
def document(module_bench):
    files = module_bench.package(flavour, LogisticRegression().fit(X, X[:, 0] > 0))
    return module_bench.document(files, infer_signature(X))


@pytest.fixture
def replica(module_bench, document):
    return module_bench.serve(document)


def head(replica):
    token = replica.client.headers["authorization"]
    return (
        f"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    )


def connect(replica, stack):
    place = urlsplit(replica.url)
    return stack.enter_context(closing(socket.create_connection((place.hostname, place.port), timeout=30)))


def is_ended(connection):
    """Tell whether the other side ended a connection."""
    connection.settimeout(0)
    try:
        return connection.recv(65536) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest.fixture
def many_files(missing):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < MANY + 1_000:
        missing("This machine does not let a process open so many files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, MANY + 1_000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_ten_thousand_connections_and_a_normal_caller(replica, many_files, wait_until, record_property):
    process, whole = psutil.Process(replica.process.pid), head(replica) + BODY
    assert replica.predict([[1, 2]]).status_code == 200
    before = process.memory_info().rss
    with ExitStack() as stack:
        silent = [connect(replica, stack) for _ in range(OF_EACH_SLOW_KIND)]
        in_head = [connect(replica, stack) for _ in range(OF_EACH_SLOW_KIND)]
        in_body = [connect(replica, stack) for _ in range(OF_EACH_SLOW_KIND)]
        busy = [connect(replica, stack) for _ in range(MANY - 3 * OF_EACH_SLOW_KIND)]
        for connection in busy:
            connection.sendall(whole)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        for connection in in_body:
            connection.sendall(whole[:-1])
        for index, connection in enumerate(in_head):
            connection.sendall(whole[: 10 + index % 40])
        assert process.num_fds() >= MANY
        each = (process.memory_info().rss - before) / MANY
        record_property("bytes_each", each)
        assert each < 32 * 1024

        def trickled():
            """Send one more byte of each head; tell whether the replica ended all of them."""
            for connection in in_head:
                try:
                    connection.send(b"x")
                except OSError:
                    continue
            assert replica.predict([[1, 2]]).status_code == 200
            time.sleep(0.5)
            return all(is_ended(connection) for connection in in_head)

        wait_until(trickled)
        assert not any(is_ended(connection) for connection in (*silent, *in_body))
        for connection in in_body:
            connection.settimeout(30)
            connection.sendall(whole[-1:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    wait_until(lambda: process.num_fds() < 100)
    assert replica.predict([[1, 2]]).status_code == 200


def test_no_files_left_is_no_end(replica, wait_until):
    """Where the system gives no more, who comes is sent away; nothing crashes or spins, and it goes on afterwards."""
    process, whole = psutil.Process(replica.process.pid), head(replica) + BODY
    assert replica.predict([[1, 2]]).status_code == 200
    most = process.num_fds() + 20
    process.rlimit(psutil.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        connections = [connect(replica, stack) for _ in range(60)]
        wait_until(lambda: process.num_fds() >= most - 1)
        spent = sum(process.cpu_times()[:2])
        assert replica.predict([[1, 2]]).status_code == 200  # on the connection that there was
        time.sleep(1)
        assert sum(process.cpu_times()[:2]) - spent < 0.5
        assert sum(not is_ended(connection) for connection in connections) <= 21
    wait_until(lambda: process.num_fds() < most - 15)
    with ExitStack() as stack:
        again = connect(replica, stack)
        again.sendall(whole)
        assert again.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.fixture
def served(module_bench, document):
    with closing(InProcess(module_bench, document)) as opened:
        yield opened


def test_the_longest_quiet_go_for_who_comes(served):
    served.room = Room(2)

    async def crowd():
        state = ServerState()
        with ExitStack() as stack:
            wires = [stack.enter_context(served.connection(state=state))[0] for _ in range(3)]
            lately = [wire.closed for wire in wires]
            for wire in wires:
                wire.protocol._active_at -= 10
            await asyncio.sleep(0)  # in which the third is forgotten
            wires.append(stack.enter_context(served.connection(state=state))[0])
            return lately, [wire.closed for wire in wires]

    assert served.run(crowd()) == ([False, False, True], [True, True, True, False])


def test_who_is_quiet_for_long_makes_room():
    class Quiet:
        def __init__(self, since):
            self.since, self.ended = since, False

        def quiet_since(self):
            return self.since

        def end(self):
            self.ended = True

    now = time.perf_counter()
    old, owed, lately = Quiet(now - 60), Quiet(None), Quiet(now)
    room = Room(2)
    assert room.has_place({old, owed})
    assert not old.ended
    assert room.has_place({old, owed, lately})
    assert (old.ended, owed.ended, lately.ended) == (True, False, False)
    assert not room.has_place({owed, lately, Quiet(None)})


@pytest.mark.parametrize(
    ("pieces", "seconds", "closed"),
    [
        ([], 74, False),
        ([], 76, True),
        ([b"POST /predict HTTP/1.1\r\nHost"], 19, False),
        ([b"POST /predict HTTP/1.1\r\nHost"], 21, True),
        ([b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1"], 119, False),
        ([b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1"], 121, True),
    ],
)
def test_how_long_a_slow_caller_has(served, monkeypatch, pieces, seconds, closed):
    monkeypatch.setattr(protocol, "_CHECK_S", 60.0)

    async def wait():
        with served.connection() as (wire, _):
            wire.protocol.timeout_keep_alive = 75
            for piece in pieces:
                wire.protocol.data_received(piece)
            wire.protocol._active_at -= seconds
            wire.protocol._look_after()
            return wire.closed

    assert served.run(wait()) is closed


def test_who_takes_no_reply_is_cut_off(served):
    async def stuck():
        with served.connection() as (wire, _):
            wire.abort = wire.close
            wire.protocol.pause_writing()
            wire.protocol._look_after()
            early = wire.closed
            wire.protocol._active_at -= 121
            wire.protocol._look_after()
            return early, wire.closed

    assert served.run(stuck()) == (False, True)

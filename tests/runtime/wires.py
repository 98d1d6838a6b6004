"""Connections without sockets: a protocol is fed what a test likes, in the pieces that it likes."""

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from modelops.runtime.serving.app import build_app
from modelops.runtime.serving.config import read_config
from modelops.runtime.serving.connections import Room
from modelops.runtime.serving.fastlane.lane import FastLane
from modelops.runtime.serving.fastlane.protocol import protocol_of
from modelops.runtime.serving.replica import Replica
from modelops.runtime.serving.steering import Steering


class Wire(asyncio.Transport):
    """The server's end of a connection."""

    def __init__(self, loop):
        super().__init__()
        self._loop, self.protocol = loop, None
        self.out, self.closed, self.paused = bytearray(), False, False

    def write(self, data):
        if not self.closed:
            self.out += data

    def close(self):
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self.protocol.connection_lost, None)

    def is_closing(self):
        return self.closed

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False


class AtOnce(ThreadPoolExecutor):
    """Works where it is asked to, so that no thread's haste decides what comes first."""

    def submit(self, work, /, *given, **named):
        done = Future()
        try:
            done.set_result(work(*given, **named))
        except Exception as wrong:
            done.set_exception(wrong)
        return done


class InProcess:
    """A replica in the test's own process, with one event loop that goes on between calls."""

    def __init__(self, bench, document, **env):
        config = read_config({"MODELOPS_WORKDIR": str(bench.workdir(document)), "MODELOPS_FLUSH_S": "60", **env})
        self.replica = Replica(config, document)
        for variant in self.replica.current.variants:
            variant._pace.may_suit = True  # as a compiled model, that no thread's haste decides what comes first
            variant.warm_up()
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(AtOnce())
        self.lane = FastLane(self.replica)
        self.room = Room(10_000)
        self.taken = 0
        ask = self.lane.ask

        def counted(*given):
            self.taken += 1
            return ask(*given)

        self.lane.ask = counted
        self._config = uvicorn.Config(build_app(self.replica, Steering()), lifespan="off", ws="none", log_config=None)
        self._config.load()

    def close(self):
        self.replica.start()
        self.replica.close()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def run(self, work):
        return self.loop.run_until_complete(asyncio.wait_for(work, 30))

    def answers(self, chunks, *, fast=True):
        """Return the replies to what comes in these pieces, as (status, body), and whether the connection ended."""
        return self.run(self._talk(chunks, fast))

    async def _talk(self, chunks, fast):
        with self.connection(fast=fast) as (wire, state):
            for chunk in chunks:
                await self.settle(wire, state, lambda: not wire.paused)
                if wire.closed:
                    break
                wire.protocol.data_received(chunk)
            await self.settle(wire, state, lambda: False)
            return replies(bytes(wire.out)), wire.closed

    @contextmanager
    def connection(self, *, fast=True, state=None):
        state, wire = state or ServerState(), Wire(asyncio.get_running_loop())
        kind = protocol_of(self.lane, self.room) if fast else HttpToolsProtocol
        wire.protocol = kind(config=self._config, server_state=state, app_state={})
        wire.protocol.connection_made(wire)
        try:
            yield wire, state
        finally:
            if not wire.closed:
                wire.closed = True
                wire.protocol.connection_lost(None)

    @staticmethod
    async def settle(wire, state, enough):
        """Wait until `enough`, or until nobody works on a request any more, or waits for no more than further bytes."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for _ in range(20):
                await asyncio.sleep(0)
            cycle = wire.protocol.cycle
            for_bytes = cycle is not None and not cycle.response_complete and cycle.more_body
            if getattr(wire.protocol, "_head", None) is None and (not state.tasks or for_bytes or enough()):
                return
            await asyncio.sleep(0.0005)
        raise AssertionError("it never came to rest")


def replies(out):
    """Return the replies in bytes, as (status, body)."""
    found = []
    while out:
        head, _, rest = out.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        status = int(lines[0].split()[1])
        if status == 100:
            out = rest
            continue
        headers = dict(line.lower().split(b": ", 1) for line in lines[1:])
        length = int(headers[b"content-length"])
        assert len(rest) >= length, out
        found.append((status, rest[:length]))
        out = rest[length:]
    return found

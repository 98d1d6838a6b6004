"""The limits: a constant answer from a plain protocol on uvloop, and from the smallest ASGI application on uvicorn."""

import asyncio
import os
import signal
import socket
import sys

BODY = b'{"predictions":[1],"probabilities":[[0.03,0.97]],"classes":[0,1]}'
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]


class Constant(asyncio.Protocol):
    """Answers what it takes for a whole request, without reading it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(REPLY)


async def app(scope: dict, receive: object, send: object) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


def protocol(listener: socket.socket) -> None:
    import uvloop

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Constant, sock=listener)
        await server.serve_forever()

    uvloop.run(run())


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=2_048)
    children = [pid for _ in range(int(os.environ["BENCH_WORKERS"]) - 1) if (pid := os.fork())]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    protocol(listener)

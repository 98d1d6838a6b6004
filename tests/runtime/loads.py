"""Callers that never stop, and count every request that failed."""

import asyncio
import json
import threading
from collections import Counter
from contextlib import suppress
from urllib.parse import urlsplit


class Load:
    """Some connections that ask one after the other, until one is told that its connection ends: then a balancer would go
    elsewhere.

    `answers` counts predictions, as JSON, together with the members `of` of the replies; `failures` holds the rest.
    """

    def __init__(self, url, token, body, *, connections=8, headers=None, of=("revision",)):
        split = urlsplit(url)
        self._host, self._port = split.hostname, split.port
        content = json.dumps(body).encode()
        lines = [b"POST /predict HTTP/1.1", b"Host: replica", b"Authorization: Bearer " + token.encode()]
        lines += [f"{name}: {value}".encode() for name, value in (headers or {}).items()]
        lines += [b"Content-Length: %d" % len(content), b"", b""]
        self._request, self._of, self._connections = b"\r\n".join(lines) + content, of, connections
        self.answers, self.failures, self.slowest = Counter(), [], 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))

    @property
    def count(self):
        return sum(self.answers.values())

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    async def _all(self):
        await asyncio.gather(*(self._connection() for _ in range(self._connections)))

    async def _connection(self):
        goes_on = True
        while goes_on and not self._ended.is_set():
            reader, writer = await asyncio.open_connection(self._host, self._port)
            try:
                while (goes_on := await self._ask(reader, writer)) and not self._ended.is_set():
                    pass
            except (OSError, asyncio.IncompleteReadError) as wrong:
                self.failures.append(repr(wrong))
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    async def _ask(self, reader, writer):
        began = asyncio.get_running_loop().time()
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        body = await reader.readexactly(int(lines[b"content-length"]))
        self.slowest = max(self.slowest, asyncio.get_running_loop().time() - began)
        if head.split()[1] != b"200":
            self.failures.append(body.decode())
        else:
            said = json.loads(body)
            self.answers[(json.dumps(said["predictions"]), *(said[name] for name in self._of))] += 1
        return lines.get(b"connection") != b"close"

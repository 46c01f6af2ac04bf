"""A load client small enough to be trusted: HTTP/1.1 over asyncio streams.

Every exchange is recorded with the moments just before its first byte was sent
and just after its last byte was read. What the server did for it, it did in
between.
"""

import asyncio
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer. Times are CLOCK_MONOTONIC, in seconds."""

    sent: float
    received: float
    status: int
    headers: dict
    body: bytes


class Connection:
    """One kept-alive connection."""

    def __init__(self, port):
        self.port = port
        self.reader = self.writer = None

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_error):
        self.writer.close()

    async def get(self, path, headers=()):
        lines = [f"GET {path} HTTP/1.1", "host: 127.0.0.1", *headers, "", ""]
        request = "\r\n".join(lines).encode()
        sent = time.monotonic()
        self.writer.write(request)
        status, fields, body = await self.read_answer()
        return Exchange(sent, time.monotonic(), status, fields, body)

    async def read_answer(self):
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        fields = {}
        for line in lines:
            name, value = line.split(":", 1)
            name, value = name.lower(), value.strip()
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        if "chunked" in fields.get("transfer-encoding", ""):
            body = await self.read_chunks()
        else:
            body = await self.reader.readexactly(int(fields.get("content-length", 0)))
        return int(first.split()[1]), fields, body

    async def read_chunks(self):
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readline()
        return body


async def hammer(port, path, connection_count, seconds, pause, headers=()):
    """Keeps `connection_count` connections asking for `seconds`, each resting
    for `pause` after an answer. Returns every exchange; none may fail."""
    deadline = time.monotonic() + seconds
    exchanges = []

    async def one():
        async with Connection(port) as connection:
            while time.monotonic() < deadline:
                exchanges.append(await connection.get(path, headers))
                await asyncio.sleep(pause)

    await asyncio.gather(*(one() for _ in range(connection_count)))
    return exchanges


async def raw(port, request, timeout=10):
    """Sends bytes as they are and returns all that comes back until the server
    closes the connection, or stays silent for half a second after an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(request)
        deadline = time.monotonic() + timeout
        while True:
            patience = 0.5 if answer else deadline - time.monotonic()
            try:
                some = await asyncio.wait_for(reader.read(65536), patience)
            except TimeoutError:
                return answer
            if not some:
                return answer
            answer += some
    except ConnectionError:
        return answer
    finally:
        writer.close()

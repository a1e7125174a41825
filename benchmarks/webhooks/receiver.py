"""A minimal receiver: answers every POST with 200 after a number of seconds.

As a module it is a process of its own, `python -m benchmarks.webhooks.receiver 0.01`: it prints its port, and ends when
its standard input does.
"""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

__all__ = ["receiver"]

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class _Connection(asyncio.Protocol):
    """Requests over it come one after another, each with a Content-Length."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._come = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._come += data
        head, end, body = self._come.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if end and length and len(body) >= int(length[1]):
            self._come = body[int(length[1]) :]
            asyncio.get_running_loop().call_later(self._delay, self._transport.write, _ANSWER)


async def _serve(delay: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(delay), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def receiver(delay: float) -> Iterator[tuple[str, psutil.Process]]:
    """Run a receiver; yield its address and its process."""
    command = [sys.executable, "-m", "benchmarks.webhooks.receiver", str(delay)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdin
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/hook", psutil.Process(process.pid)
        finally:
            process.stdin.close()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))

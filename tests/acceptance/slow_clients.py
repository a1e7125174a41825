"""Clients that hold a connection and say little on it, by the ways in which they do so."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil

__all__ = ["KINDS", "SlowClients"]

DRIP_SECONDS = 1.0
BODY_BYTES = 100_000


def silent(_key: str) -> Iterator[bytes]:
    yield b""


def half_a_header(_key: str) -> Iterator[bytes]:
    yield b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: "


def dripping_header(_key: str) -> Iterator[bytes]:
    yield b"GET /health HTTP/1.1\r\nHost: x\r\n"
    while True:
        yield b"X"


def idle_after_an_answer(_key: str) -> Iterator[bytes]:
    yield b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


def half_a_body(key: str) -> Iterator[bytes]:
    yield _post(key)


def dripping_body(key: str) -> Iterator[bytes]:
    yield _post(key)
    while True:
        yield b" "


def dripping_body_without_a_key(_key: str) -> Iterator[bytes]:
    yield from dripping_body("no-key-of-this-server")


def dripping_upload(key: str) -> Iterator[bytes]:
    head = b"POST /api/v1/lora/upload HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    yield head + _rest(key) + b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.safetensors"\r\n\r\n'
    while True:
        yield b"x"


def unread_answer(key: str) -> Iterator[bytes]:
    # More than fits into the buffers on the way.
    yield b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key.encode() + b"\r\n\r\n"


KINDS = (
    silent,
    half_a_header,
    dripping_header,
    idle_after_an_answer,
    half_a_body,
    dripping_body,
    dripping_body_without_a_key,
    dripping_upload,
    unread_answer,
)


@dataclass
class SlowClients:
    """`each` connections of every kind to a port of this machine."""

    port: int
    key: str
    each: int
    _open: dict[socket.socket, tuple[str, Iterator[bytes]]] = field(default_factory=dict)
    _ports: dict[int, str] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "SlowClients":
        for kind in KINDS:
            for _ in range(self.each):
                client = socket.socket()
                # Small, so that an answer that nobody reads stays with the server.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(("127.0.0.1", self.port))
                client.setblocking(False)
                self._open[client] = (kind.__name__, kind(self.key))
                self._ports[client.getsockname()[1]] = kind.__name__
        self._drip()
        self._dripping = threading.Thread(target=self._drip_on, daemon=True)
        self._dripping.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._dripping.join()
        for client in self._open:
            client.close()

    def held(self, server: psutil.Process) -> Counter[str]:
        """How many connections of each kind the server still has."""
        ports = {
            connection.raddr.port
            for connection in server.net_connections("tcp")
            if connection.raddr and connection.status in (psutil.CONN_ESTABLISHED, psutil.CONN_CLOSE_WAIT)
        }
        ports &= self._ports.keys()
        self._seen |= ports
        return Counter(self._ports[port] for port in ports)

    def never_held(self, server: psutil.Process) -> Counter[str]:
        """How many of each kind were in no answer of `held` so far, this one's included: a busy server accepts late."""
        self.held(server)
        return Counter(kind for port, kind in self._ports.items() if port not in self._seen)

    def _drip_on(self) -> None:
        while not self._stop.wait(DRIP_SECONDS):
            self._drip()

    def _drip(self) -> None:
        for client, (_, pieces) in self._open.items():
            piece = next(pieces, b"")
            if piece:
                try:
                    client.send(piece)
                except OSError:
                    # Closed by the server, which is what is being waited for.
                    continue


def _post(key: str) -> bytes:
    return (
        b"POST /api/v1/tasks/generation HTTP/1.1\r\nContent-Type: application/json\r\n" + _rest(key) + b'{"prompt": "'
    )


def _rest(key: str) -> bytes:
    return f"Host: x\r\nAuthorization: Bearer {key}\r\nContent-Length: {BODY_BYTES}\r\n\r\n".encode()

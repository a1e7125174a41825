"""A request that cannot be written is known not to have left; odd bytes of an answer are no crash."""

import asyncio
from typing import Any

import pytest

from compute.providers.calls.http import HttpClient, HttpRequest
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import NotDeliveredError, OutcomeUnknownError
from tests.providers.standins.fal import Fal

UNSENDABLE: list[dict[str, Any]] = [
    {"headers": {"Authorization": "Key a\nb"}},
    {"headers": {"Authorization": "Key a\x00b"}},
    {"headers": {"Authorization": "Key \ud800"}},
    {"headers": {"Author\nization": "Key a"}},
    {"json": {"a": 1 << 60_000}},
    {"json": {"a": "x", 1j: 2}},
]


@pytest.mark.parametrize("odd", UNSENDABLE, ids=[str(number) for number in range(len(UNSENDABLE))])
async def test_a_request_that_cannot_be_written_has_not_left(odd: dict[str, Any]) -> None:
    async with Fal() as fal, HttpClient() as http:
        log: list[ServiceRequest] = []
        with pytest.raises(NotDeliveredError, match="could not be sent"):
            await http.pay(HttpRequest("POST", f"{fal.url('queue')}/fal-ai/flux", **odd), log)
        assert (fal.arrivals, [one.error is None for one in log]) == ([], [False])


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:99999/x", "http://[::1", "nonsense", "http:///x", "http://\ud800/x"]
)
async def test_an_address_that_is_none_is_not_called(address: str) -> None:
    async with HttpClient() as http:
        log: list[ServiceRequest] = []
        with pytest.raises(NotDeliveredError):
            await http.pay(HttpRequest("POST", address, {"Authorization": "Key a"}), log)
        assert len(log) == 1


ANSWERS = [
    b"HTTP/1.1 200 OK\r\nx-fal-request-id: \xff\xfe\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nx-fal-request-id: " + b"r" * 4000 + b"\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nretry-after: \xff\r\nset-cookie: \xff=;;=\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-type: \xff/;;charset=\xff\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n{}",
    b"HTTP/1.1 999 \xff\r\ncontent-length: 99999999999999999999\r\n\r\n{}",
    b"HTTP/9.9 banana\r\n\r\n",
    b"\xff\xfe\x00",
    b"",
]


@pytest.mark.parametrize("raw", ANSWERS, ids=[str(number) for number in range(len(ANSWERS))])
async def test_odd_bytes_are_an_answer_or_none(raw: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    log: list[ServiceRequest] = []
    async with server, HttpClient() as http:
        try:
            answer = await http.pay(HttpRequest("GET", f"http://127.0.0.1:{port}/x"), log)
        except OutcomeUnknownError:
            pass
        else:
            assert answer.status in (200, 999)
    [line] = log
    assert len(line.request_id or "") <= 256
    assert repr(line).encode()
    assert (line.request_id or "").encode() is not None

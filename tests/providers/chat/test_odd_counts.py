"""Tokens that are counted in odd ways lose no answer that was paid."""

import re
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from tests.providers.chat.vendors import CHATS, Chat, paid_chats
from tests.providers.standins.exchange import Reply
from tests.providers.standins.server import Call, Fault

every_paid_chat = pytest.mark.parametrize("chat", paid_chats(), ids=str)
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["at-once", "streamed"])
_COUNT = re.compile(rb'"(prompt_tokens|input_tokens|promptTokenCount|prompt_eval_count)": ?\d+')
ODD = {
    "word": b'"many"',
    "negative": b"-1",
    "endless": b"1e999",
    "huge": b"1" + b"0" * 400,
    "none": b"NaN",
    "list": b"[1]",
    "object": b'{"a": 1}',
    "null": b"null",
}


def counting(value: bytes) -> Fault:
    """The vendor's answer, with another number of tokens of the question."""

    def changed(part: bytes) -> bytes:
        return _COUNT.sub(lambda found: b'"' + found[1] + b'": ' + value, part)

    async def play(call: Call) -> Reply:
        reply = await call.answer()
        if isinstance(reply.body, bytes):
            assert _COUNT.search(reply.body)
            return replace(reply, body=changed(reply.body))
        parts = reply.body

        async def each() -> AsyncGenerator[bytes, None]:
            async for part in parts:
                yield changed(part)

        return replace(reply, body=each())

    return Fault("odd counts", play)


@every_paid_chat
@both_ways
@pytest.mark.parametrize("odd", ODD)
async def test_an_odd_count_is_left_out_and_the_answer_kept(chat: Chat, streamed: bool, odd: str) -> None:
    async with chat.make() as stand_in:
        stand_in.faults.on(chat.route(streamed), counting(ODD[odd]))
        answer = await chat.ask(stand_in, streamed=streamed)
        assert answer.text == "You asked: Which colour?"
        assert answer.units.keys() <= {"input_tokens", "output_tokens"}
        assert "input_tokens" not in answer.units
        assert answer.units["output_tokens"] > 0


@pytest.mark.parametrize("chat", CHATS, ids=str)
@both_ways
async def test_a_usual_count_is_kept(chat: Chat, streamed: bool) -> None:
    async with chat.make() as stand_in:
        stand_in.faults.on(chat.route(streamed), counting(b"12"))
        answer = await chat.ask(stand_in, streamed=streamed)
        assert answer.units["input_tokens"] == 12.0

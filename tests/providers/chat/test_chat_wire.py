"""Broken connections to a vendor: a question is sent once, and it is known whether it may have been answered."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import pytest

from compute.errors import ProviderFailed
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import NotDeliveredError, OutcomeUnknownError
from compute.providers.chat.registry import chat_vendors
from compute.settings import Settings
from tests.providers.chat.vendors import CHATS, Chat, paid_chats
from tests.providers.standins.exchange import Reply, Trouble
from tests.providers.standins.faults import (
    from_nginx,
    hang_before_headers,
    hang_mid_body,
    html,
    redirected,
    refused,
    reset_after_body,
    reset_before_body,
    reset_mid_body,
    wrong_type,
)
from tests.providers.standins.server import Call, Fault
from tests.servers import listening

every_chat = pytest.mark.parametrize("chat", CHATS, ids=str)
every_paid_chat = pytest.mark.parametrize("chat", paid_chats(), ids=str)
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["at-once", "streamed"])
SHORT = 0.5
"""Seconds of a deadline that is to be missed."""


def of_json(data: object, status: int = 200) -> Fault:
    """Another JSON than anybody promised."""

    async def play(call: Call) -> Reply:
        await call.read()
        return Reply(status, json.dumps(data).encode(), {"Content-Type": "application/json"})

    return Fault(f"{status} with {json.dumps(data)[:30]}", play)


def ended_early() -> Fault:
    """A stream that ends in order after its first part."""

    async def play(call: Call) -> Reply:
        reply = await call.answer()
        assert not isinstance(reply.body, bytes)
        parts = reply.body

        async def first() -> AsyncGenerator[bytes, None]:
            async with aclosing(parts):
                yield await anext(parts)

        return replace(reply, body=first())

    return Fault("ended early", play)


def dripping(piece: bytes = b" ") -> Fault:
    """An answer that goes on for ever, a byte at a time."""

    async def play(call: Call) -> Reply:
        reply = await call.answer()

        async def drops() -> AsyncGenerator[bytes, None]:
            while True:
                yield piece
                await asyncio.sleep(SHORT / 50 if len(piece) == 1 else 0)

        return replace(reply, body=drops())

    return Fault("dripping", play)


FAULTS = [
    reset_before_body(),
    reset_after_body(),
    reset_mid_body(),
    html(),
    html(403),
    from_nginx(500),
    from_nginx(502),
    from_nginx(503),
    redirected(),
    of_json({}),
    of_json([]),
    of_json({"error": {"nobody": "knows"}}, 500),
    of_json("later", 429),
    of_json({"choices": [7], "content": 7, "candidates": [7], "message": 7}),
]


@every_chat
@both_ways
@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_what_was_sent_and_not_answered_is_unknown(chat: Chat, streamed: bool, fault: Fault) -> None:
    async with chat.make() as stand_in:
        stand_in.faults.always(chat.route(streamed), fault)
        log: list[ServiceRequest] = []
        with pytest.raises(OutcomeUnknownError):
            await chat.ask(stand_in, streamed=streamed, log=log)
        assert len(stand_in.arrived(chat.route(streamed))) == 1
        assert stand_in.arrived("trap") == []
        assert [(line.times, line.path) for line in log] == [(1, stand_in.arrivals[0].path)]


@every_chat
async def test_a_stream_that_ends_before_its_end_is_unknown(chat: Chat) -> None:
    async with chat.make() as stand_in:
        stand_in.faults.on(chat.route(True), ended_early())
        with pytest.raises(OutcomeUnknownError):
            await chat.ask(stand_in, streamed=True)
        assert stand_in.submits == 1


@every_chat
@both_ways
@pytest.mark.parametrize("fault", [hang_before_headers(), hang_mid_body(), dripping()], ids=str)
async def test_a_deadline_is_that_of_the_whole_answer(chat: Chat, streamed: bool, fault: Fault) -> None:
    async with chat.make() as stand_in:
        stand_in.faults.on(chat.route(streamed), fault)
        log: list[ServiceRequest] = []
        with pytest.raises(OutcomeUnknownError, match=r"no answer in time"):
            await chat.ask(stand_in, chat.request(seconds=SHORT), streamed=streamed, log=log)
        await stand_in.until(lambda: stand_in.hanging == 0)
        assert stand_in.submits == 1
        assert log[0].error == "There was no answer in time."
        assert log[0].ms >= SHORT * 1000


@every_chat
@both_ways
async def test_nothing_has_left_where_nobody_listens(chat: Chat, streamed: bool) -> None:
    with listening() as closed:
        port = closed.getsockname()[1]
    async with chat.make() as stand_in:
        known = chat.settings(stand_in)
    there = {name: value.replace(stand_in.url(), f"http://127.0.0.1:{port}") for name, value in known.items()}
    log: list[ServiceRequest] = []
    with pytest.raises(NotDeliveredError, match="No connection could be made"):
        await chat_vendors()[chat.name].ask(Settings(**there), chat.request(), [].append if streamed else None, log)
    assert [(line.status, line.error is None) for line in log] == [(None, False)]


@every_chat
@both_ways
async def test_a_wrong_content_type_does_no_harm(chat: Chat, streamed: bool) -> None:
    async with chat.make() as stand_in:
        stand_in.faults.on(chat.route(streamed), wrong_type())
        assert (await chat.ask(stand_in, streamed=streamed)).text == "You asked: Which colour?"


@pytest.mark.parametrize("chat", [chat for chat in CHATS if chat.name != "gemini"], ids=str)
async def test_an_answer_that_is_far_too_large_is_not_read_to_its_end(chat: Chat) -> None:
    async with chat.make() as stand_in:
        stand_in.faults.on(chat.route(False), dripping(b" " * 2**20))
        with pytest.raises(OutcomeUnknownError, match="larger than"):
            await chat.ask(stand_in)


@every_paid_chat
@both_ways
async def test_no_key_is_told_in_an_error_or_a_log(
    chat: Chat, streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with chat.make() as stand_in:
        log: list[ServiceRequest] = []
        stand_in.faults.on(
            chat.route(streamed),
            refused(Trouble.UNAUTHORIZED, f"The key {stand_in.key} is wrong."),
            reset_after_body(),
        )
        with pytest.raises(ProviderFailed, match="is wrong") as wrong:
            await chat.ask(stand_in, streamed=streamed, log=log)
        with pytest.raises(OutcomeUnknownError) as lost:
            await chat.ask(stand_in, streamed=streamed, log=log)
        await chat.ask(stand_in, streamed=streamed, log=log)
        told = [str(wrong.value), repr(wrong.value.context), str(lost.value), repr(log), caplog.text]
        assert not any(stand_in.key in one for one in told)


@every_chat
async def test_a_question_that_is_given_up_is_not_held_open(chat: Chat) -> None:
    async with chat.make() as stand_in:
        stand_in.faults.on(chat.route(True), hang_mid_body())
        log: list[ServiceRequest] = []
        asking = asyncio.create_task(chat.ask(stand_in, streamed=True, log=log))
        await stand_in.until(lambda: stand_in.hanging == 1)
        asking.cancel()
        await asyncio.wait([asking])
        await stand_in.until(lambda: stand_in.hanging == 0)
        assert asking.cancelled()
        assert len(log) == 1

"""Odd values in the answers of vendors with a queue: none is a crash, and none pays twice."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compute.errors import ProviderFailed
from compute.providers.calls.call import CallState
from tests.providers.queued.bench import QUEUED, Queued, bench, every_vendor
from tests.providers.standins.exchange import Reply
from tests.providers.standins.server import Call, Fault

FAL, FASHN, _ = QUEUED
IDS = {"fal": ("request_id",), "fashn": ("id",), "magnific": ("data", "task_id")}
FILES = {"fal": ("images", 0, "url"), "fashn": ("output", 0), "magnific": ("data", "generated", 0)}


def with_body(change: Callable[[bytes], bytes]) -> Fault:
    """The vendor does its work, and its answer is changed."""

    async def play(call: Call) -> Reply:
        reply = await call.answer()
        assert isinstance(reply.body, bytes)
        return replace(reply, body=change(reply.body))

    return Fault("odd answer", play)


def having(place: tuple[Any, ...], value: Any) -> Fault:
    def change(body: bytes) -> bytes:
        said = json.loads(body)
        inner = said
        try:
            for name in place[:-1]:
                inner = inner[name]
            inner[place[-1]]
        except (KeyError, IndexError, TypeError):
            return body  # A state in which the vendor does not say it yet.
        inner[place[-1]] = value
        return json.dumps(said).encode()

    return with_body(change)


@every_vendor
@pytest.mark.parametrize("odd", ["a\x00b", "\ud800", "a\nb", "x" * 300, "..", 7, None, ["a"], {}])
async def test_an_id_that_nobody_can_ask_by_is_told_and_not_paid_again(
    queued: Queued, odd: Any, tmp_path: Path
) -> None:
    async with bench(queued, tmp_path) as one:
        one.stand_in.faults.on(queued.routes["submit"], having(IDS[queued.name], odd))
        assert await one.run_to_the_end(most=2) is None
        assert (one.state, one.stand_in.submits) == (CallState.UNCERTAIN, 1)
        one.told().encode()


@every_vendor
async def test_an_odd_id_that_can_be_asked_by_is(queued: Queued, tmp_path: Path) -> None:
    async with bench(queued, tmp_path) as one:
        one.stand_in.ids.append("ein ü;b=c&d")
        assert (await one.run()).artifacts
        assert [row.vendor_id for row in one.desk.ledger.rows()] == ["ein ü;b=c&d"]


@every_vendor
@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"status":' * 5000, b'{"a": 1' + b"0" * 5000 + b"}"])
async def test_an_answer_nested_without_end_cannot_be_read(queued: Queued, body: bytes, tmp_path: Path) -> None:
    async with bench(queued, tmp_path) as one:
        one.stand_in.faults.on(queued.routes["status"], with_body(lambda _: body))
        assert (await one.run()).artifacts
        assert one.stand_in.submits == 1
    async with bench(queued, tmp_path) as one:
        one.stand_in.faults.on(queued.routes["submit"], with_body(lambda _: body))
        assert await one.run_to_the_end(most=1) is None
        assert (one.state, one.stand_in.submits) == (CallState.UNCERTAIN, 1)


@every_vendor
@pytest.mark.parametrize(
    "address", ["http://127.0.0.1/\ud800", "http://127.0.0.1:99999/x", "http://[::1", "\x00", "data:image/png;base64,ü"]
)
async def test_an_address_that_is_none_is_a_failure_of_the_vendor(queued: Queued, address: str, tmp_path: Path) -> None:
    async with bench(queued, tmp_path, wait=0.5, fetch=0.5) as one:
        route = queued.routes.get("result", queued.routes["status"])
        one.stand_in.faults.always(route, having(FILES[queued.name], address))
        with pytest.raises(ProviderFailed):
            await one.run()
        assert one.stand_in.submits == 1
        one.told().encode()


@pytest.mark.parametrize("odd", [10**400, -1, "wide", None, [1], True])
async def test_odd_sides_of_a_picture_are_not_counted(odd: Any, tmp_path: Path) -> None:
    async with bench(FAL, tmp_path) as one:
        one.stand_in.faults.on("result", having(("images", 0, "width"), odd))
        assert (await one.run()).artifacts
        [units] = [row.units for row in one.desk.ledger.rows()]
        assert all(math.isfinite(count) and 0 <= count <= 1 for count in units.values()), units


@pytest.mark.parametrize("odd", ["²", "nan", "-1", "1e999", "many", "", "1" * 500])
async def test_odd_credits_are_not_counted(odd: str, tmp_path: Path) -> None:
    async def play(call: Call) -> Reply:
        return (await call.answer()).having(x_fashn_credits_used=odd)

    async with bench(FASHN, tmp_path) as one:
        one.stand_in.faults.always("status", Fault("odd credits", play))
        assert (await one.run()).artifacts
        [units] = [row.units for row in one.desk.ledger.rows()]
        assert (units["images"], "credits" in units) == (1.0, False)

"""A fault in our own reading of an answer: the call is paid, so it is uncertain, and is not sent again."""

from pathlib import Path
from typing import Any

import pytest

from compute.errors import CallUncertain
from compute.providers.calls.account import Account
from compute.providers.calls.call import CallState
from compute.providers.calls.http import HttpResponse
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import Accepted, Answer
from compute.providers.vendors.fal.queue import FalQueue
from tests.providers.harness import open_desk
from tests.providers.standins.fal import Fal

FAULTS = [KeyError("id"), TypeError("a list"), RecursionError(), MemoryError()]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
async def test_an_answer_that_trips_a_reader_is_uncertain(fault: Exception, tmp_path: Path) -> None:
    sent = []

    async def send(log: list[ServiceRequest]) -> Answer:
        sent.append(1)
        raise fault

    async with open_desk(tmp_path) as desk:
        owner = desk.owner()
        for _ in range(2):
            with pytest.raises(CallUncertain):
                await desk.calls(owner).direct("text", Account("vendor", "key"), "https://vendor/ask", send)
        assert len(sent) == 1
        assert [call.state for call in desk.ledger.of("text")] == [CallState.UNCERTAIN]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
async def test_an_acceptance_that_trips_a_reader_is_uncertain(fault: Exception, tmp_path: Path) -> None:
    class Tripping(FalQueue):
        def accepted(self, response: HttpResponse) -> Accepted:
            raise fault

    async with Fal() as fal, open_desk(tmp_path, fal_key=fal.key, fal_queue_url=fal.url("queue")) as desk:
        owner = desk.owner()
        protocol = Tripping(Account("fal", fal.key), fal.url("queue"), "fal-ai/flux/dev")
        body: dict[str, Any] = {"prompt": "a dress"}
        for _ in range(2):
            with pytest.raises(CallUncertain):
                await desk.calls(owner).queued("image", protocol, body)
        assert fal.submits == 1
        assert [call.state for call in desk.ledger.of("image")] == [CallState.UNCERTAIN]

"""Memory reserved for a picture until nothing of it is left, also when nobody waits for it any more."""

import asyncio
import threading

import numpy as np
import pytest

from compute.errors import InvalidInput, Overloaded
from compute.media.decoding import Decoding
from compute.media.images import decode_cost, opening_cost
from tests.patience import PATIENCE
from tests.unit.media.stated import as_file

PICTURE = as_file(np.zeros((64, 64, 3), np.uint8), "PNG")


class Slow:
    """A decoder that ends when it is told to."""

    def __init__(self) -> None:
        self.began, self.go_on, self.ended = threading.Event(), threading.Event(), False

    def __call__(self) -> bool:
        self.began.set()
        self.go_on.wait(PATIENCE)
        self.ended = True
        return True


def decoding(memory: int) -> Decoding:
    return Decoding(memory, max_pixels=10**6, busy="full", waiting=0, seconds=PATIENCE)


@pytest.mark.parametrize("cancels", [1, 3])
async def test_a_cancelled_decode_keeps_its_memory_until_its_thread_has_ended(cancels: int) -> None:
    pictures, slow = decoding(decode_cost(PICTURE, max_pixels=10**6, field="image")), Slow()
    running = asyncio.create_task(pictures.run(slow, PICTURE, field="image"))
    assert await asyncio.to_thread(slow.began.wait, PATIENCE)
    for _ in range(cancels):
        running.cancel()
        await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="full"):
        await pictures.run(Slow(), PICTURE, field="image")
    assert not slow.ended
    slow.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert slow.ended
    again = Slow()
    again.go_on.set()
    assert await pictures.run(again, PICTURE, field="image")


async def test_a_file_counts_before_anybody_knows_what_it_is() -> None:
    data, slow = PICTURE + bytes(2**20), Slow()
    pictures = decoding(decode_cost(data, max_pixels=10**6, field="image") + opening_cost(data) - 1)
    running = asyncio.create_task(pictures.run(slow, data, field="image"))
    assert await asyncio.to_thread(slow.began.wait, PATIENCE)
    with pytest.raises(Overloaded):
        await pictures.run(Slow(), bytes(len(data)), field="image")
    slow.go_on.set()
    assert await running
    with pytest.raises(InvalidInput):
        await pictures.run(Slow(), bytes(len(data)), field="image")

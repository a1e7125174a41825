"""The vendors' own clients in their default settings, and ours, with the same fault at every paid request.

Their packages `fal-client` and `fashn` are in the extra `bench`; what is missing is said and left out.
"""

import asyncio
import importlib
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import print_table, say
from tests.providers.seeded.chances import Chance, Comes, Mishap
from tests.providers.seeded.lanes import MOST_RUNS, open_lane
from tests.providers.seeded.subjects import SUBJECTS, Subject
from tests.providers.standins.anthropic import Anthropic
from tests.providers.standins.exchange import Trouble
from tests.providers.standins.fal import Fal
from tests.providers.standins.fashn import Fashn
from tests.providers.standins.faults import (
    from_nginx,
    hang_before_headers,
    html,
    rate_limited,
    refused,
    reset_after_body,
    reset_mid_body,
)
from tests.providers.standins.images import data_uri, draw, fingerprint
from tests.providers.standins.openai import OpenAI
from tests.providers.standins.server import Fault, StandIn

__all__ = ["compare"]

_SECONDS = 1.0
"""The clients' time-out, so that a request that hangs does not take their ten minutes."""
_FAULTS: Mapping[str, tuple[Fault, bool]] = {
    "connection lost after the request was read": (reset_after_body(), True),
    "connection lost in the answer": (reset_mid_body(), True),
    "no answer in time": (hang_before_headers(), True),
    "a page of HTML with 200": (html(), True),
    "502 of a proxy": (from_nginx(502), True),
    "500 in the vendor's words": (refused(Trouble.SERVER), False),
    "429 in the vendor's words": (rate_limited(1), False),
}
"""Faults, and whether they leave in doubt if the request was done, and is paid."""


@dataclass(frozen=True)
class Client:
    """One vendor's client, and a provider of ours for the same vendor."""

    name: str
    package: str
    make: Callable[[], StandIn]
    route: str
    call: Callable[[Any], Awaitable[object]]
    subject: str


async def _fal(fal: Fal) -> object:
    client: Any = importlib.import_module("fal_client.client")
    # Its addresses are https and cannot be set.
    client.QUEUE_URL_FORMAT = fal.url("queue") + "/"
    asked = client.AsyncClient(key=fal.key, default_timeout=_SECONDS)
    return await asked.submit("fal-ai/flux/dev", arguments={"prompt": "a red coat"})


async def _fashn(fashn: Fashn) -> object:
    picture = data_uri(draw(fingerprint("a picture"), (96, 96)))
    client = importlib.import_module("fashn").AsyncFashn(api_key=fashn.key, base_url=fashn.url(), timeout=_SECONDS)
    return await client.predictions.run(model_name="edit", inputs={"image": picture, "prompt": "a red coat"})


async def _openai(openai: OpenAI) -> object:
    package = importlib.import_module("openai")
    client = package.AsyncOpenAI(api_key=openai.key, base_url=openai.url() + "/v1", timeout=_SECONDS)
    asked = [{"role": "user", "content": "Which colour?"}]
    return await client.chat.completions.create(model="gpt-6.2-mini", messages=asked)


async def _anthropic(anthropic: Anthropic) -> object:
    package = importlib.import_module("anthropic")
    client = package.AsyncAnthropic(api_key=anthropic.key, base_url=anthropic.url(), timeout=_SECONDS)
    asked = [{"role": "user", "content": "Which colour?"}]
    return await client.messages.create(model="claude-test", max_tokens=99, messages=asked)


_CLIENTS = (
    Client("fal-client", "fal_client", Fal, "submit", _fal, "FAL_STANDARD GENERATION at fal"),
    Client("fashn", "fashn", Fashn, "run", _fashn, "FASHN_STANDARD EDITING at fashn"),
    Client("openai", "openai", OpenAI, "chat", _openai, "AI_CORE LLM_INTERACTION at openai's chat"),
    Client("anthropic", "anthropic", Anthropic, "messages", _anthropic, "AI_CORE LLM_INTERACTION at anthropic's chat"),
)


async def compare(*, quick: bool) -> None:
    """Play each fault at every paid request of one call, and print how many requests the vendor got."""
    # What becomes of calls is in the table.
    logging.getLogger("compute").addHandler(logging.NullHandler())
    present = [client for client in _CLIENTS if _is_installed(client)]
    faults = dict(list(_FAULTS.items())[3:5]) if quick else _FAULTS
    say("\nThe vendors' own clients; fal-client takes more than a minute to give up")
    cells = [(client, name) for client in present for name in faults]
    began = time.perf_counter()
    theirs = dict(zip(cells, await asyncio.gather(*(_theirs(one, name) for one, name in cells)), strict=True))
    ours = {cell: await _ours(*cell) for cell in cells}
    rows = []
    for client, name in sorted(cells, key=lambda cell: list(faults).index(cell[1])):
        posts, own = theirs[client, name], ours[client, name]
        again = [one - 1 if _FAULTS[name][1] else 0 for one in (posts, own)]
        rows.append((f"{name}: {client.name}", *map(str, (posts, own, *again))))
    print_table(
        f"Paid requests for one call that meets the same fault every time ({time.perf_counter() - began:.0f} s)",
        ("", "its requests", f"ours, of {MOST_RUNS} runs", "its in doubt, sent again", "ours"),
        rows,
    )
    say(
        f"\nOurs are all requests of a task that is tried {MOST_RUNS} times. A request is sent again in doubt if the "
        "one before may have been done, and paid."
    )


def _is_installed(client: Client) -> bool:
    try:
        importlib.import_module(client.package)
    except ImportError as error:
        say(f"{client.name} is left out: {error}. Install it with: pip install -c constraints.txt -e '.[bench]'")
        return False
    return True


async def _theirs(client: Client, name: str) -> int:
    """Requests that the vendor got for one call of its own client."""
    fault, _ = _FAULTS[name]
    async with client.make() as stand_in:
        stand_in.faults.always(client.route, fault)
        with suppress(Exception):
            await client.call(stand_in)
        return len(stand_in.arrived(client.route))


async def _ours(client: Client, name: str) -> int:
    """Requests that the vendor got for a task of ours, of all its runs."""
    fault, in_doubt = _FAULTS[name]
    mishap = Mishap("submit", fault.name, Comes.DOUBT if in_doubt else Comes.REFUSAL, None, fault, lasting=True)
    chance = Chance(0, _subject(client.subject), [(mishap, 0)], None)
    with tempfile.TemporaryDirectory(prefix="compute-bench-") as folder:
        async with open_lane(Path(folder)) as lane:
            return len((await lane.run(chance)).stand_in.arrived(client.route))


def _subject(name: str) -> Subject:
    return next(one for one in SUBJECTS if str(one) == name)

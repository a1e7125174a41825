"""Submits and streams through a proxy that resets connections, by this client and by others, in the same run.

    python -m benchmarks.client [--quick]

Ours speaks to the real API before a real Postgres. The others speak to a stand-in of their vendor on loopback, through
the same proxy, with the retries that they are shipped with; it counts what they make. They make a connection for each
submit, so each connection is cut in its first request.
"""

import argparse
import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from benchmarks.client.cutting import CuttingProxy, streams_cut, submits_cut
from benchmarks.client.peers import PEERS, PeerCount, count_peer
from benchmarks.client.scenarios import StreamCount, SubmitCount, count_streams, count_submits
from compute.db.embedded.server import start
from compute.db.migrations.upgrade import upgrade
from compute.db.session import Database
from compute.settings import Settings
from tests.integration.api.conftest import KEY, serving_api

SEED = 4711


@asynccontextmanager
async def api() -> AsyncIterator[tuple[str, Database]]:
    """The API on a socket, before a Postgres of its own."""
    with tempfile.TemporaryDirectory(prefix="compute-bench-") as home:
        server = start(Path(home))
        try:
            upgrade(server.url)
            settings = Settings(api_key=KEY, database_url=server.url, home=Path(home), media_allowed_hosts="127.0.0.1")
            database = Database(server.url)
            async with serving_api(settings) as url:
                yield url, database
            await database.close()
        finally:
            server.stop()


def before(url: str, plans: object) -> CuttingProxy:
    """A proxy before a server."""
    address = httpx.URL(url)
    assert address.port is not None
    return CuttingProxy((address.host, address.port), iter(plans))  # type: ignore[call-overload]


async def ours(resets: int, streams: int, cuts: int) -> tuple[SubmitCount, StreamCount]:
    """What this client makes, loses and repeats."""
    async with api() as (url, database):
        async with before(url, submits_cut(SEED, resets)).listening() as proxy:
            submits = await count_submits(proxy, KEY, database, resets, at_once=8)
        async with before(url, streams_cut(SEED, cuts + streams)).listening() as proxy:
            followed = await count_streams(proxy, url, KEY, database, streams=streams, cuts=cuts, pace=0.05)
    return submits, followed


def show(submits: SubmitCount, streams: StreamCount, peers: list[PeerCount]) -> None:
    """Print two tables."""
    print("| client | submits | resets | made | of them again | told of |")
    print("|--|--|--|--|--|--|")
    own = PeerCount("compute.client", submits.asked, submits.told, submits.stored, submits.told, submits.cuts.total())
    for peer in (own, *peers):
        print(f"| {peer.name} | {peer.asked} | {peer.cuts} | {peer.made} | {peer.made - peer.distinct} | {peer.told} |")
    print()
    print("| client | cut streams | moves | lost | repeated | progress backwards | texts garbled |")
    print("|--|--|--|--|--|--|--|")
    found = streams
    print(
        f"| compute.client | {found.cuts} | {found.logged} | {found.lost} | {found.repeated} | {found.backwards} "
        f"| {found.garbled} |"
    )
    for peer in peers:
        if peer.streams:
            print(f"| {peer.name} | {peer.streams} | {peer.events} | {peer.lost} | {peer.repeated} | - | - |")


async def main(arguments: argparse.Namespace) -> None:
    """Run all of them in turn."""
    resets, streams, cuts = (80, 10, 40) if arguments.quick else (1000, 50, 1000)
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    submits, followed = await ours(resets, streams, cuts)
    print(submits, followed, sep="\n", flush=True)
    peers = [await count_peer(peer, submits_cut(SEED, resets, turns=1), resets, cuts) for peer in PEERS]
    show(submits, followed, [peer for peer in peers if peer is not None])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few of everything, to check that it runs")
    asyncio.run(main(parser.parse_args()))

"""One stand-in as a process of its own: its addresses on the first line, its count of submits on a line for each."""

import asyncio
import json
import sys
from dataclasses import replace

from tests.providers.standins.jobs import JobStandIn
from tests.providers.standins.server import StandIn
from tests.providers.vendors import VENDORS

__all__ = ["main"]


async def main(name: str, seconds: float) -> None:
    """Serve until standard input ends. Each job takes `seconds`."""
    stand_in: StandIn = next(vendor for vendor in VENDORS if vendor.name == name).make()
    if isinstance(stand_in, JobStandIn):
        stand_in.plan = replace(stand_in.plan, seconds=seconds)
    else:
        stand_in.seconds = seconds
    async with stand_in:
        print(json.dumps({host: stand_in.url(host) for host in stand_in.hosts} | {"key": stand_in.key}), flush=True)  # noqa: T201
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while await reader.readline():
            print(json.dumps({"submits": stand_in.submits}), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))

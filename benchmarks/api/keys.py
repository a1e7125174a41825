"""Cost of keys and limits for a POST: `python -m benchmarks.api.keys`.

One server under plain uvicorn accepts tasks with, in turns,
  API_KEY    the key of the settings: known without asking anybody
  free       a key from the database, bound to no tenant and without limits
  tenant     the same, bound to a tenant
  rate       a tenant's key that may send a million requests a minute
  quotas     a tenant's key with limits of open tasks and of tasks a day, for itself and for its tenant, never reached
Each is the same request otherwise. Limits are out of reach, so that what is measured is counting.
"""

import argparse
import asyncio
from functools import partial
from urllib.parse import urlsplit

import psutil

from benchmarks.api.bare_api import api_server
from benchmarks.api.load import Request, client
from benchmarks.api.submit import BODY
from benchmarks.harness import Server, arguments, interleave, postgres, print_table, ratio, spread
from benchmarks.stack import KEY, TASKS
from compute.api.access import keys
from compute.db.session import Database
from compute.db.tables import Tenant
from compute.schemas.admin.keys import ApiKeyCreate, KeyScope, Limits

RATE = Limits(requests_per_minute=1_000_000)
QUOTAS = Limits(concurrent_tasks=10_000, tasks_per_day=100_000_000)
ARMS: dict[str, tuple[str | None, Limits]] = {
    "free": (None, Limits()),
    "tenant": ("plain", Limits()),
    "rate": ("plain", RATE),
    "quotas": ("limited", QUOTAS),
}


def main() -> None:
    parser = arguments(__doc__, rounds=7)
    parser.add_argument("--requests", type=int, default=600, help="per arm and round (600)")
    parser.add_argument("--connections", type=int, default=32, help="keep-alive connections (32)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.requests = 1, 100
    with postgres() as server:
        run(server, options)


def run(server: Server, options: argparse.Namespace) -> None:
    database_url = server.database("keys")
    given = {"API_KEY": KEY} | asyncio.run(_give(database_url))
    with api_server(database_url, server.home / "api") as url, client() as sender:
        ingress = _listening_at(url)

        def send(key: str) -> tuple[float, float]:
            """Requests per second, and milliseconds of the ingress's processor for one."""
            before = sum(ingress.cpu_times()[:2])
            request = Request("POST", TASKS, 201, BODY, key)
            load = sender.send(url, request, count=options.requests, connections=options.connections)
            return load.per_second, (sum(ingress.cpu_times()[:2]) - before) / options.requests * 1000

        busy = interleave({name: partial(send, key) for name, key in given.items()}, options.rounds)
    rates, costs = ({name: [one[place] for one in found] for name, found in busy.items()} for place in (0, 1))
    print_table(
        f"POSTs over {options.connections} connections; medians of {options.rounds} rounds (and range)",
        ("", "per second", "of API_KEY", "ms of the ingress's processor", "of API_KEY"),
        [
            (
                name,
                spread(rates[name]),
                ratio(rates[name], rates["API_KEY"]),
                spread(costs[name], 2),
                ratio(costs[name], costs["API_KEY"]),
            )
            for name in given
        ],
    )


def _listening_at(url: str) -> psutil.Process:
    """The child process that serves this address."""
    port = urlsplit(url).port
    for child in psutil.Process().children(recursive=True):
        if any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in child.net_connections("tcp")):
            return child
    raise RuntimeError("no child process serves the API")


async def _give(database_url: str) -> dict[str, str]:
    """A key for each arm."""
    database = Database(database_url)
    made = {}
    async with database.transaction() as session:
        session.add(Tenant(name="limited", updated_by="benchmark", **QUOTAS.model_dump()))
        for name, (tenant, limits) in ARMS.items():
            asked = ApiKeyCreate(name=name, scope=KeyScope.SUBMIT, tenant=tenant, limits=limits)
            _, made[name] = await keys.create(session, asked, "benchmark")
    await database.close()
    return made


if __name__ == "__main__":
    main()

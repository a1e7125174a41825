"""Times of a scrape of /metrics: `python -m benchmarks.monitoring.scrapes`.

A database of a million tasks of 10,000 tenants from 100,000 installations, 40 workers and the sums of 400 series is
scraped over HTTP while a hundred tasks a second are written. Each scrape comes more than a second after the last one,
so that none is answered from the last collection. Then 50 scrapes come at once. Beside them, in turns: the count of
tasks by status that a metric would otherwise need.
"""

import asyncio
import time

import httpx
import psycopg

from benchmarks.api.bare_api import api_server
from benchmarks.harness import arguments, median, postgres, print_table, say
from benchmarks.monitoring.rows import fill, fill_workers
from benchmarks.monitoring.writing import writing
from benchmarks.stack import KEY
from compute.db.session import Database
from compute.monitoring.fold import fold

_HEADERS = {"Authorization": f"Bearer {KEY}"}
_PAUSE_SECONDS = 1.05
_AT_ONCE = 50
_BARE = "SELECT status, count(*) FROM tasks GROUP BY status"
_SERIES = """
INSERT INTO metric_sums (name, labels, bounds, counts, total)
SELECT 'compute_http_request_duration_seconds', ARRAY['GET', '/route/' || n / 10, (200 + n % 10)::text],
       '{0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,10}', array_fill(n, ARRAY[11]), n FROM generate_series(1, 400) AS n
"""


def main() -> None:
    parser = arguments(__doc__, rounds=20)
    parser.add_argument("--tasks", type=int, default=1_000_000, help="in the database (1000000)")
    parser.add_argument("--per-second", type=int, default=100, help="tasks that are written meanwhile (100)")
    parser.add_argument("--instances", type=int, default=100_000, help="from which tasks come (100000)")
    parser.add_argument("--tenants", type=int, default=10_000, help="whose tasks they are (10000)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.tasks = 3, 20_000
    with postgres() as server:
        url = server.database("scrapes")
        with psycopg.connect(url, autocommit=True) as connection:
            fill(connection, options.tasks, instances=options.instances, tenants=options.tenants)
            connection.execute(_SERIES)
        asyncio.run(_prepare(url))
        with psycopg.connect(url, autocommit=True) as connection:
            # As a minute later: so many news at once come from filling alone.
            connection.execute("VACUUM ANALYZE")
        with writing(url, options.per_second, instances=options.instances), api_server(url, server.home / "api") as api:
            alone, bare, size, series = _measure(api, url, options.rounds)
            together = asyncio.run(_at_once(api))
    say(f"one scrape: {size} bytes, {series} series")
    print_table(
        f"GET /metrics, {options.tasks} tasks, {options.per_second} a second written, {options.rounds} rounds",
        ["what", "p50 ms", "p95 ms", "max ms"],
        [
            ["a scrape", *_figures(alone)],
            [f"each of {_AT_ONCE} at once", *_figures(together)],
            [_BARE, *_figures(bare)],
        ],
    )


async def _prepare(url: str) -> None:
    database = Database(url)
    await fold(database)
    await fill_workers(database, 40)
    await database.close()


def _measure(api: str, url: str, rounds: int) -> tuple[list[float], list[float], int, int]:
    """Seconds of scrapes and of the bare count; bytes and series of a scrape."""
    scrapes: list[float] = []
    counts: list[float] = []
    exposition = ""
    with httpx.Client(headers=_HEADERS, timeout=60) as client, psycopg.connect(url, autocommit=True) as connection:
        for number in range(rounds + 1):
            time.sleep(_PAUSE_SECONDS)
            began = time.perf_counter()
            exposition = client.get(f"{api}/metrics").raise_for_status().text
            # The first round finds empty caches, and is not what is asked for.
            scrapes += [time.perf_counter() - began] if number else []
            if number % 5 == 1:
                began = time.perf_counter()
                connection.execute(_BARE).fetchall()
                counts.append(time.perf_counter() - began)
    series = sum(not line.startswith("#") for line in exposition.splitlines())
    return scrapes, counts, len(exposition.encode()), series


async def _at_once(api: str) -> list[float]:
    await asyncio.sleep(_PAUSE_SECONDS)
    async with httpx.AsyncClient(headers=_HEADERS, timeout=60) as client:

        async def scrape() -> float:
            began = time.perf_counter()
            (await client.get(f"{api}/metrics")).raise_for_status()
            return time.perf_counter() - began

        return list(await asyncio.gather(*(scrape() for _ in range(_AT_ONCE))))


def _figures(seconds: list[float]) -> list[str]:
    ordered = sorted(1000 * one for one in seconds)
    last = ordered[max(0, round(0.95 * len(ordered)) - 1)]
    return [f"{median(ordered):.1f}", f"{last:.1f}", f"{ordered[-1]:.1f}"]


if __name__ == "__main__":
    main()

"""What it costs to accept a task: `python -m benchmarks.submit`.

Compared are POSTs per second through Serve (as `compute up` tunes it, and with Ray's defaults), through the same API
under plain uvicorn, and through a bare FastAPI route that stores the same row and event in one transaction. No worker
takes the tasks. All arms share the machine with the client and one Postgres, so the ratios say more than the rates.
"""

import argparse
from collections.abc import Mapping
from functools import partial
from typing import Any

import psycopg
from psycopg.rows import dict_row

from benchmarks.bare_api import api_server, bare_server
from benchmarks.harness import Server, arguments, interleave, postgres, print_table, ratio, say, spread
from benchmarks.load import Client, Load, client
from benchmarks.request_parts import report_parts
from benchmarks.stack import running_stack
from compute.db.tables import Task

BODY = {
    "task_type": "GENERATION",
    "prompt": "a lighthouse on a cliff in the evening, oil on canvas, warm light",
    "width": 1024,
    "height": 1024,
    "steps": 28,
    "seed": 7,
    "origin_instance": "benchmark",
}
BARE = "bare FastAPI route, uvicorn"
OURS = "our API, uvicorn"
MODES = {
    "tuned": ("our API, Serve as `compute up` tunes it", {}),
    "default": (
        "our API, Serve without HAProxy",
        {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"},
    ),
}
# Serve refuses a deployment of no replicas; one that asks for more cores than there are never takes a task.
NO_WORKERS = {"name": "Nobody", "queue": "inference", "num_replicas": 1, "cpus_per_replica": 1_000_000}


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--requests", type=int, default=600, help="per arm and round (600)")
    parser.add_argument("--connections", type=int, default=32, help="keep-alive connections (32)")
    parser.add_argument("--serve", nargs="*", choices=MODES, default=list(MODES), help="how Serve runs; none skips it")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.requests = 1, 200
    with postgres() as server:
        run(server, options)


def run(server: Server, options: argparse.Namespace) -> None:
    database_url = server.database("submit")
    with client() as sender, api_server(database_url, server.home / "api") as ours:
        row = _row_of(sender, database_url, ours)
        with bare_server(database_url, row) as bare:
            urls = {BARE: bare, OURS: ours}
            for mode in options.serve or [None]:
                _measure(server, database_url, sender, urls, mode, options)
        _check_rows(database_url, row)
    report_parts(database_url, server.home / "parts", BODY, row, rounds=200 if options.quick else 2000)


def _measure(
    server: Server,
    database_url: str,
    sender: Client,
    urls: Mapping[str, str],
    mode: str | None,
    options: argparse.Namespace,
) -> None:
    if mode is None:
        _compare(sender, urls, options)
        return
    name, environment = MODES[mode]
    say(f"\n{name}")
    home = server.home / mode
    with running_stack(home, database_url, [NO_WORKERS], environment=environment, ready=False) as url:
        _compare(sender, {**urls, name: url}, options)


def _compare(sender: Client, urls: Mapping[str, str], options: argparse.Namespace) -> None:
    busy = interleave(
        {name: _arm(sender, name, url, options.requests, options.connections) for name, url in urls.items()},
        options.rounds,
    )
    alone = interleave(
        {name: _arm(sender, name, url, options.requests // 10, 1) for name, url in urls.items()}, options.rounds
    )
    rates = {name: [load.per_second for load in loads] for name, loads in busy.items()}
    waits = {name: [load.milliseconds for load in loads] for name, loads in alone.items()}
    print_table(
        f"Accepting tasks, {options.connections} connections; medians of {options.rounds} rounds (and their range)",
        ("", "accepted/s", "of bare", "one connection, ms", "of bare"),
        [
            (
                name,
                spread(rates[name]),
                ratio(rates[name], rates[BARE]),
                spread(waits[name], 2),
                ratio(waits[name], waits[BARE]),
            )
            for name in urls
        ],
    )


def _arm(sender: Client, name: str, url: str, count: int, connections: int) -> "partial[Load]":
    return partial(sender.post, url, BODY | {"origin_reference": name}, count=max(count, 10), connections=connections)


def _row_of(sender: Client, database_url: str, url: str) -> dict[str, Any]:
    """What our API stores for `BODY`, but for what the database or the request fills in."""
    sender.post(url, BODY | {"origin_reference": "sample"}, count=1, connections=1)
    (sample,) = _stored(database_url, "sample", limit=1)
    return sample


def _check_rows(database_url: str, row: Mapping[str, Any]) -> None:
    """Every arm must have stored the same, or the comparison says nothing."""
    for name in (BARE, OURS):
        (stored,) = _stored(database_url, name, limit=1)
        if stored != row:
            raise RuntimeError(f"{name} stored another row")


def _stored(database_url: str, reference: str, *, limit: int) -> list[dict[str, Any]]:
    given = [
        column.key
        for column in Task.__table__.columns
        if column.server_default is None and column.key not in {"id", "status", "origin_reference"}
    ]
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        rows = connection.execute(
            "SELECT * FROM tasks WHERE origin_reference = %s ORDER BY created_at DESC LIMIT %s", (reference, limit)
        ).fetchall()
    return [{key: row[key] for key in given if row[key] is not None} for row in rows]


if __name__ == "__main__":
    main()

"""Cost of accepting a task: `python -m benchmarks.api.submit`.

Three servers run the same API concurrently: plain uvicorn, Ray Serve as `compute up` tunes it, and Ray Serve with
Ray's own defaults. Each gets, in turns,
  no-op    GET /health: through the same middleware, routing and JSON, without a body, a key or the database
  POST     one task, whose row is committed before the answer
  bulk     a hundred tasks with one POST, committed together
No worker takes the tasks. All servers share the machine with the client and one Postgres that really waits for its
disk, so the ratios say more than the rates. Afterwards every answer of 201 must be found as a row.
"""

import argparse
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

import psycopg

from benchmarks.api.bare_api import api_server
from benchmarks.api.load import Client, Load, Request, client
from benchmarks.api.request_parts import report_parts
from benchmarks.harness import Server, arguments, interleave, median, postgres, print_table, ratio, say, spread
from benchmarks.stack import TASKS, running_stack

BODY = {
    "task_type": "GENERATION",
    "prompt": "a lighthouse on a cliff in the evening, oil on canvas, warm light",
    "width": 1024,
    "height": 1024,
    "steps": 28,
    "seed": 7,
    "origin_instance": "benchmark",
}
BULK = 100
REQUESTS = {
    "no-op": Request("GET", "/health", 200),
    "POST": Request("POST", TASKS, 201, BODY),
    "bulk": Request("POST", f"{TASKS}bulk", 201, {"tasks": [BODY] * BULK}),
}
UVICORN = "uvicorn"
TUNED = "Serve, tuned"
DEFAULT = "Serve, default"
# Ray's own defaults instead of the settings of `compute up`.
RAYS_OWN = {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"}
MODES = {"tuned": (TUNED, {}), "default": (DEFAULT, RAYS_OWN)}
# Serve refuses a deployment without replicas; one that needs more cores than there are never takes a task.
NO_WORKERS = {"name": "NoWorkers", "queue": "inference", "num_replicas": 1, "cpus_per_replica": 1_000_000}

Results = dict[str, list[Load]]


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--requests", type=int, default=1000, help="per arm and round (1000)")
    parser.add_argument("--connections", type=int, default=32, help="keep-alive connections (32)")
    parser.add_argument(
        "--serve", nargs="*", choices=MODES, default=list(MODES), help="configurations of Serve; none skips it"
    )
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.requests = 1, 200
    with postgres() as server:
        run(server, options)


def run(server: Server, options: argparse.Namespace) -> None:
    database_url = server.database("submit")
    with ExitStack() as stack:
        sender = stack.enter_context(client())
        urls = {UVICORN: stack.enter_context(api_server(database_url, server.home / "api"))}
        for mode in options.serve:
            name, environment = MODES[mode]
            say(f"\n{name}")
            home = server.home / mode
            urls[name] = stack.enter_context(
                running_stack(home, database_url, [NO_WORKERS], environment=environment, ready=False)
            )
        _compare(sender, urls, options)
        _check_rows(database_url, options, len(urls))
    report_parts(database_url, server.home / "parts", BODY, rounds=200 if options.quick else 2000)


def _compare(sender: Client, urls: Mapping[str, str], options: argparse.Namespace) -> None:
    busy = interleave(
        {
            f"{name} {kind}": partial(
                sender.send, url, request, count=_count(kind, options), connections=_connections(kind, options)
            )
            for name, url in urls.items()
            for kind, request in REQUESTS.items()
        },
        options.rounds,
    )
    _print_rates(busy, list(urls), options)
    _print_times(busy, list(urls))


def _count(kind: str, options: argparse.Namespace) -> int:
    return max(options.requests // 20, 20) if kind == "bulk" else options.requests


def _connections(kind: str, options: argparse.Namespace) -> int:
    return 4 if kind == "bulk" else options.connections


def _print_rates(busy: Results, names: list[str], options: argparse.Namespace) -> None:
    rates = {arm: [load.per_second for load in loads] for arm, loads in busy.items()}
    tasks = {name: [rate * BULK for rate in rates[f"{name} bulk"]] for name in names}
    print_table(
        f"Per second, {options.connections} connections (bulk: 4); medians of {options.rounds} rounds (and range)",
        ("", "no-op", "POST", "of no-op", f"of {names[-1]}", f"tasks in bulks of {BULK}"),
        [
            (
                name,
                spread(rates[f"{name} no-op"]),
                spread(rates[f"{name} POST"]),
                ratio(rates[f"{name} POST"], rates[f"{name} no-op"]),
                ratio(rates[f"{name} POST"], rates[f"{names[-1]} POST"]),
                spread(tasks[name]),
            )
            for name in names
        ],
    )


def _print_times(busy: Results, names: list[str]) -> None:
    print_table(
        "Time of one request under this load in ms, median / 99th percentile; medians of the rounds",
        ("", *REQUESTS),
        [(name, *(_times(busy[f"{name} {kind}"]) for kind in REQUESTS)) for name in names],
    )


def _times(loads: list[Load]) -> str:
    return f"{median([load.median for load in loads]):.1f} / {median([load.percentile99 for load in loads]):.1f}"


def _check_rows(database_url: str, options: argparse.Namespace, servers: int) -> None:
    """Check that every answer has a row and every row an answer; otherwise the figures are invalid."""
    rounds = options.rounds * servers
    answers = rounds * (_count("POST", options) + _connections("POST", options))
    answers += rounds * (_count("bulk", options) + _connections("bulk", options)) * BULK
    with psycopg.connect(database_url) as connection:
        (stored,) = connection.execute("SELECT count(*) FROM tasks").fetchone() or (0,)
    if stored != answers:
        raise RuntimeError(f"{answers} tasks were accepted and {stored} are stored")
    say(f"\nAll of the {answers} accepted tasks are stored.")


if __name__ == "__main__":
    main()

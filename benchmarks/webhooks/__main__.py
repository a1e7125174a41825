"""Speed of webhooks, and the effect of dead receivers on living ones: `python -m benchmarks.webhooks`.

First, deliveries per second to one receiver that answers after 10 ms, against the bare client with as many requests at
once to the same receiver, and the processor time of each side. Then, with and without a backlog of deliveries
to dead receivers: the cost of one search for receivers and of one claim, and the time of single deliveries to a living
receiver, from row to delivery. A sender searches once a second.
"""

import logging
from collections.abc import Sequence
from functools import partial

import psycopg

from benchmarks.harness import Server, arguments, interleave, median, postgres, print_table, ratio, say, spread
from benchmarks.webhooks.bed import DEAD, Drained, drain_bare, drain_with_sender, fill_dead, live, look_and_claim
from benchmarks.webhooks.receiver import receiver

AT_ONCE = 32


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--deliveries", type=int, default=3000, help="per arm and round (3000)")
    parser.add_argument("--delay", type=float, default=0.01, help="seconds that the receiver takes (0.01)")
    parser.add_argument("--only", choices=("drains", "backlogs"), help="one of the two tables")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="due to dead receivers (1000000)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.deliveries, options.backlog = 1, 300, 20_000
    # One line for each delivery that fails.
    logging.getLogger("compute.webhooks.sender").setLevel(logging.CRITICAL)
    with postgres() as server:
        if options.only != "backlogs":
            run_drains(server, options.deliveries, options.delay, options.rounds)
        if options.only != "drains":
            run_backlogs(server, options.backlog, options.delay, 20 if options.quick else 100)


def run_drains(server: Server, deliveries: int, delay: float, rounds: int) -> None:
    """Send `deliveries` by the sender and by the bare client, in turns; print the table."""
    database_url = server.database("drains")
    with receiver(delay) as (url, process):
        given = {"deliveries": deliveries, "at_once": AT_ONCE}
        arms = {
            "the sender": partial(drain_with_sender, url, process, database_url, server.home, **given),
            "the bare client": partial(drain_bare, url, process, **given),
        }
        results = interleave(arms, rounds)
    bare = [drained.per_second for drained in results["the bare client"]]
    rows = [
        (
            name,
            spread([one.per_second for one in drained]),
            ratio([one.per_second for one in drained], bare),
            *_costs(drained),
        )
        for name, drained in results.items()
    ]
    print_table(
        f"{deliveries:,} deliveries to a receiver of {delay * 1000:.0f} ms, {AT_ONCE} at once; {rounds} rounds",
        ("", "per s", "ratio", "µs of sender", "of receiver", "of Postgres"),
        rows,
    )


def _costs(rounds: Sequence[Drained]) -> list[str]:
    costs = [(one.cost.sender, one.cost.receiver, one.cost.postgres) for one in rounds]
    return [
        f"{median([cost[place] / one.deliveries for cost, one in zip(costs, rounds, strict=True)]) * 1e6:.0f}"
        for place in range(3)
    ]


def run_backlogs(server: Server, backlog: int, delay: float, claims: int) -> None:
    """Search, claim and send with `backlog` deliveries due to dead receivers, and without; print the table."""
    database_url = server.database("backlog")
    rows = []
    with receiver(delay) as (url, _), psycopg.connect(database_url, autocommit=True) as connection:
        for count in (0, backlog):
            if count:
                fill_dead(connection, count)
                say(f"  {count:,} deliveries are due to {DEAD} dead receivers")
            looks, takes = look_and_claim(url, database_url, claims=claims)
            lived = live(url, database_url, deliveries=claims)
            waits = sorted(lived)
            rows.append(
                (
                    f"{count:,}",
                    spread(looks, 1),
                    spread(takes, 1),
                    f"{median(waits):.0f}",
                    f"{waits[int(len(waits) * 0.99) - 1]:.0f}",
                )
            )
    print_table(
        f"With so many due to the dead: medians of {claims} in ms (and their range)",
        ("", "a search", "a claim of 32", "row → delivered, p50", "p99"),
        rows,
    )


if __name__ == "__main__":
    main()

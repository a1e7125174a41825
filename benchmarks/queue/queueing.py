"""Speed of the queue: `python -m benchmarks.queue.queueing`.

First, no-op tasks per second: claimed and settled in batches by our store, through the real Dispatcher with an
in-process pool of several sizes, and against bare loops that claim and complete a row in two statements. Then the
time on an idle system from a task's acceptance to its start. Then the cost of one claim with few and with a million
finished rows, and with one, a hundred or a thousand waiting tenants.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from benchmarks.harness import Server, arguments, interleave, median, postgres, print_table, ratio, say, spread
from benchmarks.queue.claim_cost import report_claims
from benchmarks.queue.drain import Drain, drain_bare, drain_in_batches, drain_with_dispatcher
from benchmarks.queue.latency import enqueue_to_start

BATCHES = ((100, 1), (500, 1), (1000, 1), (1000, 2))
"""Rows in a batch, and the number of claimers."""


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--tasks", type=int, default=500, help="per hand-sized arm and round, at least (500)")
    parser.add_argument("--batched", type=int, default=20_000, help="per batched arm and round (20000)")
    parser.add_argument(
        "--hands",
        type=int,
        nargs="+",
        default=[1, 4, 16, 64],
        help="pool sizes (1 4 16 64); 128 at most share the server",
    )
    parser.add_argument("--finished", type=int, default=1_000_000, help="rows of the large table (1000000)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.tasks, options.hands, options.finished = 1, 100, [1, 16], 20_000
        options.batched = 2_000
    with postgres() as server:
        run_batches(server, tasks=options.batched, rounds=options.rounds)
        run_drains(server, options.hands, tasks=options.tasks, rounds=options.rounds)
        run_latency(server, tasks=20 if options.quick else 100)
        say("")
        report_claims(
            server,
            finished=(10_000, options.finished),
            waiting=10_000,
            rounds=options.rounds,
            claims=3 if options.quick else 15,
        )


def run_batches(server: Server, *, tasks: int, rounds: int) -> None:
    """Drain a queue of `tasks` by batches of several sizes, in turns, against bare SQL; print the table."""
    url = server.database("batches")
    arms = {
        _batched(size, claimers): partial(drain_in_batches, url, tasks=tasks, batch=size, claimers=claimers)
        for size, claimers in BATCHES
    }
    bare = _bare(16)
    results = interleave(arms | {bare: partial(drain_bare, url, tasks=max(tasks // 20, 100), hands=16)}, rounds)
    rates = {name: [drain.per_second for drain in drains] for name, drains in results.items()}
    print_table(
        f"Claiming and settling {tasks} tasks with fences, leases, turns and events;"
        f" medians of {rounds} rounds (and their range)",
        ("", "tasks/s", "of bare"),
        [(name, spread(values), ratio(values, rates[bare])) for name, values in rates.items()],
    )


def run_latency(server: Server, *, tasks: int) -> None:
    """Print the time that a task waits on an idle system."""
    waits = sorted(enqueue_to_start(server.database("latency"), tasks=tasks))
    say(
        f"\nFrom accepted to started on an idle system, {tasks} tasks one by one, in ms:"
        f" p50 {median(waits):.1f}, p99 {waits[int(len(waits) * 0.99) - 1]:.1f}, best {waits[0]:.1f}"
    )


def run_drains(server: Server, hands: Sequence[int], *, tasks: int, rounds: int) -> None:
    """Drain a queue through pools of every size, in turns with bare SQL, and print the table."""
    url = server.database("drain")
    # Long enough to measure where hundreds take a moment.
    counts = {n: max(tasks, 25 * n) for n in hands}
    dispatched = {_dispatched(n): partial(drain_with_dispatcher, url, tasks=counts[n], hands=n) for n in hands}
    bare = {_bare(n): partial(drain_bare, url, tasks=tasks, hands=n) for n in hands}
    results = interleave(dispatched | bare, rounds)
    rows = [row for n in hands for row in (_dispatcher_row(results, n), _bare_row(results, n))]
    print_table(
        f"Draining {tasks} no-op tasks or more; medians of {rounds} rounds (and their range)",
        ("", "tasks/s", "of bare", "claim to settle, p50 ms", "p99 ms"),
        rows,
    )


def _dispatcher_row(results: Mapping[str, Sequence[Drain]], hands: int) -> tuple[str, ...]:
    drains = results[_dispatched(hands)]
    return (
        _dispatched(hands),
        spread([drain.per_second for drain in drains]),
        ratio([drain.per_second for drain in drains], [drain.per_second for drain in results[_bare(hands)]]),
        spread([drain.p50_ms for drain in drains], 1),
        spread([drain.p99_ms for drain in drains], 1),
    )


def _bare_row(results: Mapping[str, Sequence[Drain]], hands: int) -> tuple[str, ...]:
    return (_bare(hands), spread([drain.per_second for drain in results[_bare(hands)]]), "1.00x", "", "")


def _batched(size: int, claimers: int) -> str:
    return f"batches of {size}, {claimers} {'claimer' if claimers == 1 else 'claimers'}"


def _dispatched(hands: int) -> str:
    return f"Dispatcher, pool of {hands}"


def _bare(hands: int) -> str:
    return f"bare SQL, {hands} connections"


if __name__ == "__main__":
    main()

"""How fast the queue is: `python -m benchmarks.queueing`.

First, no-op tasks per second through the real Dispatcher with an in-process pool of several sizes, against bare loops
that claim and complete a row in two statements. Then what one claim costs when few and when a million rows are
finished, and when one, a hundred or a thousand tenants wait.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from benchmarks.claim_cost import report_claims
from benchmarks.drain import Drain, drain_bare, drain_with_dispatcher
from benchmarks.harness import Server, arguments, interleave, postgres, print_table, ratio, say, spread


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--tasks", type=int, default=500, help="per arm and round (500)")
    parser.add_argument("--hands", type=int, nargs="+", default=[1, 4, 16, 64], help="pool sizes (1 4 16 64)")
    parser.add_argument("--finished", type=int, default=1_000_000, help="rows of the large table (1000000)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.tasks, options.hands, options.finished = 1, 100, [1, 16], 20_000
    with postgres() as server:
        run_drains(server, options.hands, tasks=options.tasks, rounds=options.rounds)
        say("")
        report_claims(
            server,
            finished=(10_000, options.finished),
            waiting=10_000,
            rounds=options.rounds,
            claims=3 if options.quick else 15,
        )


def run_drains(server: Server, hands: Sequence[int], *, tasks: int, rounds: int) -> None:
    """Drain a queue of `tasks` in every way, in turns, and print the table."""
    url = server.database("drain")
    dispatched = {_dispatched(n): partial(drain_with_dispatcher, url, tasks=tasks, hands=n) for n in hands}
    bare = {_bare(n): partial(drain_bare, url, tasks=tasks, hands=n) for n in hands}
    results = interleave(dispatched | bare, rounds)
    rows = [row for n in hands for row in (_dispatcher_row(results, n), _bare_row(results, n))]
    print_table(
        f"Draining {tasks} no-op tasks; medians of {rounds} rounds (and their range)",
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


def _dispatched(hands: int) -> str:
    return f"Dispatcher, pool of {hands}"


def _bare(hands: int) -> str:
    return f"bare SQL, {hands} connections"


if __name__ == "__main__":
    main()

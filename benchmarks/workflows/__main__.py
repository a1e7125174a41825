"""Cost of a workflow: `python -m benchmarks.workflows`.

Graphs of no-op tasks, wide, deep, and many small ones at once: as workflows of ours, with the engine and its
step runner on Ray and the Dispatcher with a no-op pool; by hand, by a client that submits the same tasks
itself and waits for each before it submits those that depend on it; and in DBOS Transact. All share one embedded
Postgres with its durable settings. Every arm checks in its own store that each step was done once. The systems give
different guarantees, which are printed below the table.

Then the memory of thousands of workflows that wait for their first task, and how fast they run to their end.
"""

import argparse
from functools import partial

from benchmarks.harness import Server, arguments, interleave, median, postgres, print_table, ratio, say, spread
from benchmarks.peers.arm import empty_database, fresh
from benchmarks.workflows.bed import running_bed
from benchmarks.workflows.memory import Memory, Waiting, wait_and_run
from benchmarks.workflows.shapes import Shape, chain, diamonds, fans, wide

OURS, BY_HAND = "workflow", "by hand"
STEPS, QUEUED = "DBOS, steps", "DBOS, queued children"
PROMISES = {
    OURS: "a row for every step, checkpoints, events, retries and approvals; each step is a task of the queue: its own"
    " row and four events, a lease with a fence, a fair turn, any worker of the cluster, retries",
    BY_HAND: "the same for each task, but the graph is in the client only: if it ends, nothing continues",
    STEPS: "a row for every ended step; steps run in the process of the workflow, without queue, lease or fairness",
    QUEUED: "a row for every step, from its start on, and its result once more with the parent; a queue without lease"
    " or fairness that any process may serve, looked at every 20 ms",
}


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--only", choices=("shapes", "memory"), help="only one half")
    parser.add_argument("--wide", type=int, default=500, help="steps of the wide graph, 500 at most (500)")
    parser.add_argument("--deep", type=int, default=200, help="steps of the chain, 500 at most (200)")
    parser.add_argument("--diamonds", type=int, default=100, help="workflows of 4 steps at once (100)")
    parser.add_argument("--waiting", type=int, default=2000, help="workflows of 5 steps that wait (2000)")
    parser.add_argument("--hands", type=int, default=64, help="tasks that the pool holds (64)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.wide, options.deep, options.diamonds, options.waiting = 1, 50, 10, 10, 50
    with postgres() as server:
        if options.only != "memory":
            report_shapes(server, options)
        if options.only != "shapes":
            report_memory(server, options)


def report_shapes(server: Server, options: argparse.Namespace) -> None:
    """Run every shape with every arm in turns, and print times, ratios, and the guarantees of each."""
    url, peer, home = server.database("shapes"), empty_database(server, "dbos"), server.home / "shapes"
    # Not at the top: every child process imports this module, and must not import DBOS.
    from benchmarks.workflows import arms, dbos

    with running_bed(home, url, hands=options.hands) as bed:
        for shape in (wide(options.wide), chain(options.deep), diamonds(options.diamonds)):
            say(f"\n{shape.name}")
            ways = {
                OURS: partial(fresh, arms.workflows, url, shape),
                BY_HAND: partial(fresh, arms.by_hand, url, home, shape),
                STEPS: partial(fresh, dbos.steps, peer, shape),
                QUEUED: partial(fresh, dbos.queued, peer, shape),
            }
            seconds = interleave(ways, options.rounds)
            print_table(
                f"{shape.name}; medians of {options.rounds} rounds (and their range)",
                ("", "s", "ms per step", "workflow is"),
                [_row(shape, name, seconds[name], seconds[OURS]) for name in ways],
            )
        launches = bed.launches()
    say(f"\nHanding a workflow to Ray took the engine {1000 * launches.seconds / launches.workflows:.2f} ms on average")
    say("\nGuarantees of each for a step")
    for name, promise in PROMISES.items():
        say(f"* {name}: {promise}")


def _row(shape: Shape, name: str, seconds: list[float], ours: list[float]) -> tuple[str, ...]:
    per_step = f"{1000 * median(seconds) / shape.steps:.2f}"
    return (name, spread(seconds, 2), per_step, "" if name == OURS else ratio(ours, seconds))


def report_memory(server: Server, options: argparse.Namespace) -> None:
    """Let workflows wait, then run them; print memory and times."""
    shape = fans(options.waiting)
    say(f"\n{shape.name}, all waiting for their first task")
    found = wait_and_run(server.home / "memory", server.database("memory"), shape, hands=options.hands)
    print_table(
        f"Memory in MiB; {shape.name}",
        ("", "engine", "step runner", "Postgres", "Ray's own"),
        [
            _memory("before", found.before),
            _memory("all waiting", found.waiting),
            _memory("peak", found.peak),
            _memory("after the end", found.after),
        ],
    )
    print_table(
        "KiB more than before, while all wait",
        ("", "engine", "step runner", "both"),
        [
            _growth("per workflow, with one step running and four behind it", found, shape.workflows),
            _growth("per step", found, shape.steps),
        ],
    )
    calls = shape.steps + shape.workflows
    say(
        f"\nStored in {found.stored:.1f} s; all waiting after {found.begun:.1f} s, of which the engine needed"
        f" {found.launches.seconds:.2f} s to hand {calls} calls to Ray"
        f" ({1e6 * found.launches.seconds / calls:.0f} µs each)."
        f"\nFrom there to the last end: {found.run:.1f} s, {shape.steps / found.run:.0f} steps/s."
    )


def _memory(name: str, memory: Memory) -> tuple[str, ...]:
    return (name, f"{memory.engine:.0f}", f"{memory.runner:.0f}", f"{memory.postgres:.0f}", f"{memory.ray:.0f}")


def _growth(name: str, found: Waiting, count: int) -> tuple[str, ...]:
    engine = (found.waiting.engine - found.before.engine) * 1024 / count
    runner = (found.waiting.runner - found.before.runner) * 1024 / count
    return (name, f"{engine:.1f}", f"{runner:.1f}", f"{engine + runner:.1f}")


if __name__ == "__main__":
    main()

"""Time of one task, stage by stage: `python -m benchmarks.system.journey`.

One task at a time through an otherwise idle stack, from the client's POST until its event stream reports the
completion. The stages follow each other without a gap, so the medians add up to about the whole; concurrent work is
listed below. All clocks are the same machine's.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import psycopg
from psycopg.rows import dict_row

from benchmarks.harness import arguments, median, postgres, print_table, say
from benchmarks.stack import KEY, TASKS, running_stack

_ROW = """
SELECT extract(epoch FROM tasks.created_at)::float8 AS stored, extract(epoch FROM started_at)::float8 AS started,
       extract(epoch FROM completed_at)::float8 AS completed, result->'metadata'->'timings' AS timings,
       (SELECT extract(epoch FROM min(created_at))::float8 FROM task_events
         WHERE task_id = tasks.id AND task_events.status = 'QUEUED') AS claimed
  FROM tasks WHERE id = %s AND status = 'COMPLETED'
"""


@dataclass(frozen=True, slots=True)
class Journey:
    """The times of one task in seconds of the wall clock, and the replica's own seconds by stage."""

    sent: float
    accepted: float
    stored: float
    claimed: float
    started: float
    completed: float
    seen: float
    stages: Mapping[str, float]

    def replica(self, *names: str) -> float:
        return sum(self.stages[name] for name in names)


IN_TURN: Sequence[tuple[str, Callable[[Journey], float]]] = (
    ("POST sent → its transaction begins (HTTP, checks)", lambda task: task.stored - task.sent),
    ("→ claimed (commit, notify, fair claim)", lambda task: task.claimed - task.stored),
    ("→ with the replica (Ray)", lambda task: task.started - task.claimed - task.replica("fetch", "prepare", "wait")),
    ("→ inputs fetched", lambda task: task.replica("fetch")),
    ("→ prompts encoded, LoRAs read", lambda task: task.replica("prepare")),
    ("→ has the device", lambda task: task.replica("wait", "blocked")),
    ("→ denoised", lambda task: task.replica("draw")),
    ("→ decoded, encoded, stored", lambda task: task.replica("save")),
    (
        "→ settled (Ray, group commit)",
        lambda task: task.completed - task.started - task.replica("blocked", "draw", "save"),
    ),
    ("→ reported by the client's event stream", lambda task: task.seen - task.completed),
)
BESIDE: Sequence[tuple[str, Callable[[Journey], float]]] = (
    ("the whole task, as the client sees it", lambda task: task.seen - task.sent),
    ("POST, to its answer", lambda task: task.accepted - task.sent),
    ("row stored → started", lambda task: task.started - task.stored),
    ("VAE decode", lambda task: task.replica("decode")),
    ("PNG and hash", lambda task: task.replica("encode")),
    ("to the object store", lambda task: task.replica("upload")),
)


def main() -> None:
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("--tasks", type=int, default=40, help="a round (40)")
    parser.add_argument("--side", type=int, default=256, help="pixels (256)")
    parser.add_argument("--steps", type=int, default=4, help="denoising steps (4)")
    options = parser.parse_args()
    if options.quick:
        options.tasks = 5
    with postgres() as server:
        database_url = server.database("journey")
        pool = {"name": "Flux", "queue": "inference", "num_replicas": 1, "model": {"model": "tiny-flux"}}
        with running_stack(server.home / "stack", database_url, [pool], environment={}) as url:
            report(list(_follow_all(url, database_url, options)), options)


def report(journeys: Sequence[Journey], options: argparse.Namespace) -> None:
    whole = [task.seen - task.sent for task in journeys]
    drawn = [task.replica("draw") for task in journeys]
    columns = ("", "median µs", "fastest", "slowest")
    print_table(
        f"One task of {options.side}x{options.side}, {options.steps} steps; {len(journeys)} tasks, one at a time",
        columns,
        [_line(name, [measure(task) for task in journeys]) for name, measure in IN_TURN],
    )
    print_table("Among them", columns, [_line(name, [measure(task) for task in journeys]) for name, measure in BESIDE])
    around = [each - draw for each, draw in zip(whole, drawn, strict=True)]
    say(f"\nAround the denoising: {median(around) * 1000:.1f} ms, {median(around) / median(whole):.0%} of the whole.")


def _line(name: str, seconds: Sequence[float]) -> tuple[str, ...]:
    return (name, *(f"{value * 1e6:,.0f}" for value in (median(seconds), min(seconds), max(seconds))))


def _follow_all(url: str, database_url: str, options: argparse.Namespace) -> Iterator[Journey]:
    body = {
        "task_type": "GENERATION",
        "prompt": "a red dress on a white background",
        "width": options.side,
        "height": options.side,
        "steps": options.steps,
        "origin_instance": "benchmark",
    }
    with (
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60, trust_env=False) as client,
        psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as connection,
    ):
        for number in range(options.rounds * options.tasks + 3):
            # A new prompt each time, so that its encoding is part of the journey.
            journey = _follow(client, connection, {**body, "prompt": f"{body['prompt']}, {uuid4()}", "seed": number})
            if number >= 3:
                yield journey
            time.sleep(0.1)


def _follow(client: httpx.Client, connection: psycopg.Connection[dict[str, Any]], body: Mapping[str, Any]) -> Journey:
    sent = time.time()
    answer = client.post(TASKS, json=body)
    accepted = time.time()
    if answer.status_code != httpx.codes.CREATED:
        raise RuntimeError(f"{answer.status_code}: {answer.text}")
    task_id = answer.json()["id"]
    seen = _watch(client, task_id)
    row = connection.execute(_ROW, (task_id,)).fetchone()
    if row is None:
        raise RuntimeError(f"task {task_id} is not completed")
    stages = {name.removesuffix("_ms"): ms / 1000 for name, ms in row.pop("timings").items()}
    return Journey(sent=sent, accepted=accepted, seen=seen, stages=stages, **row)


def _watch(client: httpx.Client, task_id: str) -> float:
    """Return the time at which the task's event stream reported its end."""
    with client.stream("GET", f"{TASKS}{task_id}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("event: ") and line.removeprefix("event: ") in {"completed", "failed", "cancelled"}:
                return time.time()
    raise RuntimeError(f"the event stream of {task_id} ended before the task")


if __name__ == "__main__":
    main()

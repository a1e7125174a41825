"""`compute queues`, `compute workers` and `compute stats`: how the server is."""

from typing import Any

import typer

from compute.cli.answers import AsJson, print_json, print_table
from compute.cli.server import Key, Url, connected

__all__ = ["queues", "stats", "workers"]


def queues(as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show the queues: what waits, what runs, for how long."""
    found = _asked("queues", url, key)
    if as_json:
        print_json(found)
        return
    head = ["queue", "waiting", "reserved", "active", "workers", "wait ms", "done/h"]
    names = ["name", "depth", "reserved_tasks", "active_tasks", "active_workers", "avg_wait_time_ms"]
    names.append("tasks_completed_last_hour")
    print_table(head, ([one.get(name) for name in names] for one in found.get("queues") or []), nothing="no queues")


def workers(as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show the workers: what they have to do, and what they have done."""
    found = _asked("workers", url, key)
    if as_json:
        print_json(found)
        return
    head = ["worker", "queues", "active", "of", "busy %", "memory MB", "done", "per min"]
    rows = [
        [
            one.get("name"),
            ",".join(one.get("queues") or []),
            *(one.get(name) for name in ("active_tasks", "concurrency", "utilization_pct", "memory_mb")),
            *(one.get(name) for name in ("tasks_completed_total", "tasks_per_minute")),
        ]
        for one in found.get("workers") or []
    ]
    print_table(head, rows, nothing="no workers")


def stats(as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Count tasks by status, type and provider."""
    found = _asked("stats", url, key)
    if as_json:
        print_json(found)
        return
    for name in ("total_tasks", "tasks_last_hour", "tasks_last_24h"):
        typer.echo(f"{name.replace('_', ' ')}: {found.get(name, 0):,}")
    for name in ("by_status", "by_task_type", "by_provider"):
        counted = found.get(name) or {}
        print_table([name.removeprefix("by_").replace("_", " "), "tasks"], counted.items(), nothing="no tasks")


def _asked(what: str, url: str | None, key: str | None) -> dict[str, Any]:
    from compute.client import UnexpectedAnswer

    with connected(url, key) as (client, _):
        found = client.request("GET", f"/monitoring/{what}")
        if not isinstance(found, dict):
            raise UnexpectedAnswer(f"{client.url} does not answer as this API does")
        return found

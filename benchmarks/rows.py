"""Millions of rows of `tasks`, written by the server itself. Finished ones are as wide as real ones."""

from typing import Any

import psycopg

__all__ = ["empty", "fill_finished", "fill_waiting", "settle", "tidy"]

_WAITING = """
INSERT INTO tasks (id, task_type, queue, tenant, priority, status, spec, origin_instance, created_at)
SELECT uuidv7(), 'GENERATION', %(queue)s, 'tenant-' || n %% %(tenants)s, 1, 'PENDING',
       '{"prompt": "a lighthouse", "width": 1024, "height": 1024, "steps": 28, "seed": 7, "num_outputs": 1}',
       'benchmark', clock_timestamp() - (%(count)s - n) * interval '1 ms'
  FROM generate_series(1, %(count)s) AS n
"""
_FINISHED = """
INSERT INTO tasks (id, task_type, queue, tenant, priority, status, progress, spec, result, origin_instance, fence,
                   executor_type, executor_instance, created_at, started_at, completed_at)
SELECT uuidv7(), 'GENERATION', 'queue-' || n %% 3, 'tenant-' || n %% 100, 1, 'COMPLETED', 100,
       '{"prompt": "a lighthouse", "width": 1024, "height": 1024, "steps": 28, "seed": 7, "num_outputs": 1}',
       '{"metadata": {"model": "tiny-flux", "timing_ms": 900}, "artifacts": [{"path": "generations/0/1/0.png"}]}',
       'benchmark', 1, 'ray-serve', 'Flux#replica',
       made.at, made.at + interval '1 s', made.at + interval '2 s'
  FROM generate_series(1, %(count)s) AS n
 CROSS JOIN LATERAL (SELECT clock_timestamp() - interval '1 day' + n * interval '10 ms' AS at) AS made
"""
_SETTLE = """
WITH done AS (
    UPDATE tasks SET status = 'COMPLETED', lease_owner = NULL, lease_expires_at = NULL, completed_at = clock_timestamp()
     WHERE queue = %(queue)s AND status = 'QUEUED' RETURNING *
)
INSERT INTO tasks (id, task_type, queue, tenant, priority, status, spec, origin_instance)
SELECT uuidv7(), task_type, queue, tenant, priority, 'PENDING', spec, origin_instance FROM done
"""

Connection = psycopg.Connection[Any]


def empty(connection: Connection) -> None:
    """Remove all tasks, events and turns."""
    connection.execute("TRUNCATE tasks, task_events, tenant_turns")


def fill_waiting(connection: Connection, *, queue: str, count: int, tenants: int) -> None:
    """Insert `count` waiting rows of one priority, spread evenly over `tenants`."""
    connection.execute(_WAITING, {"queue": queue, "count": count, "tenants": tenants})


def fill_finished(connection: Connection, count: int) -> None:
    """Insert `count` rows that were completed within the last day."""
    connection.execute(_FINISHED, {"count": count})


def settle(connection: Connection, *, queue: str) -> None:
    """Complete the claimed rows in `queue`, and append as many waiting rows of the same tenants."""
    connection.execute(_SETTLE, {"queue": queue})


def tidy(connection: Connection) -> None:
    """Vacuum, as autovacuum would within a minute."""
    connection.execute("VACUUM ANALYZE tasks")

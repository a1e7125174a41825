"""The tables of workflows before and after a run: emptied, and checked for completeness."""

from typing import Any

import psycopg

from benchmarks.peers.arm import connect, empty, tidy
from benchmarks.workflows.shapes import Shape

__all__ = ["check_tasks", "check_workflows", "clear", "ended_at", "open_workflows", "running_steps"]

_TABLES = ("workflows", "workflow_steps", "workflow_events", "tasks", "task_events", "tenant_turns")
# Each task has the four events of one attempt, and no other.
_TASKS = """
SELECT count(*) FILTER (WHERE status = 'COMPLETED' AND fence = 1 AND retry_count = 0 AND result IS NOT NULL),
       (SELECT count(*) FROM task_events),
       (SELECT count(DISTINCT (task_id, status)) FROM task_events
         WHERE status IN ('PENDING', 'QUEUED', 'EXECUTING', 'COMPLETED'))
  FROM tasks
"""
_WORKFLOWS = """
SELECT (SELECT count(*) FROM workflows WHERE status = 'COMPLETED' AND fence = 1),
       (SELECT count(*) FROM workflow_steps WHERE status = 'COMPLETED' AND jsonb_array_length(task_ids) = 1),
       (SELECT count(DISTINCT tasks.id) FROM workflow_steps AS step
          JOIN tasks ON tasks.id = (step.task_ids->>0)::uuid AND tasks.step_id = step.step_id
           AND tasks.workflow_id = step.workflow_id::text AND tasks.status = 'COMPLETED'),
       (SELECT count(*) FROM tasks)
"""
_TOO_EARLY = """
SELECT count(*) FROM workflow_steps AS step
 CROSS JOIN LATERAL jsonb_array_elements_text(step.dependencies) AS needed (name)
  JOIN workflow_steps AS parent ON parent.workflow_id = step.workflow_id AND parent.step_id = needed.name
 WHERE step.started_at < parent.completed_at
"""

Connection = psycopg.Connection[Any]


def clear(url: str) -> None:
    """Empty the tables and write everything out."""
    with connect(url) as connection:
        empty(connection, _TABLES)
        tidy(connection, _TABLES)


def check_tasks(url: str, steps: int) -> None:
    """Raises RuntimeError unless there are `steps` tasks, and each was run once and completed."""
    with connect(url) as connection:
        row = connection.execute(_TASKS).fetchone()
    if row != (steps, 4 * steps, 4 * steps):
        raise RuntimeError(f"tasks completed at once, their events, distinct ones are {row}, for {steps} tasks")


def check_workflows(url: str, shape: Shape) -> None:
    """Raises RuntimeError unless each workflow and step is completed, with one task, after those it depends on."""
    with connect(url) as connection:
        row = connection.execute(_WORKFLOWS).fetchone()
        early = connection.execute(_TOO_EARLY).fetchone()
    if row != (shape.workflows, shape.steps, shape.steps, shape.steps):
        raise RuntimeError(f"workflows, steps, their tasks and all tasks are {row}, for {shape.name}")
    if early != (0,):
        raise RuntimeError(f"{early} steps began before a step that they depend on had ended")
    check_tasks(url, shape.steps)


def open_workflows(connection: Connection) -> int:
    return _number(connection, "SELECT count(*) FROM workflows WHERE status NOT IN ('COMPLETED', 'FAILED')")


def running_steps(connection: Connection) -> int:
    return _number(connection, "SELECT count(*) FROM workflow_steps WHERE status = 'RUNNING'")


def ended_at(connection: Connection) -> float:
    """Return the time when the last workflow was completed, on the clock of `time.time()`."""
    return _number(connection, "SELECT extract(epoch FROM max(completed_at))::float8 FROM workflows")


def _number(connection: Connection, query: str) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]

"""Records the statements of a request, and explains them with their actual costs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from sqlalchemy import event

from compute.db.session import Database

__all__ = ["Plan", "Statements", "explain"]

_RELATIONS = ("tasks", "task_events", "workflows", "workflow_steps", "workflow_events", "trainings", "training_events")
_COUNTED = ("work_sums", "work_times", "work_labels", "work_news", "workers")


@dataclass(frozen=True, slots=True)
class Plan:
    """The execution of one statement.

    `rows` are those that its scans examined, whether or not they matched; `nodes` names the scans, `pages` counts the
    blocks
    of 8 KiB that it read.
    """

    rows: int
    pages: int
    nodes: tuple[str, ...]


@dataclass(slots=True)
class Statements:
    """Records the statements with which a database is read, with their values."""

    database: Database
    kept: list[tuple[str, Any]] = field(default_factory=list)

    @contextmanager
    def keeping(self) -> Iterator[list[tuple[str, Any]]]:
        """Yield a list that grows while the block runs."""
        self.kept = []
        event.listen(self.database.engine.sync_engine, "before_cursor_execute", self._keep)
        try:
            yield self.kept
        finally:
            event.remove(self.database.engine.sync_engine, "before_cursor_execute", self._keep)

    def _keep(self, _conn: Any, _cursor: Any, statement: str, values: Any, _context: Any, _many: bool) -> None:
        # What is written meanwhile is the loops' of the process, such as that of the audit log.
        if not statement.lstrip().startswith(("INSERT", "UPDATE", "DELETE")):
            self.kept.append((statement, values))


def explain(connection: psycopg.Connection[Any], statements: list[tuple[str, Any]]) -> list[Plan]:
    """Run the statements of one transaction again and return the plans of those that read our tables."""
    plans = []
    with connection.transaction(force_rollback=True):
        for statement, values in statements:
            if statement.lstrip().startswith("SELECT") and any(
                f"FROM {name}" in statement for name in (*_RELATIONS, *_COUNTED)
            ):
                cursor = connection.execute(
                    f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}".encode(), values, prepare=False
                )
                ((told,),) = cursor.fetchall()
                plans.append(_plan(told if isinstance(told, list) else json.loads(told)))
            else:
                connection.execute(statement.encode(), values, prepare=False)
    return plans


def _plan(told: list[Any]) -> Plan:
    top = told[0]["Plan"]
    scans = [node for node in _nodes(top) if "Relation Name" in node]
    return Plan(
        round(sum(_looked_at(node) for node in scans)),
        top["Shared Hit Blocks"] + top["Shared Read Blocks"],
        tuple(f"{node['Node Type']} {node.get('Index Name', node['Relation Name'])}" for node in scans),
    )


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for part in node.get("Plans", ()):
        yield from _nodes(part)


def _looked_at(node: Any) -> float:
    each = node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float(each * node["Actual Loops"])

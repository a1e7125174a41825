"""Totals of tasks and workflows: from the counts, and of tasks that are leased from their rows, in one view of both."""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from compute.monitoring.scope import Scope, counted, happened
from compute.schemas.enums import TaskStatus, WorkflowStatus

__all__ = ["TaskTotals", "WorkflowTotals", "count_tasks", "count_workflows", "task_totals", "workflow_totals"]

_OPEN = "OPEN"
_COLUMNS = {"type": "task_type", "provider": "coalesce(provider_type, 'LOCAL')"}


@dataclass(slots=True)
class TaskTotals:
    """How many tasks there are, without those that were cleaned up, and how many were accepted lately."""

    by_status: Counter[str] = field(default_factory=Counter)
    by_type: Counter[str] = field(default_factory=Counter)
    by_provider: Counter[str] = field(default_factory=Counter)
    created_last_hour: int = 0
    created_last_day: int = 0

    @property
    def total(self) -> int:
        return self.by_status.total()


@dataclass(slots=True)
class WorkflowTotals:
    """The same of workflows, and how many steps they have together."""

    by_status: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    created_last_hour: int = 0
    created_last_day: int = 0

    @property
    def total(self) -> int:
        return self.by_status.total()


def _created(kind: str, scope: Scope) -> str:
    """Those of the last 60 minutes, and those of the last 24 hours, the oldest of them by the minute."""
    now, hours = "date_trunc('minute', now(), 'UTC')", "date_trunc('hour', now() - interval '23 hours', 'UTC')"

    def created(condition: str) -> str:
        happenings = f"SELECT sum(created) FROM ({happened(kind, scope)}) AS happened WHERE {condition}"
        return f"coalesce(({happenings}), 0)::bigint"

    last_hour = created(f"span = 'minute' AND at >= {now} - interval '1 hour'")
    whole_hours = created(f"span = 'hour' AND at >= {hours}")
    before_them = created(f"span = 'minute' AND at >= {now} - interval '24 hours' AND at < {hours}")
    return f"SELECT {last_hour}, {whole_hours} + {before_them}"


async def task_totals(session: AsyncSession, scope: Scope, *, lately: bool = True) -> TaskTotals:
    """Count the tasks in a scope; without `lately`, only those that there are."""
    rows = await session.execute(
        text(f"""
        SELECT status, type, provider, sum(number)::bigint FROM ({counted("task", scope)}) AS counted GROUP BY 1, 2, 3
         UNION ALL
        SELECT 'leased', status, '', count(*) FROM tasks
         WHERE status IN ('QUEUED', 'EXECUTING') AND deleted_at IS NULL AND {scope.of_tasks} GROUP BY 2
        """),
        scope.values,
    )
    totals = TaskTotals(Counter(dict.fromkeys(TaskStatus, 0)))
    for status, type_, provider, number in rows:
        if status == "leased":
            totals.by_status[type_] += number
            totals.by_status[TaskStatus.PENDING] -= number
            continue
        totals.by_status[TaskStatus.PENDING if status == _OPEN else status] += number
        totals.by_type[type_] += number
        totals.by_provider[provider] += number
    totals.by_status = _plain(totals.by_status)
    if lately:
        totals.created_last_hour, totals.created_last_day = await _lately(session, "task", scope)
    return totals


async def count_tasks(
    session: AsyncSession,
    scope: Scope,
    statuses: Collection[str] | None = None,
    task_type: str | None = None,
    provider: str | None = None,
) -> int:
    """Count the tasks in a scope that are in one of these statuses (None: any), of this type and provider."""
    wanted = set(statuses or TaskStatus)
    named = [name for name, value in (("type", task_type), ("provider", provider)) if value is not None]
    given = scope.values | {"type": task_type, "provider": provider, "ended": [str(one) for one in wanted]}
    rows = await session.execute(
        text(f"""
        SELECT status, sum(number)::bigint AS number FROM ({counted("task", scope)}) AS counted
         WHERE (status = 'OPEN' OR status = ANY(CAST(:ended AS text[])))
           {"".join(f" AND {name} = :{name}" for name in named)} GROUP BY 1
         UNION ALL
        SELECT 'leased ' || status, count(*) FROM tasks
         WHERE status IN ('QUEUED', 'EXECUTING') AND deleted_at IS NULL AND {scope.of_tasks}
           {"".join(f" AND {_COLUMNS[name]} = :{name}" for name in named)} GROUP BY 1
        """),
        given,
    )
    counts: Counter[str] = Counter({row.status: row.number for row in rows})
    leased = {status: counts.pop(f"leased {status}", 0) for status in (TaskStatus.QUEUED, TaskStatus.EXECUTING)}
    waiting = counts.pop(_OPEN, 0) - sum(leased.values())
    total = counts.total() + sum(number for status, number in leased.items() if status in wanted)
    return total + (waiting if TaskStatus.PENDING in wanted else 0)


async def count_workflows(session: AsyncSession, scope: Scope, statuses: Collection[str] | None = None) -> int:
    """Count the workflows in a scope that are in one of these statuses; None: in any."""
    query = counted("workflow", scope)
    found = await session.scalar(
        text(f"SELECT sum(number)::bigint FROM ({query}) AS counted WHERE status = ANY(CAST(:statuses AS text[]))"),
        scope.values | {"statuses": [str(one) for one in statuses or WorkflowStatus]},
    )
    return found or 0


async def workflow_totals(session: AsyncSession, scope: Scope, *, lately: bool = True) -> WorkflowTotals:
    """Count the workflows in a scope; without `lately`, only those that there are."""
    query = counted("workflow", scope)
    rows = await session.execute(
        text(f"SELECT status, sum(number)::bigint, sum(steps)::bigint FROM ({query}) AS counted GROUP BY 1"),
        scope.values,
    )
    totals = WorkflowTotals(Counter(dict.fromkeys(WorkflowStatus, 0)))
    for status, number, steps in rows:
        totals.steps += steps
        # Others are words of the counts' own.
        if status in totals.by_status:
            totals.by_status[status] += number
    totals.by_status = _plain(totals.by_status)
    if lately:
        totals.created_last_hour, totals.created_last_day = await _lately(session, "workflow", scope)
    return totals


async def _lately(session: AsyncSession, kind: str, scope: Scope) -> tuple[int, int]:
    hour, day = (await session.execute(text(_created(kind, scope)), scope.values)).one()
    return hour, day


def _plain(counts: Mapping[str, int]) -> Counter[str]:
    return Counter({str(name): number for name, number in counts.items()})

"""What was used, in sums by day, tenant, type of tasks and provider, which outlive the tasks.

Whoever writes that a task is completed, or a call collected, adds a row of news in the same statement: it is counted
exactly as often as it is written, and nobody waits for a row that all of them change. Now and then news are added to
the sums of their days.
"""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

import json
from collections.abc import Mapping, Sequence
from typing import Any

from compute.db.direct import DirectConnection
from compute.db.session import Connection, Database
from compute.tasks.prices import PriceTable, gpu_seconds_of

__all__ = ["COUNTED_TASK", "COUNT_CALLS", "COUNT_TASKS", "UNITS", "USAGE_METRIC", "USED", "add_up", "used"]

UNITS = ("images", "megapixels", "input_tokens", "output_tokens", "seconds", "credits")
"""What calls are paid for, beside themselves."""
USAGE_METRIC = "compute_usage_units"
"""The series in `metric_sums` that hold the same for ever, by provider and unit; the unit `amount` is money."""
_SUMS = ("tasks", "calls", *UNITS, "gpu_seconds", "amount")
_KEY = "day, tenant, task_type, provider"
_AT_A_TIME = 10_000

USED = {
    "result": "unnest(ARRAY(SELECT jsonb_array_elements(%(results)s::jsonb)))",
    "gpu_seconds": "unnest(%(gpu_seconds)s::float8[])",
    "amount": "unnest(%(amounts)s::numeric[])",
}
"""What `used` gives, as columns of the tasks that are completed."""
COUNTED_TASK = """, (tasks.completed_at AT TIME ZONE 'UTC')::date AS day, tasks.tenant, tasks.task_type,
        coalesce(tasks.provider_type, 'LOCAL') AS provider, given.gpu_seconds, given.amount"""
"""For the RETURNING of an update that completes tasks."""
COUNT_TASKS = f"""
INSERT INTO usage_news ({_KEY}, tasks, gpu_seconds, amount)
SELECT {_KEY}, count(*), sum(gpu_seconds), coalesce(sum(amount), 0) FROM moved GROUP BY {_KEY}
"""
"""Counts the rows of `moved`."""
COUNT_CALLS = f"""
INSERT INTO usage_news ({_KEY}, calls, {", ".join(UNITS)}, amount)
SELECT (ended_at AT TIME ZONE 'UTC')::date, coalesce(tenant, ''), coalesce(task_type, ''), provider, count(*),
       {", ".join(f"coalesce(sum((units->>'{unit}')::float8), 0)" for unit in UNITS)}, coalesce(sum(amount), 0)
  FROM collected GROUP BY 1, 2, 3, 4
"""
"""Counts the rows of `collected`."""
_ADD_UP = f"""
WITH gone AS (
    DELETE FROM usage_news WHERE id IN (
           SELECT id FROM usage_news ORDER BY id LIMIT {_AT_A_TIME} FOR UPDATE SKIP LOCKED)
    RETURNING *
), added AS (
    INSERT INTO usage_days ({_KEY}, {", ".join(_SUMS)})
    SELECT {_KEY}, {", ".join(f"sum({name})" for name in _SUMS)} FROM gone GROUP BY {_KEY} ORDER BY {_KEY}
        ON CONFLICT ({_KEY}) DO UPDATE
       SET {", ".join(f"{name} = usage_days.{name} + excluded.{name}" for name in _SUMS)}
), totalled AS (
    INSERT INTO metric_sums (name, labels, bounds, counts, total)
    SELECT '{USAGE_METRIC}', ARRAY[provider, unit], '{{}}', '{{0}}', sum(number)
      FROM gone CROSS JOIN LATERAL (VALUES {", ".join(f"('{name}', {name}::float8)" for name in _SUMS)})
           AS used(unit, number)
     WHERE number <> 0 GROUP BY provider, unit ORDER BY provider, unit
        ON CONFLICT (name, labels) DO UPDATE SET total = metric_sums.total + excluded.total
)
SELECT count(*) FROM gone
"""


def used(results: Sequence[Mapping[str, Any]], prices: PriceTable | None) -> dict[str, object]:
    """The results of some tasks, and what their runs have used: arrays, one element a task."""
    known = prices or PriceTable()
    amounts = [known.local_amount(result) for result in results]
    return {
        "results": json.dumps(results),
        "gpu_seconds": "{" + ",".join(repr(gpu_seconds_of(result)) for result in results) + "}",
        "amounts": "{" + ",".join("NULL" if amount is None else str(amount) for amount in amounts) + "}",
    }


async def add_up(database: Database) -> None:
    """Add all news to the sums of their days. Several processes may do so at once.

    Raises:
        DatabaseAway: the database is away.
    """
    connection = DirectConnection(database)
    try:
        while await connection.run(_add_some) == _AT_A_TIME:
            pass
    finally:
        await connection.close()


async def _add_some(connection: Connection) -> int:
    ((number,),) = await (await connection.execute(_ADD_UP)).fetchall()
    return int(number)

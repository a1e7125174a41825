"""Counts what was there before the triggers were.

Each count is one statement, and so one view of the database: the rows that it sees, less the news that it sees, which
are about some of these rows. What is written meanwhile is in neither, and brings news of its own. No row is locked.
The history begins with what has its times in the rows of the last day, up to the first news.
"""

# ruff: noqa: S608 - the parts of these statements are constants

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_COLUMNS = "kind, at, tenant, origin_instance, origin_zone, queue, type, provider, status"
_WHOSE = "coalesce(origin_tenant_id, '') AS tenant, origin_instance, coalesce(origin_zone, '') AS origin_zone"
_ENDED = "('COMPLETED', 'FAILED', 'CANCELLED')"
_ALL = {
    "task": f"""
    SELECT {_WHOSE}, queue, task_type AS type, coalesce(provider_type, 'LOCAL') AS provider,
           CASE WHEN status IN {_ENDED} THEN status ELSE 'OPEN' END AS status, count(*) AS number, 0 AS steps
      FROM tasks WHERE deleted_at IS NULL GROUP BY 1, 2, 3, 4, 5, 6, 7
    """,
    "workflow": f"""
    SELECT {_WHOSE}, '' AS queue, '' AS type, '' AS provider, status, count(*) AS number, 0 AS steps
      FROM workflows WHERE deleted_at IS NULL GROUP BY 1, 2, 3, status
     UNION ALL
    SELECT {_WHOSE}, '', '', '', '', 0, count(*)
      FROM workflows JOIN workflow_steps ON workflow_id = workflows.id WHERE deleted_at IS NULL GROUP BY 1, 2, 3
    """,
    "training": f"""
    SELECT {_WHOSE}, 'training' AS queue, '' AS type, '' AS provider, status, count(*) AS number, 0 AS steps
      FROM trainings GROUP BY 1, 2, 3, status
    """,
}
_HISTORY = {"task": ("tasks", "queue"), "workflow": ("workflows", "''"), "training": ("trainings", "'training'")}
_EVENTS = {
    "created": ("created_at", "true", ""),
    "started": ("started_at", "started_at IS NOT NULL", "waited"),
    "ended": ("completed_at", f"status IN {_ENDED}", "ran"),
}
_SECONDS = {
    "": "0",
    "waited": "coalesce(extract(epoch FROM sum(started_at - created_at)), 0)",
    "ran": "coalesce(extract(epoch FROM sum(completed_at - started_at) FILTER (WHERE status = 'COMPLETED')), 0)",
}


def upgrade() -> None:
    for kind, (table, queue) in _HISTORY.items():
        for event, (at, where, seconds) in _EVENTS.items():
            op.execute(
                f"""
                INSERT INTO work_news ({_COLUMNS}, {event}, {seconds or "waited"})
                SELECT '{kind}', date_trunc('minute', {at}, 'UTC'), {_WHOSE}, {queue}, '', '',
                       {"status" if event == "ended" else "''"}, count(*), {_SECONDS[seconds]}
                  FROM {table}
                 WHERE {where} AND {at} >= date_trunc('hour', now() - interval '25 hours', 'UTC')
                   AND {at} < coalesce((SELECT min(at) FROM work_news WHERE kind = '{kind}' AND number <> 0), now())
                 GROUP BY 2, 3, 4, 5, 6, 9
                """
            )
    for kind, seen in _ALL.items():
        op.execute(
            f"""
            INSERT INTO work_news ({_COLUMNS}, number, steps)
            SELECT '{kind}', date_trunc('minute', now(), 'UTC'), tenant, origin_instance, origin_zone, queue, type,
                   provider, status, sum(number), sum(steps)
              FROM ({seen}
                     UNION ALL
                    SELECT tenant, origin_instance, origin_zone, queue, type, provider, status, -number, -steps
                      FROM work_news WHERE kind = '{kind}'
                     UNION ALL
                    SELECT tenant, origin_instance, origin_zone, queue, type, provider, 'OPEN', closed, 0
                      FROM work_news WHERE kind = '{kind}') AS counted
             GROUP BY 3, 4, 5, 6, 7, 8, 9 HAVING sum(number) <> 0 OR sum(steps) <> 0
            """
        )


def downgrade() -> None:
    for table in ("work_news", "work_labels", "work_times", "work_sums"):
        op.execute(f"DELETE FROM {table}")

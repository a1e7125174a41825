"""Adds up what was counted so far. Nobody writes it any more, and news wait meanwhile, so nothing is counted twice.

Of more labels than have sums of their own, those with the most tasks get them.
"""

# ruff: noqa: S608 - the parts of these statements are constants

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

_BEYOND = "*" * 201
_LABELS = 200
_WHOLE = "(VALUES (true), (false)) AS of(whole)"
_GRAINS = """
    LATERAL (VALUES ('', '', true), (known.origin_instance, '', known.origin_instance <> ''),
                    ('', known.origin_zone, known.origin_zone <> ''), (known.origin_instance, known.origin_zone,
                     known.origin_instance <> '' AND known.origin_zone <> ''))
    AS grain(instance, zone, there)
"""
_TENANT = "CASE WHEN of.whole THEN '' ELSE known.tenant END"
_FIRST_LABELS = f"""
INSERT INTO work_labels (whole, tenant, origin_instance, origin_zone)
SELECT DISTINCT whole, tenant, CASE WHEN place <= {_LABELS} OR instance = '' THEN instance ELSE '{_BEYOND}' END,
       CASE WHEN place <= {_LABELS} OR zone = '' THEN zone ELSE '{_BEYOND}' END
  FROM (
    SELECT of.whole, {_TENANT} AS tenant, instance, zone,
           CASE WHEN '{_BEYOND}' IN (instance, zone) THEN {_LABELS + 1} ELSE row_number() OVER (
               PARTITION BY of.whole, {_TENANT}, instance = '', zone = '' ORDER BY sum(number) DESC, instance, zone)
           END AS place
      FROM (SELECT tenant, origin_instance, origin_zone, number FROM work_counts WHERE NOT whole
             UNION ALL
            SELECT DISTINCT tenant, origin_instance, origin_zone, 0 FROM work_history WHERE NOT whole) AS known
     CROSS JOIN {_WHOLE} CROSS JOIN {_GRAINS}
     WHERE there AND (instance <> '' OR zone <> '') GROUP BY 1, 2, 3, 4
  ) AS numbered
"""


def _added(into: str, source: str, columns: str, key: str, sums: tuple[str, ...]) -> str:
    """The statement that adds the rows of one table to another one, for all tenants and labels."""
    numbers = ", ".join(f"sum({name})" for name in sums)
    own = "labels.whole IS NOT NULL"
    return f"""
    INSERT INTO {into} ({columns}, whole, tenant, origin_instance, origin_zone, {", ".join(sums)})
    SELECT {key}, of.whole, {_TENANT}, CASE WHEN instance = '' OR {own} THEN instance ELSE '{_BEYOND}' END,
           CASE WHEN zone = '' OR {own} THEN zone ELSE '{_BEYOND}' END, {numbers}
      FROM {source} AS known CROSS JOIN {_WHOLE} CROSS JOIN {_GRAINS}
      LEFT JOIN work_labels AS labels ON labels.whole = of.whole AND labels.tenant = {_TENANT}
                                     AND labels.origin_instance = instance AND labels.origin_zone = zone
     WHERE NOT known.whole AND there
     GROUP BY {", ".join(str(n + 1) for n in range(columns.count(",") + 5))}
    """


def upgrade() -> None:
    op.execute(_FIRST_LABELS)
    columns = "kind, queue, type, provider, status"
    op.execute(_added("work_sums", "work_counts", columns, columns, ("number", "steps")))
    columns = "kind, span, at, queue"
    events = ("created", "started", "completed", "failed", "cancelled", "waited", "ran")
    op.execute(_added("work_times", "work_history", columns, columns, events))


def downgrade() -> None:
    """The last release adds up all rows of a table. Which labels they had is lost, and not said to be known."""
    whose = f"whole, tenant, '{_BEYOND}', '{_BEYOND}'"
    everything = "origin_instance = '' AND origin_zone = ''"
    for into, source, columns in (
        ("work_counts", "work_sums", "kind, queue, type, provider, status, number, steps"),
        (
            "work_history",
            "work_times",
            "kind, span, at, queue, created, started, completed, failed, cancelled, waited, ran",
        ),
    ):
        op.execute(f"DELETE FROM {into}")
        op.execute(
            f"""
            INSERT INTO {into} (whole, tenant, origin_instance, origin_zone, {columns})
            SELECT {whose}, {columns} FROM {source} WHERE {everything}
            """
        )
        op.execute(f"DELETE FROM {source}")
    op.execute("DELETE FROM work_labels")

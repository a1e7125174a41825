"""Sums of work with and without labels of callers, and which labels have sums of their own."""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

_WHOSE = """
        whole BOOLEAN NOT NULL,
        tenant TEXT NOT NULL,
        origin_instance TEXT NOT NULL,
        origin_zone TEXT NOT NULL
"""
_TABLES = {
    "work_sums": f"""
        kind TEXT NOT NULL,
        {_WHOSE},
        queue TEXT NOT NULL,
        type TEXT NOT NULL,
        provider TEXT NOT NULL,
        status TEXT NOT NULL,
        number BIGINT DEFAULT '0' NOT NULL,
        steps BIGINT DEFAULT '0' NOT NULL,
        PRIMARY KEY (kind, whole, tenant, origin_instance, origin_zone, queue, type, provider, status)
    """,
    "work_times": f"""
        kind TEXT NOT NULL,
        span TEXT NOT NULL,
        {_WHOSE},
        at TIMESTAMP WITH TIME ZONE NOT NULL,
        queue TEXT NOT NULL,
        created BIGINT DEFAULT '0' NOT NULL,
        started BIGINT DEFAULT '0' NOT NULL,
        completed BIGINT DEFAULT '0' NOT NULL,
        failed BIGINT DEFAULT '0' NOT NULL,
        cancelled BIGINT DEFAULT '0' NOT NULL,
        waited DOUBLE PRECISION DEFAULT '0' NOT NULL,
        ran DOUBLE PRECISION DEFAULT '0' NOT NULL,
        PRIMARY KEY (kind, span, whole, tenant, origin_instance, origin_zone, at, queue)
    """,
    "work_labels": f"""
        {_WHOSE},
        PRIMARY KEY (whole, tenant, origin_instance, origin_zone)
    """,
}


def upgrade() -> None:
    for name, columns in _TABLES.items():
        op.execute(f"CREATE TABLE {name} ({columns}) WITH (fillfactor = 70)")
    op.execute("CREATE INDEX work_times_age ON work_times (span, at)")


def downgrade() -> None:
    for name in _TABLES:
        op.execute(f"DROP TABLE {name}")

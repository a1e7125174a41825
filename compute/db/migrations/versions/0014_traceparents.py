"""What continues the trace of the request that made a row.

Each table is locked by itself, for a moment; where that was broken off, the next try goes on.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_TABLES = ("tasks", "workflows", "trainings", "webhook_deliveries")


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for table in _TABLES:
            op.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS traceparent TEXT")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for table in reversed(_TABLES):
            op.execute(f"ALTER TABLE {table} DROP COLUMN IF EXISTS traceparent")

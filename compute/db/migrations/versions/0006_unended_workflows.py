"""Workflows that have not ended are found at once: whoever removes files asks whether one of them needs these.

The index is built beside running work. Where that was broken off, what it left is of no use and goes first.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS workflows_unended")
        op.execute(
            "CREATE INDEX CONCURRENTLY workflows_unended ON workflows (id) "
            "WHERE status IN ('PENDING', 'RUNNING', 'PAUSED')"
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY workflows_unended")

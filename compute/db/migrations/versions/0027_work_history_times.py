"""An index of history by its age, built beside running work: as in 0009."""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS work_history_times")
        op.execute("CREATE INDEX CONCURRENTLY work_history_times ON work_history (span, at)")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS work_history_times")

"""Counts of evaluated images, an hour each; and paid calls without a task are found by what they are for."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE evaluations (
            vendor TEXT NOT NULL,
            hour TIMESTAMP WITH TIME ZONE NOT NULL,
            total BIGINT NOT NULL,
            succeeded BIGINT NOT NULL,
            refused BIGINT NOT NULL,
            seconds DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (vendor, hour)
        )
        """
    )
    op.execute("CREATE INDEX provider_calls_of_no_task ON provider_calls (part, attempt) WHERE task_id IS NULL")


def downgrade() -> None:
    op.execute("DROP INDEX provider_calls_of_no_task")
    op.execute("DROP TABLE evaluations")

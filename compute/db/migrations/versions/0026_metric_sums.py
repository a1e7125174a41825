"""Sums of what processes have counted."""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE metric_sums (
            name TEXT NOT NULL,
            labels TEXT[] NOT NULL,
            bounds DOUBLE PRECISION[] NOT NULL,
            counts BIGINT[] NOT NULL,
            total DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (name, labels)
        ) WITH (fillfactor = 50)
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE metric_sums")

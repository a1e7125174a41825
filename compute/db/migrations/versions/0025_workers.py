"""Workers as they were last heard of."""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE workers (
            id TEXT NOT NULL PRIMARY KEY,
            name TEXT NOT NULL,
            deployment TEXT NOT NULL,
            cluster TEXT,
            application TEXT,
            host TEXT NOT NULL,
            pid INTEGER NOT NULL,
            queues JSONB NOT NULL,
            concurrency INTEGER NOT NULL,
            capacity INTEGER NOT NULL,
            active INTEGER NOT NULL,
            reserved INTEGER NOT NULL,
            completed BIGINT NOT NULL,
            per_minute DOUBLE PRECISION NOT NULL,
            memory BIGINT NOT NULL,
            hangs BOOLEAN NOT NULL,
            gpu_name TEXT,
            gpu_utilization DOUBLE PRECISION,
            gpu_memory BIGINT,
            gpu_memory_total BIGINT,
            started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            gone_at TIMESTAMP WITH TIME ZONE
        )
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE workers")

"""Workflows that have not ended are found at once: whoever removes files asks whether one of them needs these."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE INDEX workflows_unended ON workflows (id) WHERE status IN ('PENDING', 'RUNNING', 'PAUSED')",
    )


def downgrade() -> None:
    op.execute("DROP INDEX workflows_unended")

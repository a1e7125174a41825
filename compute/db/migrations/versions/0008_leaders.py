"""Works that one process at a time does, and who that is."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE leaders (
            name TEXT NOT NULL,
            owner TEXT NOT NULL,
            expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
            PRIMARY KEY (name)
        )
        """
    )


def downgrade() -> None:
    op.drop_table("leaders")

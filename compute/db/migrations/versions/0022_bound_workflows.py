"""The tenant to which the key is bound that made a workflow: its steps see that tenant's files alone."""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE workflows ADD COLUMN bound_to TEXT")


def downgrade() -> None:
    op.execute("ALTER TABLE workflows DROP COLUMN bound_to")

"""The tenant to which the key is bound that made a workflow, whose files alone its steps see, and the key that set it
going, against whose limits its tasks count."""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE workflows ADD COLUMN bound_to TEXT, ADD COLUMN key_id UUID")


def downgrade() -> None:
    op.execute("ALTER TABLE workflows DROP COLUMN bound_to, DROP COLUMN key_id")

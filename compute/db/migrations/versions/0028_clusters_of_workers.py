"""The Ray cluster and the Serve application of a worker."""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE workers ADD COLUMN cluster TEXT, ADD COLUMN application TEXT")


def downgrade() -> None:
    op.execute("ALTER TABLE workers DROP COLUMN cluster, DROP COLUMN application")

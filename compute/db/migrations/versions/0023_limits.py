"""What keys and tenants have used of their limits."""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE request_rates (subject TEXT NOT NULL PRIMARY KEY, minute TIMESTAMP WITH TIME ZONE NOT NULL, "
        "used INTEGER NOT NULL, granted INTEGER NOT NULL)"
    )
    op.execute("CREATE TABLE quota_uses (subject TEXT NOT NULL PRIMARY KEY, day DATE NOT NULL, units BIGINT NOT NULL)")
    op.execute(
        "CREATE TABLE charged_work (subject TEXT NOT NULL, work_id UUID NOT NULL, kind TEXT NOT NULL, "
        "weight INTEGER NOT NULL, PRIMARY KEY (subject, work_id))"
    )


def downgrade() -> None:
    op.execute("DROP TABLE charged_work")
    op.execute("DROP TABLE quota_uses")
    op.execute("DROP TABLE request_rates")

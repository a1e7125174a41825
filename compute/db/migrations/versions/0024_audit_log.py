"""Who did what."""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
    CREATE TABLE audit_log (
        id UUID NOT NULL PRIMARY KEY,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        request_id TEXT NOT NULL,
        key_id UUID,
        key_name TEXT NOT NULL,
        tenant TEXT,
        address TEXT NOT NULL,
        forwarded_for TEXT,
        operation TEXT NOT NULL,
        objects JSONB NOT NULL,
        status SMALLINT NOT NULL
    )
    """)
    op.execute("CREATE INDEX audit_log_created ON audit_log (created_at DESC, id DESC)")
    op.execute("CREATE INDEX audit_log_of_key ON audit_log (key_id, created_at, id) WHERE key_id IS NOT NULL")
    op.execute("CREATE INDEX audit_log_of_tenant ON audit_log (tenant, created_at, id) WHERE tenant IS NOT NULL")


def downgrade() -> None:
    op.execute("DROP TABLE audit_log")

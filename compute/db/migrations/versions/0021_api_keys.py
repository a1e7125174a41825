"""Keys that were given out, and the limits of tenants."""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_LIMITS = "requests_per_minute INTEGER, concurrent_tasks INTEGER, tasks_per_day INTEGER"


def upgrade() -> None:
    op.execute(f"""
    CREATE TABLE api_keys (
        id UUID NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        hash BYTEA NOT NULL,
        previous_hash BYTEA,
        previous_until TIMESTAMP WITH TIME ZONE,
        scope TEXT NOT NULL,
        tenant TEXT,
        expires_at TIMESTAMP WITH TIME ZONE,
        revoked_at TIMESTAMP WITH TIME ZONE,
        last_used_at TIMESTAMP WITH TIME ZONE,
        created_by TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        {_LIMITS}
    )
    """)
    op.execute("CREATE INDEX api_keys_created ON api_keys (created_at DESC, id DESC)")
    op.execute("CREATE INDEX api_keys_of_tenant ON api_keys (tenant, created_at, id) WHERE tenant IS NOT NULL")
    op.execute(f"""
    CREATE TABLE tenants (
        name TEXT NOT NULL PRIMARY KEY,
        updated_by TEXT NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        {_LIMITS}
    )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE tenants")
    op.execute("DROP TABLE api_keys")

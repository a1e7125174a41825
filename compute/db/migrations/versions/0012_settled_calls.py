"""Paid calls that were settled from outside, and the indices along which they are listed.

Each index is built beside running work. Where that was broken off, what it left is of no use and goes first.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_INDICES = {
    "provider_calls_created": "provider_calls (created_at DESC, id DESC)",
    "provider_calls_of_state": "provider_calls (state, created_at, id)",
    "provider_calls_of_provider": "provider_calls (provider, created_at, id)",
    "provider_calls_of_task_in_time": "provider_calls (task_id, created_at, id) WHERE task_id IS NOT NULL",
}
_FORMER = {"provider_calls_uncertain": "provider_calls (created_at, id) WHERE state = 'UNCERTAIN'"}


def upgrade() -> None:
    op.execute("ALTER TABLE provider_calls ADD COLUMN IF NOT EXISTS settled TEXT")
    op.execute("ALTER TABLE provider_calls ADD COLUMN IF NOT EXISTS settled_at TIMESTAMP WITH TIME ZONE")
    _replace(_FORMER, _INDICES)


def downgrade() -> None:
    _replace(_INDICES, _FORMER)
    op.execute("ALTER TABLE provider_calls DROP COLUMN settled_at")
    op.execute("ALTER TABLE provider_calls DROP COLUMN settled")


def _replace(old: dict[str, str], new: dict[str, str]) -> None:
    with op.get_context().autocommit_block():
        for name, on in new.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {on}")
        for name in old:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")

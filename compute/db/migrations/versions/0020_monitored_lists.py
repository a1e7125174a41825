"""Indices for filters of monitored lists, each built beside running work: as in 0009."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_LISTED = "deleted_at IS NULL"
_INDICES = {
    "tasks_of_provider": ("tasks (provider_type, created_at, id)", f"provider_type <> 'LOCAL' AND {_LISTED}"),
    "workflows_of_zone": ("workflows (origin_zone, created_at, id)", f"origin_zone IS NOT NULL AND {_LISTED}"),
    "workflows_of_name": ("workflows (name text_pattern_ops)", _LISTED),
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, (on, where) in _INDICES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {on} WHERE {where}")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in _INDICES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")

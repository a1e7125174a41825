"""Lists are walked along indices that know a filter each, in the order of the list.

Each is built beside running work. Where that was broken off, what it left is of no use and goes first.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TENANT = "origin_tenant_id IS NOT NULL"
_LISTED = "deleted_at IS NULL"
_ENDED = f"status IN ('COMPLETED', 'FAILED', 'CANCELLED') AND {_LISTED}"

_INDICES = {
    "tasks_of_workflow": ("tasks (workflow_id, created_at, id)", "workflow_id IS NOT NULL"),
    "tasks_of_tenant": ("tasks (origin_tenant_id, created_at, id)", f"{_TENANT} AND {_LISTED}"),
    "tasks_of_zone": ("tasks (origin_zone, created_at, id)", f"origin_zone IS NOT NULL AND {_ENDED}"),
    "tasks_of_status": ("tasks (status, created_at, id)", _ENDED),
    "tasks_of_type": ("tasks (task_type, created_at, id)", _ENDED),
    "tasks_of_instance": ("tasks (origin_instance, created_at, id)", _ENDED),
    "workflows_of_status": ("workflows (status, created_at, id)", _LISTED),
    "workflows_of_tenant": ("workflows (origin_tenant_id, created_at, id)", f"{_TENANT} AND {_LISTED}"),
    "workflows_of_instance": ("workflows (origin_instance, created_at, id)", _LISTED),
    "trainings_of_status": ("trainings (status, created_at, id)", "true"),
    "trainings_of_tenant": ("trainings (origin_tenant_id, created_at, id)", _TENANT),
    "trainings_of_instance": ("trainings (origin_instance, created_at, id)", "true"),
}
_FORMER = {"tasks_workflow": ("tasks (workflow_id)", "workflow_id IS NOT NULL")}


def upgrade() -> None:
    _replace(_FORMER, _INDICES)


def downgrade() -> None:
    _replace(_INDICES, _FORMER)


def _replace(old: dict[str, tuple[str, str]], new: dict[str, tuple[str, str]]) -> None:
    with op.get_context().autocommit_block():
        for name, (on, where) in new.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {on}{'' if where == 'true' else f' WHERE {where}'}")
        for name in old:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")

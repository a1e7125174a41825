"""Triggers that count workflows, row by row: a workflow changes its status a few times only.

How many steps a workflow has is asked of its steps when it is cleaned up or deleted.
"""

# ruff: noqa: S608 - the parts of these statements are constants

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_COLUMNS = "kind, at, tenant, origin_instance, origin_zone, queue, type, provider, status"
_NOW = "date_trunc('minute', clock_timestamp(), 'UTC')"
_ENDED = "('COMPLETED', 'FAILED', 'CANCELLED')"


def _key(row: str, status: str, at: str = _NOW) -> str:
    labels = f"coalesce({row}.origin_tenant_id, ''), {row}.origin_instance, coalesce({row}.origin_zone, '')"
    return f"'workflow', {at}, {labels}, '', '', '', {status}"


_STEPS = "(SELECT count(*) FROM workflow_steps WHERE workflow_id = OLD.id)"
_STARTS = "(OLD.started_at IS NULL AND NEW.started_at IS NOT NULL)"
_ENDS = f"(NEW.status IN {_ENDED} AND OLD.status <> NEW.status)"
_RAN = "extract(epoch FROM NEW.completed_at - NEW.started_at)"
_BODIES = {
    "added": f"""
    INSERT INTO work_news ({_COLUMNS}, number, created, started)
    VALUES ({_key("NEW", "NEW.status", "date_trunc('minute', NEW.created_at, 'UTC')")},
            (NEW.deleted_at IS NULL)::int, 1, (NEW.started_at IS NOT NULL)::int);
    """,
    "changed": f"""
    INSERT INTO work_news ({_COLUMNS}, number)
    VALUES ({_key("OLD", "OLD.status")}, -(OLD.deleted_at IS NULL)::int);
    INSERT INTO work_news ({_COLUMNS}, number, started, ended, waited, ran)
    VALUES ({_key("NEW", "NEW.status")}, (NEW.deleted_at IS NULL)::int, {_STARTS}::int, {_ENDS}::int,
            CASE WHEN {_STARTS} THEN extract(epoch FROM NEW.started_at - NEW.created_at) ELSE 0 END,
            CASE WHEN {_ENDS} AND NEW.status = 'COMPLETED' THEN coalesce({_RAN}, 0) ELSE 0 END);
    IF (OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL) THEN
        INSERT INTO work_news ({_COLUMNS}, steps)
        VALUES ({_key("NEW", "''")}, CASE WHEN NEW.deleted_at IS NULL THEN 1 ELSE -1 END * {_STEPS});
    END IF;
    """,
    "gone": f"""
    IF OLD.deleted_at IS NULL THEN
        INSERT INTO work_news ({_COLUMNS}, number) VALUES ({_key("OLD", "OLD.status")}, -1);
        INSERT INTO work_news ({_COLUMNS}, steps) VALUES ({_key("OLD", "''")}, -{_STEPS});
    END IF;
    """,
}
_LABELS = ("origin_instance", "origin_zone", "origin_tenant_id", "status", "deleted_at", "started_at")
_CHANGED = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in _LABELS)
_TRIGGERS = {
    "added": "AFTER INSERT ON workflows FOR EACH ROW",
    "changed": f"AFTER UPDATE ON workflows FOR EACH ROW WHEN ({_CHANGED})",
    # Before, because its steps go with it.
    "gone": "BEFORE DELETE ON workflows FOR EACH ROW",
}


def upgrade() -> None:
    for name, body in _BODIES.items():
        op.execute(
            f"""
            CREATE FUNCTION count_workflows_{name}() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                {body}
                RETURN {"OLD" if name == "gone" else "NULL"};
            END $$
            """
        )
    for name, event in _TRIGGERS.items():
        op.execute(f"CREATE TRIGGER workflows_count_{name} {event} EXECUTE FUNCTION count_workflows_{name}()")


def downgrade() -> None:
    for name in _TRIGGERS:
        op.execute(f"DROP TRIGGER workflows_count_{name} ON workflows")
        op.execute(f"DROP FUNCTION count_workflows_{name}()")

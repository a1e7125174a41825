"""A trigger that counts trainings. All of them are in the queue `training`."""

# ruff: noqa: S608 - the parts of these statements are constants

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_COLUMNS = "kind, at, tenant, origin_instance, origin_zone, queue, type, provider, status"
_NOW = "date_trunc('minute', clock_timestamp(), 'UTC')"
_ENDED = "('COMPLETED', 'FAILED', 'CANCELLED')"


def _key(row: str, at: str = _NOW) -> str:
    labels = f"coalesce({row}.origin_tenant_id, ''), {row}.origin_instance, coalesce({row}.origin_zone, '')"
    return f"'training', {at}, {labels}, 'training', '', '', {row}.status"


_STARTS = "(OLD.started_at IS NULL AND NEW.started_at IS NOT NULL)"
_ENDS = f"(NEW.status IN {_ENDED} AND OLD.status <> NEW.status)"
_CHANGED = " OR ".join(
    f"OLD.{name} IS DISTINCT FROM NEW.{name}"
    for name in ("status", "started_at", "origin_instance", "origin_zone", "origin_tenant_id")
)


def upgrade() -> None:
    op.execute(
        f"""
        CREATE FUNCTION count_trainings() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                INSERT INTO work_news ({_COLUMNS}, number, created)
                VALUES ({_key("NEW", "date_trunc('minute', NEW.created_at, 'UTC')")}, 1, 1);
                RETURN NULL;
            END IF;
            INSERT INTO work_news ({_COLUMNS}, number) VALUES ({_key("OLD")}, -1);
            IF TG_OP = 'UPDATE' THEN
                INSERT INTO work_news ({_COLUMNS}, number, started, ended, waited, ran)
                VALUES ({_key("NEW")}, 1, {_STARTS}::int, {_ENDS}::int,
                        CASE WHEN {_STARTS} THEN extract(epoch FROM NEW.started_at - NEW.created_at) ELSE 0 END,
                        CASE WHEN {_ENDS} AND NEW.status = 'COMPLETED'
                             THEN coalesce(extract(epoch FROM NEW.completed_at - NEW.started_at), 0) ELSE 0 END);
            END IF;
            RETURN NULL;
        END $$
        """
    )
    for name, event in (
        ("trainings_count", "AFTER INSERT OR DELETE ON trainings FOR EACH ROW"),
        ("trainings_count_changed", f"AFTER UPDATE ON trainings FOR EACH ROW WHEN ({_CHANGED})"),
    ):
        op.execute(f"CREATE TRIGGER {name} {event} EXECUTE FUNCTION count_trainings()")


def downgrade() -> None:
    for name in ("trainings_count", "trainings_count_changed"):
        op.execute(f"DROP TRIGGER {name} ON trainings")
    op.execute("DROP FUNCTION count_trainings()")

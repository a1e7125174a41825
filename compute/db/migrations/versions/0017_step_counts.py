"""A trigger that counts the steps that workflows are made of."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE FUNCTION count_steps_added() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO work_news (kind, at, tenant, origin_instance, origin_zone, queue, type, provider, status, steps)
            SELECT 'workflow', date_trunc('minute', clock_timestamp(), 'UTC'), coalesce(origin_tenant_id, ''),
                   origin_instance, coalesce(origin_zone, ''), '', '', '', '', count(*)
              FROM added JOIN workflows ON workflows.id = added.workflow_id
             WHERE workflows.deleted_at IS NULL GROUP BY 3, 4, 5;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER steps_count_added AFTER INSERT ON workflow_steps REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION count_steps_added()
        """
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER steps_count_added ON workflow_steps")
    op.execute("DROP FUNCTION count_steps_added()")

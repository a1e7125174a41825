"""Objects of the caller's own, as they were sent.

jsonb keeps numbers as numerics, so that 1e22 comes back as an integer and -0.0 as 0.0, and sorts keys. A column of type
json keeps the text. Older processes know nothing of it: where they replace what it holds, a trigger forgets it.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_UPGRADE = (
    "ALTER TABLE tasks ADD COLUMN sent JSON",
    "ALTER TABLE workflows ADD COLUMN sent JSON",
    "ALTER TABLE workflow_steps ADD COLUMN sent JSON",
    """
    CREATE FUNCTION forget_sent() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.sent := NULL;
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER tasks_config_replaced BEFORE UPDATE OF config ON tasks FOR EACH ROW
    WHEN (NEW.config IS DISTINCT FROM OLD.config AND NEW.sent::text IS NOT DISTINCT FROM OLD.sent::text)
    EXECUTE FUNCTION forget_sent()
    """,
    """
    CREATE TRIGGER workflows_input_replaced BEFORE UPDATE OF input ON workflows FOR EACH ROW
    WHEN (NEW.input IS DISTINCT FROM OLD.input AND NEW.sent::text IS NOT DISTINCT FROM OLD.sent::text)
    EXECUTE FUNCTION forget_sent()
    """,
)

_DOWNGRADE = (
    "DROP TRIGGER workflows_input_replaced ON workflows",
    "DROP TRIGGER tasks_config_replaced ON tasks",
    "DROP FUNCTION forget_sent()",
    "ALTER TABLE workflow_steps DROP COLUMN sent",
    "ALTER TABLE workflows DROP COLUMN sent",
    "ALTER TABLE tasks DROP COLUMN sent",
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)

"""Events that cost one index entry: no foreign key to check, a key that finds a task's events, no needless payload.

Events still go with their task: one statement-level trigger deletes them, where a foreign key would look the task up
again, and lock it, for every event that is written.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_UPGRADE = (
    "ALTER TABLE task_events DROP CONSTRAINT task_events_task_id_fkey",
    "ALTER TABLE task_events DROP CONSTRAINT task_events_pkey",
    "DROP INDEX task_events_task",
    "ALTER TABLE task_events ADD CONSTRAINT task_events_pkey PRIMARY KEY (task_id, id)",
    "ALTER TABLE task_events ALTER COLUMN data DROP NOT NULL",
    """
    CREATE FUNCTION forget_task_events() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM task_events USING gone WHERE task_events.task_id = gone.id;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER tasks_forget_events AFTER DELETE ON tasks REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION forget_task_events()
    """,
)

_DOWNGRADE = (
    "DROP TRIGGER tasks_forget_events ON tasks",
    "DROP FUNCTION forget_task_events()",
    "UPDATE task_events SET data = '{}' WHERE data IS NULL",
    "ALTER TABLE task_events ALTER COLUMN data SET NOT NULL",
    "ALTER TABLE task_events DROP CONSTRAINT task_events_pkey",
    "ALTER TABLE task_events ADD CONSTRAINT task_events_pkey PRIMARY KEY (id)",
    "CREATE INDEX task_events_task ON task_events (task_id, id)",
    """
    ALTER TABLE task_events ADD CONSTRAINT task_events_task_id_fkey
    FOREIGN KEY (task_id) REFERENCES tasks (id) ON DELETE CASCADE
    """,
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)

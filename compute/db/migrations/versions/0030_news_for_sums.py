"""Leaves news to processes that add them to `work_sums` and `work_times`.

A process of the last release deletes news to add them to `work_counts` and `work_history`. From now on it finds none to
delete, and goes on; what it reads there stands still until it is replaced.
"""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

_TRUNCATED = """
CREATE OR REPLACE FUNCTION count_tasks_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('compute.folds', 'sums', true);
    {}
    DELETE FROM work_counts WHERE kind = 'task';
    DELETE FROM work_news WHERE kind = 'task';
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.execute("CREATE FUNCTION leave_news() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$")
    op.execute(
        """
        CREATE TRIGGER work_news_left BEFORE DELETE ON work_news FOR EACH ROW
        WHEN (coalesce(current_setting('compute.folds', true), '') <> 'sums') EXECUTE FUNCTION leave_news()
        """
    )
    op.execute(_TRUNCATED.format("DELETE FROM work_sums WHERE kind = 'task';"))


def downgrade() -> None:
    op.execute(_TRUNCATED.format(""))
    op.execute("DROP TRIGGER work_news_left ON work_news")
    op.execute("DROP FUNCTION leave_news()")

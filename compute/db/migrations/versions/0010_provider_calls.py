"""Paid calls to providers, the health of their accounts, and the text of runs that say some."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_UPGRADE = (
    """
    CREATE TABLE provider_calls (
        id UUID NOT NULL PRIMARY KEY,
        task_id UUID,
        fence BIGINT,
        part TEXT NOT NULL,
        attempt SMALLINT NOT NULL,
        tenant TEXT,
        task_type TEXT,
        provider TEXT NOT NULL,
        vendor TEXT NOT NULL,
        account TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        state TEXT NOT NULL,
        vendor_id TEXT,
        addresses JSONB DEFAULT '{}'::jsonb NOT NULL,
        result JSONB,
        error TEXT,
        error_category TEXT,
        requests JSONB DEFAULT '[]'::jsonb NOT NULL,
        units JSONB DEFAULT '{}'::jsonb NOT NULL,
        amount NUMERIC(18, 6),
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        accepted_at TIMESTAMP WITH TIME ZONE,
        uncertain_at TIMESTAMP WITH TIME ZONE,
        ended_at TIMESTAMP WITH TIME ZONE
    )
    """,
    "CREATE UNIQUE INDEX provider_calls_of_task ON provider_calls (task_id, provider, part, attempt)",
    "CREATE INDEX provider_calls_open ON provider_calls (vendor, account) WHERE state IN ('INTENT', 'ACCEPTED')",
    "CREATE INDEX provider_calls_uncertain ON provider_calls (created_at, id) WHERE state = 'UNCERTAIN'",
    "CREATE INDEX provider_calls_of_vendor ON provider_calls (vendor, vendor_id) WHERE vendor_id IS NOT NULL",
    "CREATE INDEX provider_calls_of_account ON provider_calls (vendor, account, created_at)",
    """
    CREATE TABLE provider_accounts (
        vendor TEXT NOT NULL,
        account TEXT NOT NULL,
        failures INTEGER DEFAULT '0' NOT NULL,
        openings INTEGER DEFAULT '0' NOT NULL,
        open_until TIMESTAMP WITH TIME ZONE,
        probe_until TIMESTAMP WITH TIME ZONE,
        paused_until TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (vendor, account)
    )
    """,
    """
    CREATE TABLE task_texts (
        task_id UUID NOT NULL PRIMARY KEY,
        fence BIGINT NOT NULL,
        text TEXT NOT NULL
    )
    """,
    # They go with their task, as its events do; but for those that a vendor may still be working on, or be paid for.
    """
    CREATE OR REPLACE FUNCTION forget_task_events() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM task_events USING gone WHERE task_events.task_id = gone.id;
        DELETE FROM provider_calls USING gone
         WHERE provider_calls.task_id = gone.id AND state NOT IN ('INTENT', 'ACCEPTED', 'UNCERTAIN');
        DELETE FROM task_texts USING gone WHERE task_texts.task_id = gone.id;
        RETURN NULL;
    END $$
    """,
)

_DOWNGRADE = (
    """
    CREATE OR REPLACE FUNCTION forget_task_events() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM task_events USING gone WHERE task_events.task_id = gone.id;
        RETURN NULL;
    END $$
    """,
    "DROP TABLE task_texts",
    "DROP TABLE provider_accounts",
    "DROP TABLE provider_calls",
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)

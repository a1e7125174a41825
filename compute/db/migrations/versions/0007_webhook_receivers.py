"""Webhooks that wait are found by their receiver, so that the backlog of a dead one is not read to reach the others'.

The indexes are built beside running work. Where that was broken off, what it left is of no use and goes first.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_RECEIVER = "lower(left(split_part(split_part(split_part(url, '/', 3), '?', 1), '#', 1) COLLATE \"C\", 255))"
_COLUMNS = {
    "webhook_deliveries_receiver": f"{_RECEIVER}, next_attempt_at",
    "webhook_deliveries_age": "created_at",
    "webhook_deliveries_due": "next_attempt_at",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        _build("webhook_deliveries_receiver")
        _build("webhook_deliveries_age")
        _drop("webhook_deliveries_due")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        _build("webhook_deliveries_due")
        _drop("webhook_deliveries_age")
        _drop("webhook_deliveries_receiver")


def _build(name: str) -> None:
    _drop(name)
    op.execute(f"CREATE INDEX CONCURRENTLY {name} ON webhook_deliveries ({_COLUMNS[name]}) WHERE status = 'PENDING'")


def _drop(name: str) -> None:
    op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")

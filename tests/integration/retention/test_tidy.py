"""What the system keeps for a while is forgotten in small batches."""

from datetime import timedelta

from sqlalchemy import func, insert, select, text

from compute.db.session import Database
from compute.db.tables import DispatcherBeat, IdempotencyKey, TenantTurn
from compute.retention.tidy import tidy

LONG_AGO = func.now() - timedelta(days=8)


async def test_one_locked_row_delays_itself_alone(database: Database) -> None:
    old = [{"key": f"old-{place}", "fingerprint": "f", "status_code": 201, "answer": "{}"} for place in range(2500)]
    turns = [{"queue": "image", "tenant": f"old-{place}"} for place in range(1200)]
    async with database.transaction() as session:
        await session.execute(insert(IdempotencyKey).values(created_at=LONG_AGO), old)
        await session.execute(insert(TenantTurn).values(served_at=LONG_AGO), turns)
        await session.execute(insert(DispatcherBeat).values(id="old", pools={}, seen_at=LONG_AGO))
        await session.execute(insert(IdempotencyKey).values(created_at=func.now()), [old[0] | {"key": "new"}])
        await session.execute(insert(TenantTurn).values(served_at=func.now()), [{"queue": "image", "tenant": "new"}])
        await session.execute(insert(DispatcherBeat).values(id="new", pools={}, seen_at=func.now()))

    async with database.engine.begin() as somebody:
        await somebody.execute(text("SELECT 1 FROM idempotency_keys WHERE key = 'old-1' FOR UPDATE"))
        await somebody.execute(text("SELECT 1 FROM tenant_turns WHERE tenant = 'old-2' FOR UPDATE"))
        await tidy(database)

    async with database.transaction() as session:
        assert set(await session.scalars(select(IdempotencyKey.key))) == {"new", "old-1"}
        assert set(await session.scalars(select(TenantTurn.tenant))) == {"new", "old-2"}
        assert set(await session.scalars(select(DispatcherBeat.id))) == {"new"}
    await tidy(database)
    async with database.transaction() as session:
        assert set(await session.scalars(select(IdempotencyKey.key))) == {"new"}
        assert set(await session.scalars(select(TenantTurn.tenant))) == {"new"}

"""Common behaviour of all connections, whoever makes them."""

import pytest
from sqlalchemy import text

from compute.db.direct import DirectConnection, ThreadDirectConnection, connect_by_key
from compute.db.session import Connection, Database

_SETTING = "SHOW max_parallel_workers_per_gather"


@pytest.mark.parametrize("pooled", [False, True])
async def test_no_statement_is_shared_by_processes_of_the_server(database_url: str, pooled: bool) -> None:
    """Small ones would be, by their estimates, and wait for these processes longer than they take."""

    async def ask(connection: Connection) -> str:
        ((setting,),) = await (await connection.execute(_SETTING)).fetchall()
        return str(setting)

    database = Database(database_url, pooled=pooled)
    async with database.transaction() as session:
        assert await session.scalar(text(_SETTING)) == "0"
    for by_key in (False, True):
        direct = DirectConnection(database, by_key=by_key)
        assert await direct.run(ask) == "0"
        await direct.close()
    if not pooled:
        async with await connect_by_key(database) as connection:
            assert await ask(connection) == "0"
    thread = ThreadDirectConnection(database_url, database.patience, pooled=pooled)
    assert thread.run(lambda connection: connection.execute(_SETTING).fetchall()) == [("0",)]
    thread.close()
    await database.close()

"""One process at a time does a work that is of no use twice."""

from compute.db.session import Connection

__all__ = ["let_go", "take_lead"]

_TAKE = """
INSERT INTO leaders (name, owner, expires_at) VALUES (%(name)s, %(owner)s, now() + %(seconds)s * interval '1 second')
ON CONFLICT (name) DO UPDATE SET owner = EXCLUDED.owner, expires_at = EXCLUDED.expires_at
 WHERE leaders.owner = EXCLUDED.owner OR leaders.expires_at < now()
RETURNING owner
"""
_LET_GO = "DELETE FROM leaders WHERE name = %(name)s AND owner = %(owner)s"


async def take_lead(connection: Connection, name: str, owner: str, seconds: float) -> bool:
    """Whether `owner` leads the work `name` for the next `seconds`; whoever leads renews it by this call."""
    answer = await connection.execute(_TAKE, {"name": name, "owner": owner, "seconds": seconds})
    return await answer.fetchone() is not None


async def let_go(connection: Connection, name: str, owner: str) -> None:
    """Leave the lead to the next one at once."""
    await connection.execute(_LET_GO, {"name": name, "owner": owner})

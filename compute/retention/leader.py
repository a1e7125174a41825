"""Leader election by a row with an expiry time, so that one process at a time does a job."""

from compute.db.session import Connection

__all__ = ["acquire_lead", "release_lead"]

_ACQUIRE = """
INSERT INTO leaders (name, owner, expires_at) VALUES (%(name)s, %(owner)s, now() + %(seconds)s * interval '1 second')
ON CONFLICT (name) DO UPDATE SET owner = EXCLUDED.owner, expires_at = EXCLUDED.expires_at
 WHERE leaders.owner = EXCLUDED.owner OR leaders.expires_at < now()
RETURNING owner
"""
_RELEASE = "DELETE FROM leaders WHERE name = %(name)s AND owner = %(owner)s"


async def acquire_lead(connection: Connection, name: str, owner: str, seconds: float) -> bool:
    """Make `owner` the leader of the job `name` for the next `seconds`, or extend its lead; return False if another one
    leads."""
    answer = await connection.execute(_ACQUIRE, {"name": name, "owner": owner, "seconds": seconds})
    return await answer.fetchone() is not None


async def release_lead(connection: Connection, name: str, owner: str) -> None:
    """Give up the lead at once, so that another process need not wait until it expires."""
    await connection.execute(_RELEASE, {"name": name, "owner": owner})

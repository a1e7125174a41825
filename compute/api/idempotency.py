"""`Idempotency-Key`: the same request sent again gets the first answer, and nothing happens twice."""

import hashlib
import json
from typing import Annotated, Any

from fastapi import Header, Request, Response
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.session import Database
from compute.db.tables import IdempotencyKey
from compute.tasks.submission import Answer, RequestKey, key_reused

__all__ = ["REPLAYED_HEADER", "IdempotencyHeader", "IdempotentRequest", "ReplayError", "respond"]

REPLAYED_HEADER = "Idempotency-Replayed"
IdempotencyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Any text of your own. Sent again with the same body within two days, it replays the first "
        "answer; with another body it is refused.",
    ),
]


def respond(answer: Answer) -> Response:
    """The answer as the bytes that are sent: a replay is the same to the last one."""
    headers = {REPLAYED_HEADER: "true"} if answer.replayed else None
    return Response(answer.body, answer.status_code, headers, media_type="application/json")


class ReplayError(Exception):
    """Another request with this key was first: roll back and give its answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("answered before")
        self.answer = answer


class IdempotentRequest:
    """One creating request. Without a key nothing is found and nothing is remembered."""

    def __init__(self, key: str | None, request: Request, content: Any) -> None:
        self.key = RequestKey(key, _fingerprint(request, content)) if key else None

    async def replay(self, database: Database) -> Response | None:
        """The first answer to this key, if it was used before.

        Raises:
            InvalidInput: the key came with another body.
        """
        if self.key is None:
            return None
        async with database.transaction() as session:
            answer = await self.earlier(session)
        return respond(answer) if answer else None

    async def earlier(self, session: AsyncSession) -> Answer | None:
        """The first answer to this key.

        Raises:
            InvalidInput: the key came with another body.
        """
        row = await session.get(IdempotencyKey, self.key.text) if self.key else None
        if self.key is None or row is None:
            return None
        if row.fingerprint != self.key.fingerprint:
            raise key_reused()
        return Answer(row.status_code, row.answer, replayed=True)

    async def remember(self, session: AsyncSession, answer: Answer) -> None:
        """Keep `answer` in the transaction that makes it true.

        Raises:
            ReplayError: a request with the same key was committed meanwhile.
            InvalidInput: the same, with another body.
        """
        if self.key is None:
            return
        inserted = await session.scalar(
            insert(IdempotencyKey)
            .values(
                key=self.key.text,
                fingerprint=self.key.fingerprint,
                status_code=answer.status_code,
                answer=answer.body,
            )
            .on_conflict_do_nothing()
            .returning(IdempotencyKey.key)
        )
        if inserted is None:
            earlier = await self.earlier(session)
            if earlier is not None:
                raise ReplayError(earlier)


def _fingerprint(request: Request, content: Any) -> str:
    said = json.dumps([request.method, request.url.path, content], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()

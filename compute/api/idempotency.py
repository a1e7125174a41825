"""`Idempotency-Key`: the same request sent again gets the first answer, and nothing happens twice."""

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header, Request, Response
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.tables import IdempotencyKey
from compute.errors import InvalidInput

__all__ = ["REPLAYED_HEADER", "Answer", "IdempotencyHeader", "IdempotentRequest", "ReplayError"]

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


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, as the bytes that are sent: a replay is the same to the last one."""

    status_code: int
    body: str

    def response(self, *, replayed: bool = False) -> Response:
        headers = {REPLAYED_HEADER: "true"} if replayed else None
        return Response(self.body, self.status_code, headers, media_type="application/json")


class ReplayError(Exception):
    """Another request with this key was first: roll back and give its answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("answered before")
        self.answer = answer


class IdempotentRequest:
    """One creating request. Without a key, `earlier` finds nothing and `remember` does nothing."""

    def __init__(self, key: str | None, request: Request, content: Any) -> None:
        self._key = key
        said = json.dumps([request.method, request.url.path, content], sort_keys=True)
        self._fingerprint = hashlib.sha256(said.encode()).hexdigest()

    async def earlier(self, session: AsyncSession) -> Answer | None:
        """The first answer to this key.

        Raises:
            InvalidInput: the key came with another body.
        """
        row = await session.get(IdempotencyKey, self._key) if self._key else None
        if row is None:
            return None
        if row.fingerprint != self._fingerprint:
            raise InvalidInput("This key was used for another request.", field="Idempotency-Key")
        return Answer(row.status_code, row.answer)

    async def remember(self, session: AsyncSession, answer: Answer) -> None:
        """Keep `answer` in the transaction that makes it true.

        Raises:
            ReplayError: a request with the same key was committed meanwhile.
            InvalidInput: the same, with another body.
        """
        if not self._key:
            return
        inserted = await session.scalar(
            insert(IdempotencyKey)
            .values(key=self._key, fingerprint=self._fingerprint, status_code=answer.status_code, answer=answer.body)
            .on_conflict_do_nothing()
            .returning(IdempotencyKey.key)
        )
        if inserted is None:
            earlier = await self.earlier(session)
            if earlier is not None:
                raise ReplayError(earlier)

"""`Idempotency-Key`: the same POST sent again gets the first answer, and nothing happens twice.

One request with a key is at work at a time; the others wait for it and get its answer. What a request changes in the
database and its key are committed together. Only answers of success are kept: a request that was refused, or that
failed, has changed nothing and may be sent again with its key.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Self
from uuid import UUID
from weakref import WeakValueDictionary

from fastapi import Header, Request, Response
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import Scope

from compute.api.access.audit import note_made
from compute.api.access.caller import Caller, caller_in
from compute.api.http.well_formed import announced
from compute.db.session import Database, connection_of
from compute.db.tables import IdempotencyKey, Task
from compute.errors import Conflict, InvalidInput, LimitReached, NotFound, Unavailable
from compute.tasks.submission.quotas import Charge, Quota, begin_anew, charge, require_room
from compute.tasks.submission.writer import Key, KeyExpired, KeyReused, OutcomeUnknown, Submission, TaskWriter

__all__ = [
    "KEY_HEADER",
    "REPLAYED_HEADER",
    "Answer",
    "IdempotencyHeader",
    "IdempotentRequest",
    "ReplayError",
    "RequestKey",
    "respond",
]

KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
_LONGEST_WAIT_SECONDS = 30.0
_LOOK_SECONDS = 0.05
_SMALL_BODY = 64 * 1024
_LONG_TEXT = 1024 * 1024
_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
IdempotencyHeader = Annotated[
    str | None,
    Header(
        alias=KEY_HEADER,
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Any text of your own. Sent again with the same query and body within two days, it replays the "
        "first answer; with others it is refused.",
    ),
]


@dataclass(frozen=True, slots=True)
class RequestKey:
    """An `Idempotency-Key` in the room of its caller, and what tells its request from another one."""

    text: str
    fingerprint: str

    @property
    def digest(self) -> str:
        """A name (sha256, hex) of this very request under this very key."""
        return hashlib.sha256(f"{self.text} {self.fingerprint}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was, or will be, sent. `replayed`: it was an earlier request's."""

    status_code: int
    body: str
    replayed: bool = False


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
    """One POST. Without a key nothing is found and nothing is remembered."""

    def __init__(self, key: RequestKey | None, quotas: Sequence[Quota] = (), scope: Scope | None = None) -> None:
        """`quotas` are the caller's, against which the work counts that the request makes. What it makes is noted in
        `scope`, for the audit log."""
        self.key = key
        self.quotas = quotas
        self._scope: Scope = {} if scope is None else scope

    @classmethod
    async def of(cls, key: str | None, request: Request, content: Any) -> Self:
        """A request as its headers and body make it. `content` is what the body says: two bodies that say the same have
        equal ones."""
        caller = caller_in(request.scope)
        quotas = () if caller is None else caller.quotas
        if key is None:
            return cls(None, quotas, request.scope)
        key = _of_caller(key, caller)
        # A thread takes as long with the text of an image, but others have their turns meanwhile.
        size = announced(request.headers)
        if size is None or size > _SMALL_BODY:
            return cls(RequestKey(key, await asyncio.to_thread(_fingerprint, request, content)), quotas, request.scope)
        return cls(RequestKey(key, _fingerprint(request, content)), quotas, request.scope)

    async def settle(self, database: Database, act: Callable[[], Awaitable[Answer]]) -> Response:
        """Replay the first answer to this key, or else `act`, which does its work in `once`.

        Raises:
            InvalidInput: the key came with another request.
        """
        if replay := await self.replay(database):
            return replay
        try:
            return respond(await act())
        except ReplayError as first:
            return respond(first.answer)
        except (Conflict, NotFound):
            # Perhaps only because the first request with this key has done it meanwhile.
            if replay := await self.replay(database):
                return replay
            raise

    async def replay(self, database: Database) -> Response | None:
        """The first answer to this key, if it was used before.

        Raises:
            InvalidInput: the key came with another request.
        """
        if self.key is None:
            return None
        async with database.transaction() as session:
            answer = await self.earlier(session)
        return respond(answer) if answer else None

    @asynccontextmanager
    async def once(self, database: Database) -> AsyncIterator[AsyncSession]:
        """The transaction in which the request does what it does, and remembers its answer. With a key it begins when
        no other request with this key is in one, and every transaction inside joins it.

        Raises:
            ReplayError: a request with this key was answered before.
            InvalidInput: the key came with another request.
            Unavailable: an earlier request with this key takes too long.
        """
        if self.key is None:
            async with database.transaction() as session:
                yield session
            return
        # Those of one process wait here, so that they hold one connection together.
        turn = _turns.setdefault(self.key.text, asyncio.Lock())
        async with turn, database.shared_transaction() as session:
            await _take_turn(session, self.key.text)
            if (earlier := await self.earlier(session)) is not None:
                raise ReplayError(earlier)
            yield session

    async def earlier(self, session: AsyncSession) -> Answer | None:
        """The first answer to this key.

        Raises:
            InvalidInput: the key came with another request.
        """
        row = await session.get(IdempotencyKey, self.key.text) if self.key else None
        if self.key is None or row is None:
            return None
        if row.fingerprint != self.key.fingerprint:
            raise _key_reused()
        return _earlier_answer(row)

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
            .values(_kept(self.key, answer))
            .on_conflict_do_nothing()
            .returning(IdempotencyKey.key)
        )
        if inserted is None:
            # Tasks are stored by a writer of their own, which does not wait for others.
            earlier = await self.earlier(session)
            if earlier is not None:
                raise ReplayError(earlier)

    def made(self, *objects: object) -> None:
        """Note what the request makes, whose ids its address does not have."""
        note_made(self._scope, *objects)

    @property
    def key_id(self) -> UUID | None:
        """The caller's key, if it is one that was given out."""
        caller = caller_in(self._scope)
        return None if caller is None else caller.key_id

    async def require_room(self, database: Database, number: int = 1, *, field: str = "body") -> None:
        """Refuse what is too much for the caller's quotas before anything is fetched and stored for it. `number` is
        how many tasks it is. Whether it is accepted is settled when it is stored.

        Raises:
            ReplayError: a request with this key was answered meanwhile.
            InvalidInput: the quotas never have room for so many; `field` names them.
            LimitReached: they have none now.
        """
        if not self.quotas:
            return
        async with database.transaction() as session:
            try:
                await require_room(await connection_of(session), self.quotas, number, field=field)
            except LimitReached:
                # Perhaps it was the first request with this key that has taken the room.
                if (earlier := await self.earlier(session)) is not None:
                    raise ReplayError(earlier) from None
                raise

    async def charge(
        self, session: AsyncSession, work: UUID, kind: str, *, weight: int = 1, daily: int | None = None
    ) -> None:
        """Count a workflow or a training against the caller's quotas, in the transaction that stores it.

        Raises:
            LimitReached: it is too much; the transaction is to be rolled back.
        """
        if self.quotas:
            await charge(await connection_of(session), Charge(self.quotas, [work], kind, weight, daily))

    async def charge_again(self, session: AsyncSession, workflow: UUID, steps: int, again: Sequence[UUID]) -> None:
        """Count a workflow that goes on: all its steps as open, and for the day those that are run again.

        Raises:
            LimitReached: it is too much; the transaction is to be rolled back.
        """
        await begin_anew(await connection_of(session), again)
        await self.charge(session, workflow, "workflow", weight=steps, daily=len(again))

    async def store(self, writer: TaskWriter, tasks: Sequence[Task], answer: Callable[[], Awaitable[Answer]]) -> Answer:
        """Store tasks together, and with them the answer, which is made when their times are known; or the first answer
        to this key.

        Raises:
            InvalidInput: the key came with another request.
            LimitReached: it is more than the caller's quotas allow.
            Unavailable: the database is away or too slow, or this process stops. Nothing was stored, unless the error
                says that this is not known.
        """
        if self.key is None:
            await self._submit(writer, Submission(tasks, quotas=self.quotas))
            self.made(*(task.id for task in tasks))
            return await answer()
        key, made = self.key, []

        async def row() -> IdempotencyKey:
            made.append(await answer())
            return IdempotencyKey(**_kept(key, made[-1]))

        earlier = await self._submit(writer, Submission(tasks, Key(key.text, key.fingerprint, row), self.quotas))
        if earlier is not None:
            return _earlier_answer(earlier)
        self.made(*(task.id for task in tasks))
        return made[-1]

    async def _submit(self, writer: TaskWriter, submission: Submission) -> IdempotencyKey | None:
        try:
            return await writer.submit(submission)
        except KeyReused as error:
            raise _key_reused() from error
        except KeyExpired as error:
            raise Unavailable(f"The first answer to this {KEY_HEADER} has just expired; try again.") from error
        except OutcomeUnknown as error:
            raise Unavailable(f"{error.detail} With an {KEY_HEADER} it is safe to send it again.") from error


def _of_caller(key: str, caller: Caller | None) -> str:
    """The key in the room of its caller: what one tenant, or the holder of one key, has used is nothing to others. Both
    keys of the settings have one room. The space can be in no key."""
    if caller is None or (caller.tenant is None and caller.key_id is None):
        return key
    room = f"tenant:{caller.tenant}" if caller.tenant is not None else f"key:{caller.key_id}"
    return f"{room} {key}"


def _kept(key: RequestKey, answer: Answer) -> dict[str, Any]:
    """The columns of a key's row."""
    given = {"key": key.text, "fingerprint": key.fingerprint}
    return given | {"status_code": answer.status_code, "answer": answer.body}


def _earlier_answer(row: IdempotencyKey) -> Answer:
    return Answer(row.status_code, row.answer, replayed=True)


def _key_reused() -> InvalidInput:
    return InvalidInput("This key was used for another request.", field=KEY_HEADER)


def _fingerprint(request: Request, content: Any) -> str:
    query = sorted(request.query_params.multi_items())
    asked = [request.method, request.url.path, *([query] if query else []), _condensed(content)]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _condensed(value: Any) -> Any:
    """A body with the digests of its long texts in their places."""
    if isinstance(value, dict):
        return {name: _condensed(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_condensed(one) for one in value]
    if not isinstance(value, str) or len(value) <= _LONG_TEXT:
        return value
    digest = hashlib.sha256()
    # One piece at a time, between which other threads have their turns.
    for start in range(0, len(value), _LONG_TEXT):
        digest.update(value[start : start + _LONG_TEXT].encode())
    return ["sha256", digest.hexdigest()]


async def _take_turn(session: AsyncSession, key: str) -> None:
    """Wait until no transaction of another process has this key; it is this one's then. Asked again and again: one
    statement that waits would be stopped at its time limit."""
    clock = asyncio.get_running_loop()
    give_up_at = clock.time() + _LONGEST_WAIT_SECONDS
    while not await session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtextextended(key, 0)))):
        if clock.time() > give_up_at:
            raise Unavailable("An earlier request with this Idempotency-Key is still being carried out; try again.")
        await asyncio.sleep(_LOOK_SECONDS)

"""Settles paid calls whose outcome is unknown: by an operator's word, or by a vendor's webhook.

A call whose task has ended can only be given up: nobody would take its result any more, and nobody would send it.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.tables import ProviderCall, Task
from compute.errors import Conflict, InvalidInput, NotFound
from compute.providers.calls.call import CallState
from compute.providers.calls.protocol import QueueProtocol
from compute.providers.vendors.reopened import reopened
from compute.schemas.calls import SettleAction
from compute.schemas.enums import TaskStatus
from compute.settings import Settings
from compute.tasks import store
from compute.tasks.states import TERMINAL

__all__ = ["Settled", "find_call", "protocol_of", "settle", "settle_by_webhook"]

_STATES = {
    "collect": CallState.ACCEPTED,
    "give_up": CallState.GIVEN_UP,
    "send_again": CallState.RESENT,
}
_WEBHOOK = "webhook"
_NOT_KNOWN = frozenset({CallState.INTENT, CallState.UNCERTAIN})


@dataclass(frozen=True, slots=True)
class Settled:
    """A call that is settled. `queue` is where its task waits, to be notified; None if it does not."""

    call: ProviderCall
    queue: str | None


async def find_call(session: AsyncSession, call_id: UUID) -> ProviderCall:
    """Raises:
    NotFound: there is no such call.
    """
    return _found(await session.get(ProviderCall, call_id), call_id)


def protocol_of(call: ProviderCall, settings: Settings) -> QueueProtocol:
    """The protocol by which an uncertain call's result can be had.

    Raises:
        Conflict: its vendor has no queue, or the key is not set; or it is not uncertain.
    """
    _require_uncertain(call)
    try:
        protocol = reopened(call.vendor, call.endpoint, settings)
    except InvalidInput as missing:
        raise Conflict(f"The call {call.id} cannot be collected: {missing.detail}") from missing
    if protocol is None:
        raise Conflict(
            f"The call {call.id} cannot be collected: {call.vendor} answers at once, and keeps nothing that could be "
            "asked for by its id. Use `give_up` or `send_again`."
        )
    return protocol


async def settle(session: AsyncSession, call_id: UUID, action: SettleAction, vendor_id: str | None) -> Settled:
    """Do what an operator says with an uncertain call, and wake its task. Of two operators, one is refused.

    Raises:
        NotFound: there is no such call.
        Conflict: it is not uncertain; or the vendor's request is another call's; or its task has ended, and the action
            is not `give_up`.
    """
    call, task = await _locked(session, call_id)
    _require_uncertain(call)
    if action != "give_up" and task is not None and task.status in TERMINAL:
        raise Conflict(
            f"The task {task.id} is {TaskStatus(task.status)}: nobody would take the result of the call {call_id}. Use "
            "`give_up`."
        )
    if action == "collect" and task is None:
        raise Conflict(f"The call {call_id} is of no task: nobody would take its result. Use `give_up`.")
    if vendor_id is not None:
        if await _is_anothers(session, call, vendor_id):
            raise Conflict(f"The request {vendor_id} of {call.vendor} is another call's.")
        call.vendor_id = vendor_id
    call.state = _STATES[action]
    if action != "collect":
        call.ended_at = await _now(session)
    return await _settled(session, call, task, action)


async def settle_by_webhook(session: AsyncSession, call_id: UUID, vendor_id: str) -> Settled:
    """The vendor has told its id of a call. If nobody knew it, the call is accepted and its task woken; otherwise
    nothing changes.

    Raises:
        NotFound: there is no such call.
    """
    call, task = await _locked(session, call_id)
    if call.state not in _NOT_KNOWN or await _is_anothers(session, call, vendor_id):
        return Settled(call, None)
    call.state, call.vendor_id = CallState.ACCEPTED, vendor_id
    return await _settled(session, call, task, _WEBHOOK)


async def _settled(session: AsyncSession, call: ProviderCall, task: Task | None, by: str) -> Settled:
    now = await _now(session)
    call.settled, call.settled_at = by, now
    if call.state == CallState.ACCEPTED:
        call.accepted_at, call.error = now, None
    return Settled(call, None if task is None else await store.wake(session, task))


async def _is_anothers(session: AsyncSession, call: ProviderCall, vendor_id: str) -> bool:
    """Whether the vendor's request is known as that of another call: its result is not this one's."""
    others = select(ProviderCall.id).where(
        ProviderCall.vendor == call.vendor, ProviderCall.vendor_id == vendor_id, ProviderCall.id != call.id
    )
    return await session.scalar(others.limit(1)) is not None


def _require_uncertain(call: ProviderCall) -> None:
    if call.state != CallState.UNCERTAIN:
        raise Conflict(f"The call {call.id} is {call.state}; only one that is UNCERTAIN can be settled.")


async def _locked(session: AsyncSession, call_id: UUID) -> tuple[ProviderCall, Task | None]:
    known = await find_call(session, call_id)
    task = None
    if known.task_id is not None:
        # First the task, as whoever removes a task with its calls.
        task = await session.get(Task, known.task_id, populate_existing=True, with_for_update=True)
    call = await session.get(ProviderCall, call_id, populate_existing=True, with_for_update=True)
    return _found(call, call_id), task


def _found(call: ProviderCall | None, call_id: UUID) -> ProviderCall:
    if call is None:
        raise NotFound(f"There is no call {call_id}.")
    return call


async def _now(session: AsyncSession) -> datetime:
    now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return now

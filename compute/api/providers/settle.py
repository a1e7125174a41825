"""Settles a paid call whose outcome is unknown, as an operator says."""

from dataclasses import replace
from uuid import UUID

from compute.api.idempotency.keys import Answer, IdempotentRequest
from compute.api.providers.presenter import present_call
from compute.api.resources import Resources
from compute.errors import Conflict, InvalidInput, ProviderFailed, Unavailable
from compute.events import notify
from compute.providers.calls.outcomes import Accepted, NotDeliveredError, OutcomeUnknownError
from compute.providers.calls.protocol import Missing, QueueProtocol
from compute.providers.ledger.settling import find_call, protocol_of, settle
from compute.schemas.calls import SettleCall

__all__ = ["settle_call"]

_ASK_SECONDS = 15.0


async def settle_call(resources: Resources, call_id: UUID, said: SettleCall, idempotent: IdempotentRequest) -> Answer:
    """Raises:
    InvalidInput: `vendor_id` is missing, or not wanted.
    NotFound, Conflict: as `settle`; or the vendor does not know the id.
    Unavailable: the vendor could not be asked.
    """
    if said.action == "collect":
        if said.vendor_id is None:
            raise InvalidInput("The action `collect` needs the vendor's id of the request.", field="vendor_id")
        await _look_up(resources, call_id, said.vendor_id)
    elif said.vendor_id is not None:
        raise InvalidInput(f"The action `{said.action}` takes no id of the vendor's; leave it out.", field="vendor_id")
    async with idempotent.once(resources.database) as session:
        settled = await settle(session, call_id, said.action, said.vendor_id)
        shown = present_call(settled.call, resources.settings, whole=True)
        answer = Answer(200, shown.model_dump_json())
        await idempotent.remember(session, answer)
        if settled.queue is not None:
            resources.notifier.notify(notify.READY, settled.queue)
    return answer


async def _look_up(resources: Resources, call_id: UUID, vendor_id: str) -> None:
    """Ask the vendor, which is free, whether it knows the id: with a wrong one the task would find nothing, and send
    what may have been paid once more."""
    async with resources.database.transaction() as session:
        protocol = protocol_of(await find_call(session, call_id), resources.settings)
    if await _is_missing(resources, protocol, vendor_id):
        raise Conflict(f"The vendor {protocol.account.vendor} knows no request {vendor_id} of the account that is set.")


async def _is_missing(resources: Resources, protocol: QueueProtocol, vendor_id: str) -> bool:
    vendor = protocol.account.vendor
    try:
        request = replace(protocol.ask(Accepted(vendor_id)), seconds=_ASK_SECONDS)
        return isinstance(protocol.status(await resources.calls.http.ask(request, [])), Missing)
    except (NotDeliveredError, OutcomeUnknownError) as error:
        raise Unavailable(f"The vendor {vendor} could not be asked about {vendor_id}. {error}") from error
    except ProviderFailed as error:
        if error.hopeless:
            raise Conflict(f"The vendor {vendor} does not tell about {vendor_id}: {error.detail}") from error
        raise Unavailable(f"The vendor {vendor} could not be asked about {vendor_id}. {error.detail}") from error

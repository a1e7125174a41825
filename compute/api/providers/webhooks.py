"""The webhook that fal calls. It needs no key: fal signs it.

A submit whose answer was lost is found by it: the address names our call, and the webhook fal's request.
"""

from fastapi import APIRouter, Request, Response

from compute.api.deps import ResourcesDep
from compute.api.dialect import parsed_uuid
from compute.api.http.well_formed import announced
from compute.api.paths import WEBHOOKS
from compute.capacity import Capacity
from compute.errors import NotFound, TooLarge
from compute.events import notify
from compute.providers.ledger.settling import settle_by_webhook

__all__ = ["router"]

# In a document for clients of this API it would be out of place.
router = APIRouter(prefix=WEBHOOKS, include_in_schema=False)

_MOST_BYTES = 2**20
_AT_ONCE = Capacity(32, busy="Too many webhooks are being read at the moment; try again later.", waiting=200)


@router.post("/{call_id}", status_code=204)
async def receive_fal_webhook(call_id: str, request: Request, resources: ResourcesDep) -> Response:
    """What became of a request of ours. If nobody knew that fal has it, its task goes on now, and collects by its id;
    otherwise nothing changes: webhooks come late, and several times. 401 for one that fal has not signed."""
    head = resources.fal_webhooks.head(request.headers)
    async with _AT_ONCE.taken():
        body = await _body(request)
    await resources.fal_webhooks.verify(head, body)
    known = parsed_uuid(call_id)
    if known is None:
        raise NotFound("There is no such call.")
    async with resources.database.transaction() as session:
        settled = await settle_by_webhook(session, known, head.request_id)
    if settled.queue is not None:
        resources.notifier.notify(notify.READY, settled.queue)
    return Response(status_code=204)


async def _body(request: Request) -> bytes:
    """All of it, for the hash of it is signed.

    Raises:
        TooLarge: it has more bytes than are read of one.
    """
    size = announced(request.headers) or 0
    body = bytearray()
    if size <= _MOST_BYTES:
        async for chunk in request.stream():
            body += chunk
            size = len(body)
            if size > _MOST_BYTES:
                break
    if size > _MOST_BYTES:
        raise TooLarge(f"The body has more than {_MOST_BYTES} bytes.")
    return bytes(body)

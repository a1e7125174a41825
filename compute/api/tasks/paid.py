"""What a task has used: the ledger of paid calls says it of providers elsewhere, its own result of this cluster."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from compute.api.providers.presenter import service_requests
from compute.api.resources import Resources
from compute.db.tables import ProviderCall, Task
from compute.providers.calls.call import CallState
from compute.providers.ledger.queries import calls_of_task
from compute.schemas.enums import ProviderType
from compute.schemas.usage import TaskUsage
from compute.settings import Settings
from compute.tasks.prices import PriceTable, gpu_seconds_of
from compute.tasks.usage import UNITS

__all__ = ["paid_for"]


async def paid_for(resources: Resources, task: Task) -> dict[str, Any]:
    """The fields of a task that say so. Nothing is asked for a task that only this cluster has worked on."""
    local = task.provider_type in (None, ProviderType.LOCAL)
    if local and not task.spec.get("fell_back_from"):
        return {"usage": None if task.result is None else _usage(task, (), resources.settings)}
    async with resources.database.transaction() as session:
        calls = await calls_of_task(session, task.id)
    return {"service_requests": service_requests(calls), "usage": _usage(task, calls, resources.settings)}


def _usage(task: Task, calls: Sequence[ProviderCall], settings: Settings) -> TaskUsage:
    """The sum of the calls that were collected, and of the work of this cluster at its present price."""
    result = task.result or {}
    collected = [call for call in calls if call.state == CallState.COLLECTED]
    units: Counter[str] = Counter()
    for call in collected:
        units.update({name: call.units[name] for name in UNITS if name in call.units})
    amounts = [call.amount for call in collected] + [PriceTable(settings.prices).local_amount(result)]
    known = [amount for amount in amounts if amount is not None]
    gpu_seconds = gpu_seconds_of(result)
    return TaskUsage(
        calls=len(collected),
        uncertain_calls=sum(call.state == CallState.UNCERTAIN for call in calls),
        **units,
        gpu_seconds=gpu_seconds or None,
        amount=float(sum(known, Decimal())) if known else None,
        currency=settings.currency,
    )

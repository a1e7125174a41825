"""Room for the tasks of dealt steps under the limits of the key that set their workflow going, and of its tenant.

A workflow is counted with one task for each of its steps when it is set going. How many more tasks a step is, is known
when its lists are: they are counted here, before the step begins.
"""

import asyncio
import logging
from dataclasses import dataclass

from compute.db.session import Database, connection_of
from compute.errors import LimitReached
from compute.schemas.enums import ErrorCategory
from compute.tasks.submission.quotas import Charge, charge, quotas_of
from compute.workflows.plan import StepPlan
from compute.workflows.steps.failures import StepFailed
from compute.workflows.steps.patience import patiently

__all__ = ["StepRoom"]

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class StepRoom:
    """Counts dealt steps.

    Attributes:
        patience: For how many seconds a step waits for room, which others make by ending.
    """

    database: Database
    patience: float = 600.0

    async def take(self, plan: StepPlan, tasks: int) -> None:
        """Count a step that is to have so many tasks; at a second attempt it is counted already.

        Raises:
            StepFailed: there is never so much room, or none for now.
        """
        if tasks <= 1 or (plan.flow.key_id is None and plan.flow.bound_to is None):
            return
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self.patience
        while (refusal := await patiently(self._refusal, plan, tasks)) is not None:
            if loop.time() + refusal.retry_after > give_up_at:
                raise StepFailed(ErrorCategory.INVALID_INPUT, refusal.detail)
            _log.info("a step waits for room: %s", refusal.detail)
            await asyncio.sleep(min(refusal.retry_after, _LOOK_SECONDS))

    async def _refusal(self, plan: StepPlan, tasks: int) -> LimitReached | None:
        """Count the step, or return why there is no room for it.

        Raises:
            StepFailed: there is never so much.
        """
        try:
            async with self.database.transaction() as session:
                connection = await connection_of(session)
                quotas = await quotas_of(connection, plan.flow.key_id, plan.flow.bound_to)
                for quota in quotas:
                    least = min(most for most in (quota.concurrent, quota.daily, tasks) if most is not None)
                    if tasks > least:
                        raise StepFailed(
                            ErrorCategory.INVALID_INPUT,
                            f"The step is {tasks} tasks, and the limit of {quota.whose} is {least}.",
                        )
                # The step itself was counted with its workflow.
                if quotas:
                    await charge(connection, Charge(quotas, [plan.id], "step", tasks - 1), once=True)
        except LimitReached as refusal:
            return refusal
        return None

"""What is told of an attempt at a webhook: its span, its figures, and log lines with the id of what it tells of."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from compute.schemas.enums import EventType
from compute.telemetry.ids import bound
from compute.telemetry.instruments import WEBHOOK_ATTEMPTS
from compute.telemetry.traceparent import Traceparent
from compute.telemetry.tracing import Span, span
from compute.webhooks.retry import AttemptOutcome
from compute.webhooks.store import ClaimedDelivery

__all__ = ["about", "attempt"]

_IDS: dict[str, str] = {EventType.WORKFLOW_STATUS: "workflow_id", EventType.TRAINING_STATUS: "training_id"}


def about(claimed: ClaimedDelivery) -> AbstractContextManager[None]:
    """Within the block, and in asyncio tasks created there, log lines carry the id of what the webhook tells of."""
    name = _IDS.get(str(claimed.payload.get("event_type")), "task_id")
    traced = Traceparent.parse(claimed.traceparent)
    return bound(**{name: claimed.task_id}, trace_id=traced and traced.trace_id)


@contextmanager
def attempt(claimed: ClaimedDelivery) -> Iterator["WebhookAttempt"]:
    """Around one request to the receiver, which gets the span's `traceparent`."""
    with span(
        "webhook",
        parent=claimed.traceparent,
        kind="producer",
        compute__webhook__id=str(claimed.id),
        compute__webhook__attempt=claimed.attempts + 1,
        server__address=claimed.receiver,
    ) as sending:
        yield WebhookAttempt(sending)


class WebhookAttempt:
    """One attempt; `ended` is called once."""

    def __init__(self, sending: Span) -> None:
        self._span = sending

    def ended(self, outcome: AttemptOutcome) -> None:
        """It was answered, or not."""
        told = "delivered" if outcome.delivered else "refused" if outcome.status_code is not None else "failed"
        WEBHOOK_ATTEMPTS.observe(outcome.duration_ms / 1000, told)
        self._span.set(http__response__status_code=outcome.status_code)
        if not outcome.delivered:
            self._span.fail(outcome.error or told)

"""The client of the API: `Compute`, and `AsyncCompute` for asyncio.

    from compute.client import Compute

    with Compute("http://127.0.0.1:8000", key) as client:
        task = client.tasks.run(prompt="a red dress on a white background", width=512, height=512)
        client.tasks.download(task, "pictures")

It needs httpx and pydantic, and nothing of the server. docs/client.md has everything that it can do.

Names are imported when they are asked for, so that nobody waits for what they do not use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compute.client.aio.client import AsyncCompute
    from compute.client.common.config import is_loopback
    from compute.client.common.failures import Failure, RetryPolicy
    from compute.client.errors import (
        APIError,
        ArgumentError,
        BadRequestError,
        ClientError,
        ClosedError,
        ConfigurationError,
        ConflictError,
        EndedBadly,
        FieldFault,
        ForbiddenError,
        IntegrityError,
        InternalError,
        InvalidInputError,
        MethodNotAllowedError,
        NoAnswer,
        NotFoundError,
        OverloadedError,
        PreconditionFailedError,
        RangeError,
        RateLimitedError,
        SecretLostError,
        StorageError,
        TooLargeError,
        TooSlowError,
        UnauthorizedError,
        UnavailableError,
        UnexpectedAnswer,
        UnsupportedMediaTypeError,
        WaitTimeout,
        WebhookError,
    )
    from compute.client.events import Event
    from compute.client.models import Task, Training, Workflow
    from compute.client.sync.client import Compute
    from compute.client.webhooks import verify_webhook

__all__ = [
    "APIError",
    "ArgumentError",
    "AsyncCompute",
    "BadRequestError",
    "ClientError",
    "ClosedError",
    "Compute",
    "ConfigurationError",
    "ConflictError",
    "EndedBadly",
    "Event",
    "Failure",
    "FieldFault",
    "ForbiddenError",
    "IntegrityError",
    "InternalError",
    "InvalidInputError",
    "MethodNotAllowedError",
    "NoAnswer",
    "NotFoundError",
    "OverloadedError",
    "PreconditionFailedError",
    "RangeError",
    "RateLimitedError",
    "RetryPolicy",
    "SecretLostError",
    "StorageError",
    "Task",
    "TooLargeError",
    "TooSlowError",
    "Training",
    "UnauthorizedError",
    "UnavailableError",
    "UnexpectedAnswer",
    "UnsupportedMediaTypeError",
    "WaitTimeout",
    "WebhookError",
    "Workflow",
    "is_loopback",
    "verify_webhook",
]

_ELSEWHERE = {
    "AsyncCompute": "aio.client",
    "Compute": "sync.client",
    "Event": "events",
    "Failure": "common.failures",
    "RetryPolicy": "common.failures",
    "Task": "models",
    "Training": "models",
    "Workflow": "models",
    "is_loopback": "common.config",
    "verify_webhook": "webhooks",
}
"""The modules of what is not an error."""


def __getattr__(name: str) -> Any:
    """Import a name of this package when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    found = getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'errors')}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)

"""Every error that crosses a boundary of this project.

    ComputeError              an error with a stable `code`
    ├── BadRequest            the request itself is malformed: an id, a query parameter, a header
    ├── InvalidInput          the payload is wrong; `field` says where
    │   └── FileAway          a file that it names cannot be had just now
    ├── InvalidFields         several fields of the payload are wrong; `faults` lists them
    ├── Unauthorized          no key, or an unknown one
    │   ├── ExpiredKey        the right secret of a key whose time is over
    │   └── RevokedKey        the right secret of a key that was taken back
    ├── Forbidden             a valid key without the right
    ├── LimitReached          a valid key that has used up what it, or its tenant, may use
    ├── NotFound              no such task, image or model
    ├── Conflict              an action that the present state forbids
    ├── TooLarge              more bytes than a limit allows
    ├── Unavailable           a dependency is down; nothing was accepted
    │   └── Overloaded        too much is being done already; come back later
    └── TaskFailed            a task's run ended badly; `category` decides what happens next
        ├── OutOfMemory
        ├── StorageFailed
        │   └── StorageAway   and would do it later
        ├── WorkerLost        the replica is dead or unwell; a run that had not begun costs its task nothing
        ├── LeaseLost         the run is no longer its task's, which was cancelled or taken over
        └── ProviderFailed    another service refused, or failed; nothing was paid
            └── CallUncertain     whether it did what it was asked for is not known
    Interrupted               a run was asked to stop; not an error of the task

All of them survive pickling, because Ray carries them between processes. The HTTP status of each is the API's affair.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

from compute.schemas.enums import ErrorCategory
from compute.schemas.rules.sentences import Fault

__all__ = [
    "BadRequest",
    "CallUncertain",
    "ComputeError",
    "Conflict",
    "ExpiredKey",
    "FileAway",
    "Forbidden",
    "Interrupted",
    "InvalidFields",
    "InvalidInput",
    "LeaseLost",
    "LimitReached",
    "NotFound",
    "OutOfMemory",
    "Overloaded",
    "ProviderFailed",
    "RevokedKey",
    "StorageAway",
    "StorageFailed",
    "TaskFailed",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "WorkerLost",
]


class ComputeError(Exception):
    """An error that an API client may see, as `{"detail": …, "code": …}`."""

    code: ClassVar[str] = "INTERNAL"

    def __init__(self, detail: str, **context: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.context = context

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.detail, self.context)


def _rebuild(cls: type[ComputeError], detail: str, context: dict[str, Any]) -> ComputeError:
    return cls(detail, **context)


class BadRequest(ComputeError):
    code = "BAD_REQUEST"


class InvalidInput(ComputeError):
    """The payload is wrong. `field` is a dotted path such as `reference_image_url`."""

    code = "INVALID_INPUT"

    def __init__(self, detail: str, *, field: str = "body") -> None:
        super().__init__(detail, field=field)
        self.field = field


class FileAway(InvalidInput):
    """The server of a file did not answer, or is unwell: a later try may get the file."""


class InvalidFields(ComputeError):
    """One or more fields of the payload are wrong. Each of `faults` has `loc` (its location, beginning with `body`),
    `msg` (a sentence) and `type`."""

    code = InvalidInput.code

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = list(faults)
        super().__init__("; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in self.faults))

    def __reduce__(self) -> tuple[Any, ...]:
        return InvalidFields, (self.faults,)


class Unauthorized(ComputeError):
    code = "UNAUTHORIZED"


class ExpiredKey(Unauthorized):
    """Said to whoever has the secret; anybody else is told what is told of an unknown key."""

    code = "KEY_EXPIRED"


class RevokedKey(Unauthorized):
    """Likewise."""

    code = "KEY_REVOKED"


class Forbidden(ComputeError):
    code = "FORBIDDEN"


class LimitReached(ComputeError):
    """A key, or its tenant, has used what it may. `limit` is how much that is; `retry_after` is in seconds."""

    code = "LIMIT_REACHED"

    def __init__(self, detail: str, *, limit: int = 0, retry_after: float = 1.0) -> None:
        super().__init__(detail, limit=limit, retry_after=retry_after)
        self.limit = limit
        self.retry_after = retry_after


class NotFound(ComputeError):
    code = "NOT_FOUND"


class Conflict(ComputeError):
    code = "CONFLICT"


class TooLarge(ComputeError):
    """More bytes than a limit allows. `field` names the part of the payload."""

    code = "TOO_LARGE"

    def __init__(self, detail: str, *, field: str = "body") -> None:
        super().__init__(detail, field=field)
        self.field = field


class Unavailable(ComputeError):
    """A dependency is down. `retry_after` is in seconds, where it is known when a later try may succeed."""

    code = "UNAVAILABLE"

    @property
    def retry_after(self) -> float | None:
        seconds: float | None = self.context.get("retry_after")
        return seconds


class Overloaded(Unavailable):
    """This process does as much as it may already; nothing was accepted, and a later try may succeed."""

    code = "OVERLOADED"


class TaskFailed(ComputeError):
    """A run of a task failed; `category` decides whether it is tried again."""

    def __init__(self, detail: str, *, category: ErrorCategory = ErrorCategory.INTERNAL) -> None:
        super().__init__(detail, category=category)
        self.category = category


class OutOfMemory(TaskFailed):
    """The device ran out of memory; the message keeps the words `CUDA out of memory`."""

    def __init__(self, detail: str, *, category: ErrorCategory = ErrorCategory.OUT_OF_MEMORY) -> None:
        super().__init__(detail, category=category)


class StorageFailed(TaskFailed):
    """The object store refused, or could not be reached."""

    code = "STORAGE_ERROR"

    def __init__(self, detail: str, *, category: ErrorCategory = ErrorCategory.STORAGE_ERROR) -> None:
        super().__init__(detail, category=category)


class StorageAway(StorageFailed):
    """The object store could not be reached, failed, or is full: it may do later what it did not do now."""


class WorkerLost(TaskFailed):
    """The worker of a run is dead, unwell or silent. The task is charged a try only if the run had begun."""


class LeaseLost(TaskFailed):
    """The run has no say about its task any more, which was cancelled, or is another worker's."""


class ProviderFailed(TaskFailed):
    """Another service refused what a task asked of it, or failed at it. What it said, and its id, are in the message.

    Attributes:
        seconds: The least time until the next try, which the service asked for.
        charged: Whether the failure counts as one of the task's tries. The refusal of a crowded service does not.
        hopeless: Whether this provider would refuse again, so that only a fallback provider may help.
    """

    def __init__(
        self,
        detail: str,
        *,
        category: ErrorCategory = ErrorCategory.PROVIDER_ERROR,
        seconds: float = 0.0,
        charged: bool = True,
        hopeless: bool = False,
    ) -> None:
        super().__init__(detail, category=category)
        self.context |= {"seconds": seconds, "charged": charged, "hopeless": hopeless}
        self.seconds = seconds
        self.charged = charged
        self.hopeless = hopeless

    @property
    def blames(self) -> bool:
        """Whether it says that the provider is unwell, rather than crowded or right to refuse: what is hopeless is so
        for a request or an account, whoever is asked."""
        unwell = self.category in (ErrorCategory.PROVIDER_ERROR, ErrorCategory.PROVIDER_TIMEOUT)
        return unwell and self.charged and not self.hopeless


class CallUncertain(ProviderFailed):
    """A paid call was sent and its outcome is not known. It is never sent again unless an operator says so: with
    `charged` false its task waits for news of it, otherwise the task has waited long enough."""


class Interrupted(Exception):
    """Raised inside a pipeline's step callback to stop it between two steps."""

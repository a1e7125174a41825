"""Every error that crosses a boundary of this project.

    ComputeError                an error with a stable `code` and an HTTP `status`
    ├── BadRequest     400      the request itself is malformed: an id, a query parameter, a header
    ├── InvalidInput   422      the payload is wrong; `field` says where
    ├── Unauthorized   401      no key, or an unknown one
    ├── Forbidden      403      a valid key without the right
    ├── NotFound       404      no such task, image or model
    ├── Conflict       409      an action that the present state forbids
    ├── TooLarge       413      more bytes than a limit allows
    ├── Unavailable    503      a dependency is down; nothing was accepted
    │   └── Overloaded          too much is being done already; come back later
    └── TaskFailed              a task's run ended badly; `category` decides what happens next
        ├── OutOfMemory
        ├── StorageFailed
        │   └── StorageAway     and would do it later
        └── WorkerLost          the replica is dead or unwell; a run that had not begun costs its task nothing
    Interrupted                 a run was asked to stop; not an error of the task

All of them survive pickling, because Ray carries them between processes.
"""

from typing import Any, ClassVar

from compute.schemas.enums import ErrorCategory

__all__ = [
    "BadRequest",
    "ComputeError",
    "Conflict",
    "Forbidden",
    "Interrupted",
    "InvalidInput",
    "NotFound",
    "OutOfMemory",
    "Overloaded",
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

    status: ClassVar[int] = 500
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
    status = 400
    code = "BAD_REQUEST"


class InvalidInput(ComputeError):
    """The payload is wrong. `field` is a dotted path such as `reference_image_url`."""

    status = 422
    code = "INVALID_INPUT"

    def __init__(self, detail: str, *, field: str = "body") -> None:
        super().__init__(detail, field=field)
        self.field = field


class Unauthorized(ComputeError):
    status = 401
    code = "UNAUTHORIZED"


class Forbidden(ComputeError):
    status = 403
    code = "FORBIDDEN"


class NotFound(ComputeError):
    status = 404
    code = "NOT_FOUND"


class Conflict(ComputeError):
    status = 409
    code = "CONFLICT"


class TooLarge(ComputeError):
    """More bytes than a limit allows. `field` names the part of the payload."""

    status = 413
    code = "TOO_LARGE"

    def __init__(self, detail: str, *, field: str = "body") -> None:
        super().__init__(detail, field=field)
        self.field = field


class Unavailable(ComputeError):
    status = 503
    code = "UNAVAILABLE"


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

    status = 503
    code = "STORAGE_ERROR"

    def __init__(self, detail: str, *, category: ErrorCategory = ErrorCategory.STORAGE_ERROR) -> None:
        super().__init__(detail, category=category)


class StorageAway(StorageFailed):
    """The object store could not be reached, failed, or is full: it may do later what it did not do now."""


class WorkerLost(TaskFailed):
    """The worker of a run is dead, unwell or silent. The task is charged a try only if the run had begun."""


class Interrupted(Exception):
    """Raised inside a pipeline's step callback to stop it between two steps."""

"""The errors of the client.

    ClientError               everything below
    ├── ConfigurationError    no key, or an address, key or header that cannot be used
    ├── ArgumentError         an id, path or key of a call that cannot be sent
    ├── NoAnswer              no answer came; `failure` says whether the request may have been carried out
    ├── UnexpectedAnswer      an answer, but not one of this API
    ├── IntegrityError        a downloaded file is not what it should be
    ├── WaitTimeout           what was waited for has not ended in time; it goes on
    ├── EndedBadly            a task, workflow or training that FAILED or was CANCELLED
    ├── SecretLostError       an API key was made, but its secret was lost with an answer
    ├── WebhookError          a webhook that was not signed with this secret, or long ago
    └── APIError              the server refused; one class for each `code` that it may have

`str(error)` is a sentence for a person. Programs look at the class, `code`, `status` and `faults`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from compute.client.common.failures import Failure

__all__ = [
    "APIError",
    "ArgumentError",
    "BadRequestError",
    "ClientError",
    "ClosedError",
    "ConfigurationError",
    "ConflictError",
    "EndedBadly",
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
    "SecretLostError",
    "StorageError",
    "TooLargeError",
    "TooSlowError",
    "UnauthorizedError",
    "UnavailableError",
    "UnexpectedAnswer",
    "UnsupportedMediaTypeError",
    "WaitTimeout",
    "WebhookError",
]

_SERVER_ERRORS = 500


class ClientError(Exception):
    """Base of all errors of the client. The message is for a person.

    Attributes:
        status: The HTTP status; None when there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy, which would call the class with the message alone."""
        return _again, (type(self), self.args), self.__dict__

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.status is None or self.status >= _SERVER_ERRORS


class ConfigurationError(ClientError):
    """The client cannot be made: there is no key, or the address, the key or a header cannot be used."""

    may_pass = False


class ClosedError(ClientError):
    """The client has been closed; or it is an asynchronous one, and another event loop made its connections."""

    may_pass = False


class ArgumentError(ClientError, ValueError):
    """An argument of a call cannot be sent: an id, path or header that would change what the request asks for."""

    may_pass = False


class NoAnswer(ClientError):
    """No answer came, however often the request was sent.

    Attributes:
        failure: What the last try failed of. NEVER_DELIVERED: the server has not seen the request. UNKNOWN and
            COLLECTABLE: it may have carried it out.
        tries: How often it was sent, or was tried to be.
        idempotency_key: The key of the request. Whoever sends it again with this key gets the outcome, and does
            nothing twice.
    """

    def __init__(self, message: str, *, failure: Failure, tries: int = 1, idempotency_key: str | None = None) -> None:
        super().__init__(message)
        self.failure = failure
        self.tries = tries
        self.idempotency_key = idempotency_key


class UnexpectedAnswer(ClientError):
    """The server answered, but not as this API does: a proxy, perhaps, or another program on this port."""

    may_pass = False


class IntegrityError(ClientError):
    """A file that was downloaded has another length or another SHA-256 than it should. Nothing was left on the disk."""


class WaitTimeout(ClientError, TimeoutError):
    """What was waited for has not ended in time. It goes on, and can be waited for again.

    Attributes:
        last: What was last seen of it: the workflow or training, or the last `Event` of a task; None if there was no
            answer at all.
    """

    def __init__(self, message: str, last: Any = None) -> None:
        super().__init__(message)
        self.last = last


class EndedBadly(ClientError):
    """A task, workflow or training has ended as FAILED or CANCELLED.

    Attributes:
        ended: The task, workflow or training.
        category: Its `error_category`, such as `OUT_OF_MEMORY`; None where there is none.
    """

    may_pass = False

    def __init__(self, message: str, ended: Any, category: str | None = None) -> None:
        super().__init__(message)
        self.ended = ended
        self.category = category


class SecretLostError(ClientError):
    """An API key was made or rotated, and the answer with its secret was lost: a repetition has none.

    Rotate the key for another secret, or revoke it.

    Attributes:
        row: The key, without its secret.
    """

    may_pass = False

    def __init__(self, message: str, row: Any) -> None:
        super().__init__(message)
        self.row = row


class WebhookError(ClientError):
    """A webhook that must not be believed: its signature fits none of the secrets, or it was signed long ago."""

    may_pass = False


@dataclass(frozen=True, slots=True)
class FieldFault:
    """One fault of a payload.

    Attributes:
        loc: Where it is, from the outside in, in the names that were sent: `("body", "tasks", 3, "prompt")`.
        message: A sentence.
        type: A word for programs.
    """

    loc: tuple[str | int, ...]
    message: str
    type: str

    @property
    def field(self) -> str:
        """The place as a dotted path without `body`: `tasks.3.prompt`."""
        return ".".join(str(part) for part in (self.loc[1:] if self.loc[:1] == ("body",) else self.loc))

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class APIError(ClientError):
    """The server refused. A `code` that this version does not know is an `APIError` of no special class.

    Attributes:
        code: The error for a program, such as `NOT_FOUND`; a status without one gives `HTTP_502`, say.
        detail: The server's sentence.
        faults: What is wrong, field by field, where the payload was refused.
        request_id: The server's id of the request, for its log; None if it gave none.
        retry_after: Seconds after which it may be tried again; None if the server named none.
        tries: How often the request was sent.
        idempotency_key: The key that it was sent with.
    """

    codes: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        message: str,
        status: int,
        *,
        code: str,
        detail: str = "",
        faults: tuple[FieldFault, ...] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, status)
        self.code = code
        self.detail = detail or message
        self.faults = faults
        self.request_id = request_id
        self.retry_after = retry_after
        self.tries = 1
        self.idempotency_key: str | None = None

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.status in (408, 429) or super().may_pass


class BadRequestError(APIError):
    """A malformed id, storage path, query parameter or header."""

    codes = ("BAD_REQUEST",)


class UnauthorizedError(APIError):
    """No key, or one that the server does not know."""

    codes = ("UNAUTHORIZED", "KEY_EXPIRED", "KEY_REVOKED")


class ForbiddenError(APIError):
    """The key may not do this; or a link that was changed or has expired."""

    codes = ("FORBIDDEN",)


class NotFoundError(APIError):
    """There is no such thing."""

    codes = ("NOT_FOUND",)


class MethodNotAllowedError(APIError):
    """The path does not have this method."""

    codes = ("METHOD_NOT_ALLOWED",)


class TooSlowError(APIError):
    """The body came too slowly; nothing was stored."""

    codes = ("TOO_SLOW",)


class ConflictError(APIError):
    """The present state forbids it."""

    codes = ("CONFLICT",)


class PreconditionFailedError(APIError):
    """A stored object is not the one that the request asks for."""

    codes = ("PRECONDITION_FAILED",)


class TooLargeError(APIError):
    """More bytes than a limit allows."""

    codes = ("TOO_LARGE",)


class UnsupportedMediaTypeError(APIError):
    """A body of another type than the route reads."""

    codes = ("UNSUPPORTED_MEDIA_TYPE",)


class RangeError(APIError):
    """The range begins behind the end of the object."""

    codes = ("RANGE_NOT_SATISFIABLE",)


class InvalidInputError(APIError):
    """The payload cannot be accepted; `faults` names each field."""

    codes = ("INVALID_INPUT",)


class RateLimitedError(APIError):
    """Too many requests, or a limit of the key or its tenant is reached."""

    codes = ("LIMIT_REACHED", "RATE_LIMITED", "TOO_MANY_REQUESTS", "HTTP_429")


class InternalError(APIError):
    """A fault of the server."""

    codes = ("INTERNAL",)


class UnavailableError(APIError):
    """A dependency of the server is away; or the server itself, and a proxy before it answers 404 (`NO_ROUTE`)."""

    codes: ClassVar[tuple[str, ...]] = ("UNAVAILABLE", "NO_ROUTE")
    may_pass = True


class OverloadedError(UnavailableError):
    """The server does as much as it can already; nothing was accepted."""

    codes = ("OVERLOADED",)


class StorageError(UnavailableError):
    """The object store is away."""

    codes = ("STORAGE_ERROR",)


def _again(kind: type[ClientError], words: tuple[Any, ...]) -> ClientError:
    """An error of another process, before its attributes are set."""
    error = kind.__new__(kind)
    error.args = words
    return error


def _classes(base: type[APIError]) -> dict[str, type[APIError]]:
    found = dict.fromkeys(base.codes, base)
    for kind in base.__subclasses__():
        found |= _classes(kind)
    return found


CLASSES: Mapping[str, type[APIError]] = _classes(APIError)
"""The class of each `code`."""
OF_STATUS: Mapping[int, type[APIError]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    405: MethodNotAllowedError,
    408: TooSlowError,
    409: ConflictError,
    412: PreconditionFailedError,
    413: TooLargeError,
    415: UnsupportedMediaTypeError,
    416: RangeError,
    422: InvalidInputError,
    429: RateLimitedError,
    500: InternalError,
    503: UnavailableError,
}
"""The class of an answer whose `code` is unknown, or that has none, such as one to HEAD."""

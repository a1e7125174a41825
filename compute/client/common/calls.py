"""One request as it is sent, as often as needed, and what its answers say."""

import json
import mimetypes
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx

from compute.client.common.config import is_sendable
from compute.client.common.disk import Content, SentFile
from compute.client.common.failures import NO_ROUTE, Failure, seconds_asked_for
from compute.client.common.text import json_value
from compute.client.errors import (
    CLASSES,
    OF_STATUS,
    APIError,
    ArgumentError,
    ClientError,
    FieldFault,
    NoAnswer,
    UnavailableError,
    UnexpectedAnswer,
)

__all__ = [
    "Call",
    "behind",
    "body_of",
    "error_of",
    "fields_of",
    "form_of",
    "id_of",
    "json_of",
    "no_answer",
    "post",
    "query",
    "reading",
    "segment",
    "with_json",
]

KEY_HEADER = "Idempotency-Key"
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "PATCH", "DELETE"})
_JSON = ("Content-Type", "application/json")
_NO_PARTS = frozenset({"", ".", ".."})

Form = Callable[[], AbstractContextManager[dict[str, Any]]]
"""Opens what a form sends, for one try: the arguments `files` and `data` of httpx."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request.

    Attributes:
        key: Its Idempotency-Key, the same for all tries; empty for none.
        timeout: Seconds for all tries together; None for what the client was made with.
        done_by: Statuses that mean success once an earlier try may have been carried out: 404 of a DELETE.
    """

    method: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    content: bytes | None = None
    form: Form | None = None
    headers: tuple[tuple[str, str], ...] = ()
    key: str = ""
    timeout: float | None = None
    done_by: frozenset[int] = field(default_factory=frozenset)

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice does no more than sending it once."""
        return bool(self.key) or self.method in _REPEATABLE

    @contextmanager
    def arguments(self) -> Iterator[dict[str, Any]]:
        """Arguments of an httpx client's `build_request`, for one try.

        Raises:
            ArgumentError: a header cannot be sent.
        """
        headers = dict(self.headers) | ({KEY_HEADER: self.key} if self.key else {})
        for name, value in headers.items():
            if not is_sendable(value):
                raise ArgumentError(f"the header {name} must be printable ASCII")
        content = {} if self.content is None else {"content": self.content}
        params = {"params": list(self.params)} if self.params else {}
        with nullcontext({}) if self.form is None else self.form() as form:
            yield {"method": self.method, "url": self.path, "headers": headers, **params, **content, **form}


def reading(path: str, params: Mapping[str, Any] | None = None, timeout: float | None = None) -> Call:
    """A GET."""
    return Call("GET", path, query(params or {}), timeout=timeout)


def post(
    path: str,
    body: Any = None,
    *,
    params: Mapping[str, Any] | None = None,
    form: Form | None = None,
    key: str | None = None,
    timeout: float | None = None,
) -> Call:
    """A POST under a key of its own, unless one is given; an empty one sends none."""
    chosen = uuid4().hex if key is None else key
    call = Call("POST", path, query(params or {}), form=form, key=chosen, timeout=timeout)
    return call if body is None else with_json(call, body)


def with_json(call: Call, body: Any) -> Call:
    """The same call with a body in JSON."""
    return Call(
        call.method,
        call.path,
        call.params,
        json.dumps(body, default=_plain, ensure_ascii=False, allow_nan=False).encode(),
        headers=(*call.headers, _JSON),
        key=call.key,
        timeout=call.timeout,
        done_by=call.done_by,
    )


def body_of(body: Any) -> dict[str, Any]:
    """The fields of a request, given as a mapping or as a model of the schemas; of a model those that were set."""
    if isinstance(body, Mapping):
        return dict(body)
    dump: Any = getattr(body, "model_dump", None)
    if dump is None:
        raise TypeError(f"a request is a mapping or a model, not {type(body).__name__}")
    found: dict[str, Any] = dump(mode="json", by_alias=True, exclude_unset=True)
    return found


def fields_of(**fields: Any) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def form_of(file: Path | bytes, fields: Mapping[str, str] | None = None, *, content: Content | None = None) -> Form:
    """A form with one file, given as its path or its bytes.

    Args:
        content: What is in the file. Nothing else is sent, even if it changes meanwhile.
    """
    # A name need not be text: what is none is replaced.
    name = "image" if isinstance(file, bytes) else file.name.encode(errors="replace").decode()
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"

    @contextmanager
    def opened() -> Iterator[dict[str, Any]]:
        with BytesIO(file) if isinstance(file, bytes) else file.open("rb") as source:
            sent = source if isinstance(source, BytesIO) else SentFile(source, content)
            yield {"files": {"file": (name, sent, kind)}, "data": dict(fields or {})}

    return opened


def query(params: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The parameters of an address as the API reads them; those that are None are left out."""
    return tuple((name, _text(value)) for name, value in params.items() if value is not None)


def segment(text: object) -> str:
    """One part of a path, encoded.

    Raises:
        ArgumentError: it would lead to another route.
    """
    part = str(text)
    if part in _NO_PARTS or "/" in part:
        raise ArgumentError("an id, or a part of a path, must not be empty, `.` or `..`, and must not contain `/`")
    return quote(part, safe="")


def id_of(thing: Any, prefix: str = "") -> str:
    """The id of a task, workflow or training, which is given as itself or by its id; the quick start's spelling, which
    begins with `prefix`, becomes the canonical one. It is a part of a path, encoded.

    Raises:
        ArgumentError: it would lead to another route.

    Example:
        id_of("wf_96bf111373aa468e95200f9788c67a91", "wf_")  # "96bf1113-73aa-468e-9520-0f9788c67a91"
    """
    found = thing["id"] if isinstance(thing, Mapping) else getattr(thing, "id", thing)
    text = str(found)
    try:
        return str(UUID(text.removeprefix(prefix)))
    except ValueError:
        # For the server to refuse, in its words.
        return segment(text)


def behind(call: Call, body: Any, headers: Mapping[str, str]) -> tuple[str, str] | None:
    """The parameter that asks for the page behind the one that a call got: a cursor, or where a list that is sorted
    otherwise has none, its number. None on the last page."""
    if cursor := headers.get("x-next-cursor"):
        return "cursor", cursor
    if "cursor" in dict(call.params) or not isinstance(body, dict):
        return None
    page, pages = body.get("page"), body.get("pages")
    if isinstance(page, int) and isinstance(pages, int) and page < pages:
        return "page", str(page + 1)
    return None


def json_of(answer: httpx.Response) -> Any:
    """The JSON value of an answer.

    Raises:
        UnexpectedAnswer: it has none.
    """
    try:
        return json_value(answer.content)
    except ValueError as error:
        raise UnexpectedAnswer(
            f"{answer.request.url.host} does not answer as this API does", answer.status_code
        ) from error


def error_of(answer: httpx.Response, call: Call) -> APIError:
    """The refusal in an answer that is no success, whose body has been read."""
    try:
        body = json_value(answer.content)
    except ValueError:
        body = None
    body = body if isinstance(body, dict) else {}
    status, detail = answer.status_code, body.get("detail")
    if status == httpx.codes.NOT_FOUND and not body and answer.headers.get("content-type", "").startswith("text/plain"):
        return _of_proxy(answer, call)
    kind = OF_STATUS.get(status, APIError)
    code = str(body.get("code") or next(iter(kind.codes), f"HTTP_{status}"))
    faults = tuple(map(_fault, detail)) if isinstance(detail, list) else ()
    error = CLASSES.get(code, kind)(
        detail if isinstance(detail, str) else _sentence(answer, faults),
        status,
        code=code,
        faults=faults,
        request_id=answer.headers.get("x-request-id"),
        retry_after=seconds_asked_for(answer.headers.get("retry-after")),
    )
    error.idempotency_key = call.key or None
    return error


def _of_proxy(answer: httpx.Response, call: Call) -> APIError:
    """The refusal of a proxy that knows no server behind it, such as that of Ray Serve while one stops or starts. It
    is no word of the API about what was asked for."""
    host = answer.request.url.host
    error = UnavailableError(f"{host} answers, but the API is not there now (404)", answer.status_code, code=NO_ROUTE)
    error.retry_after = seconds_asked_for(answer.headers.get("retry-after"))
    error.idempotency_key = call.key or None
    return error


def _sentence(answer: httpx.Response, faults: tuple[FieldFault, ...]) -> str:
    """What an answer says that has no sentence of its own."""
    if faults:
        lines = list(map(str, faults))
        return lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} things are wrong:", *lines])
    if answer.has_redirect_location:
        return f"{answer.request.url.host} redirects to {answer.headers['location']}: is the address right?"
    return f"the server answers {answer.status_code} {answer.reason_phrase}".rstrip()


def no_answer(error: Exception, failure: Failure, call: Call, server: str) -> ClientError:
    """The error of a call that got no answer."""
    said = f": {error}" if str(error) else ""
    if isinstance(error, httpx.PoolTimeout):
        message = f"all connections of this client are in use; {server} was not asked"
    elif isinstance(error, httpx.LocalProtocolError):
        # Its text may repeat a header.
        message = f"the request to {server} cannot be sent"
    elif isinstance(error, httpx.DecodingError):
        message = f"the answer of {server} is damaged{said}"
    elif failure is Failure.NEVER_DELIVERED or failure is Failure.OTHER:
        message = f"{server} cannot be reached{said}"
    elif isinstance(error, httpx.TimeoutException):
        message = f"{server} does not answer in time"
    else:
        message = f"the connection to {server} broke off{said}"
    return NoAnswer(message, failure=failure, idempotency_key=call.key or None)


def _fault(item: Any) -> FieldFault:
    if not isinstance(item, dict):
        return FieldFault((), str(item), "")
    loc = item.get("loc")
    return FieldFault(tuple(loc) if isinstance(loc, list) else (), str(item.get("msg", "")), str(item.get("type", "")))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(_text(one) for one in value)
    plain = _plain(value) if isinstance(value, Enum | date | UUID | Path) else value
    return str(plain)


def _plain(value: Any) -> Any:
    """What JSON has no word for."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, UUID | Path):
        return str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if hasattr(value, "model_dump"):
        return body_of(value)
    raise TypeError(f"{type(value).__name__} is nothing that JSON can hold")

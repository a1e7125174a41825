"""Every error becomes an answer here, once: in the caller's spelling and dialect, bounded, and without internals."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from compute.api.access.headers import limit_headers, seconds_up
from compute.api.bounded import bounded_faults
from compute.api.dialect import as_spelled
from compute.api.http.problem import problem
from compute.api.http.request_ids import REQUEST_ID_HEADER, request_id_in
from compute.api.idempotency.keys import KEY_HEADER
from compute.db.away import DatabaseAway
from compute.errors import (
    BadRequest,
    ComputeError,
    Conflict,
    Forbidden,
    InvalidFields,
    InvalidInput,
    LimitReached,
    NotFound,
    Overloaded,
    StorageFailed,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from compute.requests.faults import loc_of
from compute.schemas.errors import HTTPValidationError, Problem
from compute.schemas.rules.sentences import presented

__all__ = ["PROBLEMS", "answer_to", "install"]

_log = logging.getLogger(__name__)
ValueT = TypeVar("ValueT")

PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The request itself is malformed: an id, a query parameter, a header."},
    401: {"model": Problem, "description": "No API key, or an unknown one."},
    404: {"model": Problem, "description": "There is no such thing."},
    422: {"model": HTTPValidationError, "description": "The payload cannot be accepted; nothing was stored."},
    503: {"model": Problem, "description": "A dependency is away; nothing was accepted."},
}

_STATUSES: Mapping[type[Exception], int] = {
    BadRequest: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    TooLarge: 413,
    InvalidInput: 422,
    InvalidFields: 422,
    LimitReached: 429,
    Unavailable: 503,
    StorageFailed: 503,
}
_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "TOO_SLOW",
    409: "CONFLICT",
    412: "PRECONDITION_FAILED",
    413: "TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    416: "RANGE_NOT_SATISFIABLE",
    503: Overloaded.code,
}
_HEADERS: Mapping[type[Exception], Mapping[str, str]] = {
    Unauthorized: {"WWW-Authenticate": "Bearer"},
    Unavailable: {"Retry-After": "2"},
    Overloaded: {"Retry-After": "5"},
}


def install(app: FastAPI) -> None:
    """Register the handlers on `app`."""
    app.add_exception_handler(ComputeError, _compute_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _internal_error)


def answer_to(error: ComputeError, names: Iterable[object] = ()) -> JSONResponse:
    """The answer to an error. `names` are those of the path, whose spelling the client gets."""
    if isinstance(error, InvalidFields):
        return _invalid(error.faults)
    if isinstance(error, InvalidInput):
        loc = ("header", error.field) if error.field == KEY_HEADER else loc_of(error.field)
        return _invalid([{"loc": loc, "msg": error.detail, "type": "invalid_input"}])
    status = _of_class(_STATUSES, error)
    headers = _of_class(_HEADERS, error)
    if isinstance(error, Unavailable) and error.retry_after is not None:
        headers = {"Retry-After": seconds_up(error.retry_after)}
    if isinstance(error, LimitReached):
        headers = limit_headers(error.limit, 0, error.retry_after) | {"Retry-After": seconds_up(error.retry_after)}
    return problem(status or 500, error.code, as_spelled(error.detail, names), headers)


def _of_class(table: Mapping[type[Exception], ValueT], error: ComputeError) -> ValueT | None:
    """The entry of the error's own class, else that of its nearest base class which has one."""
    return next((table[kind] for kind in type(error).__mro__ if kind in table), None)


async def _compute_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ComputeError)  # noqa: S101 - registered for this class alone
    if isinstance(error, DatabaseAway):
        _log.error("the database did not do it: %s", error)
    return answer_to(error, request.path_params.values())


async def _validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class alone
    # What FastAPI itself has validated still has its input with it.
    found = [fault for item in error.errors() for fault in (presented([item]) if "input" in item else [item])]
    if all(fault["loc"][:1] == ("body",) for fault in found):
        return _invalid(found)
    return problem(400, "BAD_REQUEST", " ".join(fault["msg"] for fault in bounded_faults(found)))


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class alone
    code = _CODES.get(error.status_code, f"HTTP_{error.status_code}")
    return problem(error.status_code, code, str(error.detail), error.headers)


async def _internal_error(request: Request, error: Exception) -> JSONResponse:
    _log.error(
        "%s %s failed, request %s", request.method, request.url.path, request_id_in(request.scope), exc_info=error
    )
    # The one answer that is made outside all middleware.
    named = getattr(request.app.state, "names_requests", True)
    headers = {REQUEST_ID_HEADER: request_id_in(request.scope)} if named else {}
    return problem(500, "INTERNAL", "Something failed on our side; the log of the ingress says what.", headers)


def _invalid(items: Iterable[Mapping[str, Any]]) -> JSONResponse:
    return JSONResponse({"detail": bounded_faults(items), "code": InvalidInput.code}, _STATUSES[InvalidInput])

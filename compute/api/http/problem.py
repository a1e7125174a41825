"""Refusals in the shape that every route has, also those of middleware, which stands outside the exception handlers."""

from collections.abc import Mapping

from fastapi.responses import JSONResponse

from compute.api.bounded import as_sentence, bounded_text

__all__ = ["problem"]


def problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error answer: one bounded sentence and its code."""
    return JSONResponse({"detail": bounded_text(as_sentence(detail)), "code": code}, status, headers)

"""Refusals of middleware, which stands outside the application's exception handlers."""

from collections.abc import Mapping

from fastapi.responses import JSONResponse

__all__ = ["problem"]


def problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error answer in the shape that every route has."""
    return JSONResponse({"detail": detail, "code": code}, status, headers)

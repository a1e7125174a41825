"""Refusals, in the two forms of the API."""

from typing import Any

__all__ = ["Problem", "faults", "problem"]


class Problem(Exception):
    """A request is refused."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body


def problem(status: int, code: str, detail: str) -> Problem:
    """A refusal with one sentence."""
    return Problem(status, {"detail": detail, "code": code})


def faults(found: dict[str, str], *loc: str | int) -> Problem:
    """A payload that cannot be accepted: a sentence for each field."""
    items = [{"loc": ["body", *loc, field], "msg": msg, "type": "invalid_input"} for field, msg in found.items()]
    return Problem(422, {"detail": items, "code": "INVALID_INPUT"})

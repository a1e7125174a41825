"""Extracts the line that names the error from a traceback."""

import re

__all__ = ["cause"]

LIMIT = 400
EXCEPTION_LINE = re.compile(
    r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Input|Failed|Exit|Interrupt|Unavailable)\b"
)
POINTER = re.compile(r"^\s*For further information visit")
PYDANTIC_TAIL = re.compile(r"\s*\[type=\w+, input_value=.*")


def cause(message: str) -> str:
    """Reduce Serve's report on a failed deployment to the last exception in it, on one line."""
    lines = [line.rstrip() for line in message.strip().splitlines()]
    starts = [index for index, line in enumerate(lines) if EXCEPTION_LINE.match(line)]
    told = lines[starts[-1] :] if starts else lines
    kept = [PYDANTIC_TAIL.sub("", line).strip() for line in told if line.strip() and not POINTER.match(line)]
    line = " ".join(kept)
    return line if len(line) <= LIMIT else f"{line[:LIMIT]}…"

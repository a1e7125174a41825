"""The `traceparent` header of W3C Trace Context: which trace a request belongs to, and which span asked for it."""

import re
from typing import NamedTuple, Self

__all__ = ["Traceparent"]

_FORM = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
_SAMPLED = 1


class Traceparent(NamedTuple):
    """`trace_id` and `span_id` in lower-case hex; `sampled`: whether its sender records the trace."""

    trace_id: str
    span_id: str
    sampled: bool

    @classmethod
    def parse(cls, header: str | None) -> Self | None:
        """Read the header; None if there is none, or it is not valid, which W3C says to ignore.

        Example:
            Traceparent.parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").sampled  # True
        """
        found = _FORM.fullmatch(header.strip()) if header and len(header) < 512 else None
        if found is None or not found["trace"].strip("0") or not found["span"].strip("0"):
            return None
        if header is not None and header.strip().startswith("00") and found["more"]:
            # Version 00 has nothing behind the flags.
            return None
        return cls(found["trace"], found["span"], bool(int(found["flags"], 16) & _SAMPLED))

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"

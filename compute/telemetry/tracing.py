"""Traces: spans of one piece of work in several processes, sent to an OTLP receiver if one is set.

Without a receiver nothing of OpenTelemetry is imported, and a span is an object that does nothing. Even so the caller's
`traceparent` is passed on, and its trace id stands in the log lines.

Example:
    with span("decode", images=4) as decoding:
        ...
        decoding.event("out of memory", retried=True)
"""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Literal, Protocol

from compute.settings import Settings
from compute.telemetry.ids import bound
from compute.telemetry.traceparent import Traceparent

__all__ = [
    "STOP_SECONDS",
    "UNTRACED",
    "Attributes",
    "Kind",
    "Span",
    "SpanBlock",
    "Tracer",
    "begin",
    "current_traceparent",
    "inside",
    "is_traced",
    "record",
    "span",
    "start_tracing",
    "stop_tracing",
]

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool | None]
STOP_SECONDS = 2.0


class Span(Protocol):
    """One piece of work. Its methods never raise and never wait."""

    @property
    def traceparent(self) -> str | None:
        """The header with which other processes continue this span; None without a trace."""
        ...

    def set(self, **attributes: str | int | float | bool | None) -> None:
        """Add attributes; None leaves one out. `__` in a name stands for a dot."""
        ...

    def event(self, name: str, **attributes: str | int | float | bool | None) -> None:
        """Note that something happened now."""
        ...

    def fail(self, error: BaseException | str) -> None:
        """Note that the work failed. Of an error its class and, if it is one of ours, its detail are told."""
        ...

    def end(self, at_ns: int | None = None) -> None:
        """End it now, or at this time since the epoch; whatever comes later is ignored."""
        ...


class Tracer(Protocol):
    """Makes spans and sends them in the background."""

    def begin(
        self, name: str, parent: Traceparent | None, kind: Kind, attributes: Attributes, began_ns: int | None = None
    ) -> Span: ...

    def stop(self) -> None:
        """Send what is left. May take long."""
        ...


class _PassedOn:
    """A span that is not recorded."""

    def __init__(self, traceparent: str | None) -> None:
        self.traceparent = traceparent

    def set(self, **attributes: str | int | float | bool | None) -> None:
        return

    def event(self, name: str, **attributes: str | int | float | bool | None) -> None:
        return

    def fail(self, error: BaseException | str) -> None:
        return

    def end(self, at_ns: int | None = None) -> None:
        return


class _Process:
    """The tracer of this process, if it traces."""

    tracer: Tracer | None = None


UNTRACED: Span = _PassedOn(None)
"""The span of what belongs to no trace."""
SpanBlock = AbstractContextManager[Span]
_current: ContextVar[Span] = ContextVar("current_span", default=UNTRACED)


def start_tracing(settings: Settings, *, process: str) -> None:
    """Trace from now on, if the settings name a receiver. `process` is the name of this one."""
    if settings.otel_endpoint is None or _Process.tracer is not None:
        return
    # Here, because without a receiver it is not needed, and takes 120 ms and 20 MB.
    from compute.telemetry.otlp import OtlpTracer

    headers = settings.otel_headers.get_secret_value() if settings.otel_headers else None
    _Process.tracer = OtlpTracer(settings.otel_endpoint, headers, process)


def stop_tracing(*, seconds: float = STOP_SECONDS) -> None:
    """Send what is left, for so long at most, and trace no more."""
    tracer, _Process.tracer = _Process.tracer, None
    if tracer is not None:
        stopping = threading.Thread(target=tracer.stop, name="sending the last spans", daemon=True)
        stopping.start()
        stopping.join(seconds)


def is_traced() -> bool:
    """Whether this process records spans."""
    return _Process.tracer is not None


def current_traceparent() -> str | None:
    """The header that continues the present span."""
    return _current.get().traceparent


def begin(
    name: str, *, parent: str | None = None, kind: Kind = "internal", **attributes: str | int | float | bool | None
) -> Span:
    """Begin a span that the caller ends. `parent` is the traceparent of another process; by default the present span
    is the parent."""
    over = parent or current_traceparent()
    if (tracer := _Process.tracer) is None:
        return _PassedOn(over) if over else UNTRACED
    return tracer.begin(name, Traceparent.parse(over), kind, attributes)


@contextmanager
def inside(one: Span) -> Iterator[Span]:
    """Make a span the present one within the block, and in asyncio tasks created there; the caller ends it."""
    token = _current.set(one)
    try:
        parsed = Traceparent.parse(one.traceparent)
        if parsed is None:
            yield one
        else:
            with bound(trace_id=parsed.trace_id):
                yield one
    finally:
        _current.reset(token)


@contextmanager
def span(
    name: str, *, parent: str | None = None, kind: Kind = "internal", **attributes: str | int | float | bool | None
) -> Iterator[Span]:
    """The same for the time of the block. What the block raises makes it a failure; being cancelled does not."""
    one = begin(name, parent=parent, kind=kind, **attributes)
    try:
        with inside(one):
            yield one
    except (asyncio.CancelledError, GeneratorExit):
        one.event("cancelled")
        raise
    except BaseException as error:
        one.fail(error)
        raise
    finally:
        one.end()


def record(name: str, seconds: float, **attributes: str | int | float | bool | None) -> None:
    """Record a span that took so long and has just ended, below the present one."""
    if (tracer := _Process.tracer) is not None:
        parent = Traceparent.parse(current_traceparent())
        now = time.time_ns()
        tracer.begin(name, parent, "internal", attributes, now - round(seconds * 1e9)).end(now)

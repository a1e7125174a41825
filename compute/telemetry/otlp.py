"""Spans by OpenTelemetry's SDK, sent over OTLP (HTTP, protobuf). Imported only where a receiver is set.

A span is put into a bounded queue, which a thread empties once a second. Where the receiver is slow or away, the queue
fills up and the oldest spans are dropped: nothing ever waits for it.
"""

import os
from collections.abc import Mapping
from time import time_ns

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace import Span as SdkSpan
from opentelemetry.util.re import parse_env_headers

from compute import __version__
from compute.telemetry.traceparent import Traceparent
from compute.telemetry.tracing import Attributes, Kind, Span

__all__ = ["OtlpTracer"]

_QUEUE = 4096
_BATCH = 512
_DELAY_MS = 1000
_SEND_SECONDS = 10.0
_LONGEST_DETAIL = 500
_KINDS = {kind.name.lower(): kind for kind in SpanKind}


class OtlpTracer:
    """Implements `compute.telemetry.tracing.Tracer`. Reads OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
    OTEL_TRACES_SAMPLER and OTEL_SDK_DISABLED as every SDK does."""

    def __init__(self, endpoint: str, headers: str | None, process: str) -> None:
        """`endpoint` is the base of the receiver's addresses; `headers` are of the form `name=value,…`."""
        exporter = OTLPSpanExporter(
            f"{endpoint.rstrip('/')}/v1/traces",
            headers=parse_env_headers(headers, liberal=True) if headers else None,
            timeout=_SEND_SECONDS,
        )
        # Stopped by `stop`, which has a limit: the SDK's own hook at exit would wait for a receiver that is away.
        self._provider = TracerProvider(resource=_resource(process), shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter, max_queue_size=_QUEUE, max_export_batch_size=_BATCH, schedule_delay_millis=_DELAY_MS
            )
        )
        self._tracer = self._provider.get_tracer("compute", __version__)

    def begin(
        self, name: str, parent: Traceparent | None, kind: Kind, attributes: Attributes, began_ns: int | None = None
    ) -> Span:
        context = None
        if parent is not None:
            flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
            over = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
            context = set_span_in_context(NonRecordingSpan(over))
        return _Recorded(
            self._tracer.start_span(name, context, _KINDS[kind], _plain(attributes), start_time=began_ns or time_ns())
        )

    def stop(self) -> None:
        self._provider.shutdown()


class _Recorded:
    """Implements `compute.telemetry.tracing.Span`."""

    def __init__(self, made: SdkSpan) -> None:
        self._made = made
        context = made.get_span_context()
        self.traceparent: str | None = str(
            Traceparent(format_trace_id(context.trace_id), format_span_id(context.span_id), context.trace_flags.sampled)
        )

    def set(self, **attributes: str | int | float | bool | None) -> None:
        self._made.set_attributes(_plain(attributes))

    def event(self, name: str, **attributes: str | int | float | bool | None) -> None:
        self._made.add_event(name, _plain(attributes))

    def fail(self, error: BaseException | str) -> None:
        # Messages of libraries may repeat what they were given; ours do not.
        told = error if isinstance(error, str) else str(getattr(error, "detail", ""))
        kind = "" if isinstance(error, str) else type(error).__name__
        self._made.set_status(Status(StatusCode.ERROR, ": ".join(filter(None, (kind, told)))[:_LONGEST_DETAIL]))
        if kind:
            self._made.set_attribute("error.type", kind)

    def end(self, at_ns: int | None = None) -> None:
        self._made.end(at_ns)


def _plain(attributes: Attributes) -> dict[str, str | int | float | bool]:
    return {name.replace("__", "."): value for name, value in attributes.items() if value is not None}


def _resource(process: str) -> Resource:
    """What all spans of this process share; the operator's OTEL_SERVICE_NAME goes before our own name."""
    ours: Mapping[str, str] = {SERVICE_VERSION: __version__, SERVICE_INSTANCE_ID: process}
    found = Resource.create(dict(ours))
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return found if named else found.merge(Resource({SERVICE_NAME: "compute"}))

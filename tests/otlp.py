"""An OTLP receiver on loopback: takes traces over HTTP as protobuf, and keeps their spans."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.patience import PATIENCE
from tests.servers import Quiet, answering


@dataclass(frozen=True)
class Seen:
    """A span as it arrived; ids in hex."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    process: str
    attributes: dict[str, Any]
    events: tuple[str, ...]
    failed: bool
    nanoseconds: int


@dataclass
class Traces:
    """What has arrived, at `url`."""

    url: str = ""
    spans: list[Seen] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def of(self, trace_id: str) -> list[Seen]:
        return [span for span in self.spans if span.trace_id == trace_id]

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until enough has arrived."""
        give_up = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < give_up, sorted(span.name for span in self.spans)
            time.sleep(0.05)

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            process = _values(resource.resource.attributes).get("service.instance.id", "")
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        Seen(
                            span.name,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            process,
                            _values(span.attributes),
                            tuple(event.name for event in span.events),
                            span.status.code == 2,
                            span.end_time_unix_nano - span.start_time_unix_nano,
                        )
                    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def receiving_traces() -> Iterator[Traces]:
    """Run a receiver within the block."""
    traces = Traces()

    class Receiver(Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            traces.headers.append({name.lower(): value for name, value in self.headers.items()})
            traces.take(body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with answering(Receiver) as traces.url:
        yield traces
